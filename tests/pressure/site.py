"""A daemon as a process, what it takes of the machine, and clients of it.

async with open_site({"up": upstream.port}) as site:
    before = await site.vitals()
    async with site.client() as client: ...
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import psutil
import trio

from duckservice.gateway.limits import ServerLimits
from tests.e2e.process import DaemonProcess, starting
from tests.gateway.serving import RawClient, Response
from tests.pressure.hasty import LIMITS

CHAT = "/v1/chat/completions"
MIB = 1024 * 1024


@attrs.frozen(kw_only=True)
class Vitals:
    """What the daemon takes at one time."""

    rss_mib: float
    fds: int
    tasks: int
    threads: int
    cpu: float
    """Seconds of CPU since its start."""

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"{self.rss_mib:7.1f} MiB  {self.fds:5} fds  {self.tasks:5} tasks"
            f"  {self.threads:3} threads  {self.cpu:6.1f} s CPU"
        )


@attrs.define
class Site:
    """A daemon that runs."""

    daemon: DaemonProcess
    folder: Path

    @property
    def pid(self) -> int:
        return self.daemon.process.pid

    def rss_mib(self) -> float:
        """Return its memory, without asking it."""
        return self.daemon.rss_mib()

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    async def vitals(self) -> Vitals:
        """Return what it takes now; it is asked for its tasks by SIGUSR1."""
        return Vitals(
            rss_mib=self.rss_mib(),
            fds=self.fds(),
            tasks=await self._tasks(),
            threads=psutil.Process(self.pid).num_threads(),
            cpu=self.cpu(),
        )

    async def _tasks(self) -> int:
        dump = self.folder / "state" / "dump.txt"
        dump.unlink(missing_ok=True)
        self.daemon.signal(signal.SIGUSR1)
        with trio.fail_after(20):
            while True:
                text = dump.read_text() if dump.exists() else ""
                if found := re.search(r"^# Tasks: (\d+)", text, re.MULTILINE):
                    return int(found[1])
                await trio.sleep(0.02)

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[RawClient]:
        """Connect."""
        async with self.daemon.connection() as client:
            yield client

    async def connect(self) -> RawClient:
        """Connect, and leave the closing to the caller."""
        return RawClient(await trio.open_unix_socket(self.daemon.socket))

    async def ask(
        self, method: str, path: str, value: Any = None, **headers: str
    ) -> Response:
        """Return the answer to one request on a connection of its own."""
        with trio.fail_after(60):
            async with self.client() as client:
                return await exchange(client, request(method, path, value, **headers))

    async def get(self, path: str) -> Any:
        """Return the JSON of a GET, which must succeed."""
        reply = await self.ask("GET", path)
        assert reply.status == 200, reply
        return json.loads(reply.body)

    async def is_ready(self) -> bool:
        return (await self.ask("GET", "/readyz")).status == 200

    async def until(self, condition, seconds: float = 30.0) -> float:
        """Wait until ``condition()`` or ``await condition()``; return how long that took."""
        started = time.monotonic()
        with trio.fail_after(seconds):
            while True:
                found = condition()
                if hasattr(found, "__await__"):
                    found = await found
                if found:
                    return time.monotonic() - started
                await trio.sleep(0.05)

    def tracebacks(self) -> list[dict[str, Any]]:
        """Return what a bug has left in the log."""
        lines = self.daemon.stderr.decode(errors="replace").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return [e for e in events if "traceback" in e or "exception" in e]


def config(upstreams: Mapping[str, int], state: Path, more: str = "") -> str:
    """Return a configuration with a provider at each port, and the mock one."""
    tables = [
        f"""
[providers.{name}]
adapter = "openai-compatible"
base_url = "http://127.0.0.1:{port}/v1"
models = ["m-*"]
max_concurrency = 2000
breaker = {{ failure_threshold = 1000000 }}
priority = {priority}
"""
        for priority, (name, port) in enumerate(upstreams.items(), 1)
    ]
    if "[providers." in more:
        tables.clear()
    return f"""
[service]
state_dir = "{state}"
drain_grace = "2s"
[log]
format = "json"
[providers.mock]
models = ["mock-*"]
max_concurrency = 2000
{"".join(tables)}
{more}
"""


@asynccontextmanager
async def open_site(
    upstreams: Mapping[str, int] | None = None,
    more: str = "",
    *,
    limits: Mapping[str, float] | None = None,
    folder: Path | None = None,
) -> AsyncGenerator[Site]:
    """Run a daemon of these upstreams, with these limits of its server."""
    program: Sequence[str] = (sys.executable, "-m", "tests.pressure.hasty")
    ServerLimits(**(limits or {}))  # a wrong name is said here
    environ = {LIMITS: json.dumps(dict(limits or {})), "PYTHONFAULTHANDLER": "1"}
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        text = config(upstreams or {}, place / "state", more)
        async with starting(
            place, text, environ=environ, program=tuple(program)
        ) as daemon:
            yield Site(daemon, place)


# Requests.


def request(method: str, path: str, value: Any = None, **headers: str) -> bytes:
    """Return the bytes of a request; *value* is sent as JSON, bytes as they are."""
    if value is None:
        body = b""
    else:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: duck", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chat(model: str = "mock-echo", text: str = "quack", **more: Any) -> dict[str, Any]:
    """Return the body of a chat."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        **more,
    }


def ask_chat(model: str = "mock-echo", text: str = "quack", **more: Any) -> bytes:
    """Return a whole request for a chat."""
    return request("POST", CHAT, chat(model, text, **more))


async def exchange(client: RawClient, data: bytes) -> Response:
    """Send a request and read its answer, however long that takes."""
    await client.send(data)
    status, headers = await client.head()
    return Response(status, headers, await client._body(headers))


async def latencies(client: RawClient, data: bytes, count: int) -> list[float]:
    """Return the milliseconds that each of *count* requests took, sorted."""
    taken = list[float]()
    for _ in range(count):
        started = time.perf_counter()
        reply = await exchange(client, data)
        taken.append((time.perf_counter() - started) * 1000)
        assert reply.status == 200, reply
    return sorted(taken)


def percentile(sorted_values: Sequence[float], part: float) -> float:
    """Return the value below which that part of them is."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * part))]


def p50_p99(taken: Sequence[float]) -> str:
    """Return both as text, of sorted milliseconds."""
    return f"p50 {percentile(taken, 0.5):.2f} ms, p99 {percentile(taken, 0.99):.2f} ms"
