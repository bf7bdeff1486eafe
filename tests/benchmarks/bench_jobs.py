"""Print how many durable jobs a second the daemon takes, and how many it completes.

    python -m tests.benchmarks.bench_jobs [seconds] [--store URL] [--directory DIR]
        [--daemon-core C] [--other-core C]

Through the socket, with 1, 16 and 256 keep-alive clients that each send the next
submission when the last was answered, that is when it is on the disk; then in bulk,
many lines in a request. Both while the queue is paused. After that the queue is
resumed, and all that was submitted is completed by a mock provider that answers at
once: whole jobs a second, from waiting to completed, on a queue that is never empty.

The daemon runs alone on one core, with everything on; the clients share the other
one. CPU is the daemon's own, from /proc, all its threads together.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs
import trio

from tests.benchmarks.bench_gateway import cpu_seconds

ROOT = Path(__file__).parents[2]
CLIENTS = (1, 16, 256)
BULK_LINES = 2000
TURNS = 64
"""The mock provider's `max_concurrency`."""
SUBMISSION = json.dumps(
    {
        "request": {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "hello " * 90}],
        },
        "tags": {"team": "core"},
    }
).encode()
"""Of 0.6 kB."""
AIM_ONE_BY_ONE = 4000
AIM_COMPLETED = 1000


class Client:
    """A keep-alive connection that does next to nothing itself."""

    def __init__(self) -> None:
        self.socket = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    async def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Return the body of the answer, whose status must be 2xx."""
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: duck\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        await trio.SocketStream(self.socket).send_all(head.encode() + body)
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self._receive()
        head_, _, rest = data.partition(b"\r\n\r\n")
        assert head_.startswith(b"HTTP/1.1 2"), data
        lower = head_.lower()
        if b"content-length:" in lower:
            length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
            while len(rest) < length:
                rest += await self._receive()
        else:
            pieces = [rest]
            while not pieces[-1].endswith(b"0\r\n\r\n"):
                pieces.append(await self._receive())
            rest = b"".join(pieces)
        return rest

    async def _receive(self) -> bytes:
        data = await self.socket.recv(262144)
        assert data, "the server hung up"
        return data


@attrs.frozen
class Daemon:
    """A daemon under measurement."""

    pid: int
    socket: str

    async def connect(self) -> Client:
        """Return a new connection to it."""
        client = Client()
        await client.socket.connect(self.socket)
        return client


@attrs.frozen
class Measured:
    """What came of one measurement."""

    jobs: int
    wall: float
    cpu: float

    def __str__(self) -> str:
        return (
            f"{self.jobs / self.wall:>9,.0f}/s{self.cpu / self.jobs * 1e6:>8,.0f}"
            f" µs CPU each, {self.cpu / self.wall:>4.0%} of a core"
        )


async def submit_one_by_one(daemon: Daemon, clients: int, seconds: float) -> Measured:
    """Have each client submit one job after the other."""
    connected = [await daemon.connect() for _ in range(clients)]
    for client in connected[:1]:
        await client.request("POST", "/v1/jobs", SUBMISSION)  # warm
    done, cpu, since = 0, cpu_seconds(daemon.pid), time.perf_counter()
    until = since + seconds

    async def run(client: Client) -> None:
        nonlocal done
        while time.perf_counter() < until:
            await client.request("POST", "/v1/jobs", SUBMISSION)
            done += 1

    async with trio.open_nursery() as nursery:
        for client in connected:
            nursery.start_soon(run, client)
    wall = time.perf_counter() - since
    cpu = cpu_seconds(daemon.pid) - cpu
    for client in connected:
        client.socket.close()
    return Measured(done, wall, cpu)


async def submit_in_bulk(daemon: Daemon, clients: int, seconds: float) -> Measured:
    """Have each client submit `BULK_LINES` at a time."""
    body = (SUBMISSION + b"\n") * BULK_LINES
    done, cpu, since = 0, cpu_seconds(daemon.pid), time.perf_counter()
    until = since + seconds

    async def run() -> None:
        nonlocal done
        while time.perf_counter() < until:
            # An answer that begins before the request has ended closes the connection.
            client = await daemon.connect()
            answer = await client.request("POST", "/v1/jobs:bulk", body)
            assert answer.count(b'"created":true') == BULK_LINES, answer[-500:]
            done += BULK_LINES
            client.socket.close()

    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(run)
    wall = time.perf_counter() - since
    return Measured(done, wall, cpu_seconds(daemon.pid) - cpu)


async def complete(daemon: Daemon, seconds: float) -> Measured:
    """Resume the queue; count what is completed meanwhile."""
    client = await daemon.connect()
    await client.request("POST", "/v1/queue/resume")
    await trio.sleep(0.3)  # warm
    before, cpu, since = await completed(client), cpu_seconds(daemon.pid), time.time()
    await trio.sleep(seconds)
    done = await completed(client) - before
    result = Measured(done, time.time() - since, cpu_seconds(daemon.pid) - cpu)
    await client.request("POST", "/v1/queue/pause")
    client.socket.close()
    return result


async def completed(client: Client) -> int:
    """Return how many jobs are completed."""
    status = json.loads(await client.request("GET", "/v1/status"))
    number: int = status["jobs"]["completed"]
    return number


def start_daemon(
    folder: Path, store: str, core: int
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a daemon with a mock provider, and wait until it is ready."""
    config, sock = folder / "config.toml", folder / "run" / "duckd.sock"
    config.write_text(
        f"""
[service]
state_dir = "{folder / "state"}"
[store]
url = "{store}"
[queue]
max_jobs = 10000000
[providers.mock]
models = ["*"]
max_concurrency = {TURNS}
limits = {{ requests_per_minute = 100000000, tokens_per_minute = 10000000000 }}
rate_limit = {{ capacity = 1000000, refill_rate = 1000000.0 }}
[log]
format = "json"
"""
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "duckservice",
                "--config",
                str(config),
                "--socket",
                str(sock),
            ],
            cwd=ROOT,
            stderr=log,
        )
    os.sched_setaffinity(process.pid, {core})
    while b"daemon.ready" not in (folder / "log").read_bytes():
        if process.poll() is not None:
            raise SystemExit((folder / "log").read_text())
        time.sleep(0.01)
    return process, str(sock)


async def measure(daemon: Daemon, seconds: float) -> None:
    """Print the table."""
    client = await daemon.connect()
    await client.request("POST", "/v1/queue/pause")
    client.socket.close()
    for clients in CLIENTS:
        one_by_one = await submit_one_by_one(daemon, clients, seconds)
        aim = f" (aim {AIM_ONE_BY_ONE:,}/s)" if clients == CLIENTS[-1] else ""
        print(f"  POST /v1/jobs, {clients:3} clients      {one_by_one}{aim}")
    for clients in (1, 4):
        bulk = await submit_in_bulk(daemon, clients, seconds)
        print(f"  POST /v1/jobs:bulk, {clients:3} clients {bulk}")
    whole = await complete(daemon, seconds)
    print(f"  completed by the mock provider  {whole} (aim {AIM_COMPLETED:,}/s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=3.0)
    parser.add_argument("--store", default="sqlite", help="the config's store.url")
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    parser.add_argument("--daemon-core", type=int, default=0)
    parser.add_argument("--other-core", type=int, default=1)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.other_core})
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        process, sock = start_daemon(Path(folder), options.store, options.daemon_core)
        try:
            print(
                f"store {options.store}, {len(SUBMISSION)} bytes each;"
                f" load {os.getloadavg()[0]:.1f} at the start:"
            )
            trio.run(measure, Daemon(process.pid, sock), options.seconds)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
