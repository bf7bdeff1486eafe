"""The real ``duckd``, as a process of its own, with its log read as it is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import psutil
import trio

from tests.gateway.serving import RawClient

PROJECT = Path(__file__).parents[2]


@attrs.define
class DaemonProcess:
    """A ``duckd`` that runs, or has ended."""

    socket: Path
    process: trio.Process
    stderr: bytearray = attrs.field(factory=bytearray)
    _more: trio.Event = attrs.field(factory=trio.Event)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's events of that name, as far as they have come."""
        lines = self.stderr.decode().split("\n")[:-1]
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in events if event["event"] == name]

    async def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait for an event of the log, and return it; it must come."""
        with trio.fail_after(20):
            while len(self.events(name)) < count:
                assert self.process.returncode is None, self.stderr.decode()
                await self._more.wait()
        return self.events(name)[count - 1]

    async def ended(self) -> int:
        """Wait for the end, and return the exit code."""
        with trio.fail_after(20):
            code = await self.process.wait()
            while not self._more.is_set() or self._open:
                await self._more.wait()
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self.process.send_signal(number)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[RawClient]:
        """Connect, to send any bytes."""
        async with await trio.open_unix_socket(self.socket) as stream:
            yield RawClient(stream)

    def rss_mib(self) -> float:
        """Return the memory that it holds now."""
        return psutil.Process(self.process.pid).memory_info().rss / 1024 / 1024

    _open: bool = True

    async def read(self) -> None:
        """Read its log until it ends."""
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            self.stderr += data
            self._note()
        self._open = False
        self._note()

    def _note(self) -> None:
        more, self._more = self._more, trio.Event()
        more.set()
        if not self._open:
            self._more.set()


@asynccontextmanager
async def starting(
    folder: Path,
    config: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    program: tuple[str, ...] = (sys.executable, "-m", "duckservice"),
    wait: bool = True,
    pass_fds: tuple[int, ...] = (),
) -> AsyncGenerator[DaemonProcess]:
    """Start a daemon on ``duckd.sock`` in *folder*, and wait until it is ready.

    It is killed when the block ends, if it still runs. It inherits *pass_fds*.
    """
    socket = folder / "run" / "duckd.sock"
    command = [*program, "--socket", str(socket)]
    if config is not None:
        path = folder / "config.toml"
        path.write_text(config)
        command += ["--config", str(path)]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        **(environ or {}),
    }
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        process = await trio.lowlevel.open_process(
            command,
            env=environment,
            cwd=PROJECT,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
        )
        daemon = DaemonProcess(socket, process)
        nursery.start_soon(daemon.read)
        try:
            if wait:
                await daemon.wait_for("daemon.ready")
            yield daemon
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
