"""The judge's process beside the daemon's, and the daemon's many lives."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.e2e.process import PROJECT, DaemonProcess, starting
from tests.kills.asking import BROKEN, Caller, Gone

ENVIRON = {"UP_KEY": "key-of-the-upstream"}
DUCKD = (sys.executable, "-m", "duckservice")
CONFIG = """
[log]
format = "json"
level = "warning"
[retry]
base_delay = "20ms"
max_delay = "200ms"
"""
PROVIDER = """
[providers.{name}]
adapter = "openai"
base_url = "{url}/v1"
api_key = "env:UP_KEY"
models = ["{name}-*"]
max_concurrency = 32
price = {{ input = 2.5, output = 10.0 }}
breaker = {{ failure_threshold = 20, reset_timeout = "200ms", success_threshold = 1 }}
"""


@attrs.define
class Judge:
    """The judge's process."""

    process: trio.Process
    upstream: str = ""
    _pending: bytes = b""

    @property
    def config(self) -> str:
        """The daemon's: two providers at the judge's upstream, one of them stormy."""
        names = ("calm", "storm")
        return CONFIG + "".join(
            PROVIDER.format(name=name, url=self.upstream) for name in names
        )

    async def tell(self, command: str) -> None:
        """Tell it something."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(command.encode() + b"\n")

    async def ask(self, command: str, limit: float = 300.0) -> dict[str, Any]:
        """Tell it something, and return its answer."""
        await self.tell(command)
        return await self.hear(limit)

    async def hear(self, limit: float = 300.0) -> dict[str, Any]:
        """Return the next line that it says."""
        assert self.process.stdout is not None
        with trio.fail_after(limit):
            while b"\n" not in self._pending:
                data = await self.process.stdout.receive_some()
                assert data, "the judge has died"
                self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def judging(
    folder: Path, seed: int, *, clients: int = 8, pause: float = 0.02
) -> AsyncGenerator[Judge]:
    """Run a judge for the daemon in *folder*; its clients wait for ``go``."""
    socket, record = folder / "run" / "duckd.sock", folder / "record.jsonl"
    command = [sys.executable, "-m", "tests.kills.judge", str(socket), str(record)]
    process = await trio.lowlevel.open_process(
        [*command, str(seed), str(clients), str(pause)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        judge = Judge(process)
        judge.upstream = (await judge.hear())["upstream"]
        yield judge
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@attrs.define
class Lives:
    """The daemon's lives, one after another on the same files."""

    folder: Path
    judge: Judge
    program: tuple[str, ...] = DUCKD
    restarts: list[float] = attrs.field(factory=list)
    """Seconds from the start of each process that got ready, until it was."""
    complaints: list[str] = attrs.field(factory=list)
    """What the daemon has logged as an error."""

    @asynccontextmanager
    async def life(self) -> AsyncGenerator[DaemonProcess]:
        """Run the daemon for the length of a block; it may be killed within."""
        async with starting(
            self.folder,
            self.judge.config,
            environ=ENVIRON,
            program=self.program,
            wait=False,
        ) as daemon:
            try:
                yield daemon
            finally:
                self._complain(daemon)

    async def ready(self, daemon: DaemonProcess, since: float) -> None:
        """Wait until it serves."""
        caller = Caller(daemon.socket)
        with trio.fail_after(30):
            while not await _serves(caller):
                assert daemon.process.returncode is None, daemon.stderr.decode()
                await trio.sleep(0.005)
        self.restarts.append(time.monotonic() - since)
        caller.close()

    async def killed(self, after_start: float | None, after_ready: float) -> None:
        """Have one life, and kill it: so long after its start, or after it serves."""
        async with self.life() as daemon:
            since = time.monotonic()
            if after_start is not None:
                await trio.sleep(after_start)
            else:
                await self.ready(daemon, since)
                await trio.sleep(after_ready)
            assert daemon.process.returncode is None, daemon.stderr.decode()
            before = time.time()
            daemon.process.kill()
            with trio.CancelScope(shield=True):
                await daemon.process.wait()
            await self.judge.tell(f"fault {before} {time.time()}")

    def _complain(self, daemon: DaemonProcess) -> None:
        for line in daemon.stderr.decode(errors="replace").splitlines():
            if '"level":"error"' in line or not line.startswith("{"):
                self.complaints.append(line)


async def _serves(caller: Caller) -> bool:
    try:
        return (await caller.ask("GET", "/readyz")).status == 200
    except (Gone, *BROKEN):
        return False
