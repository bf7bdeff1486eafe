"""What a request costs on its way through duckd: CPU, latency, per streamed chunk.

    python -m tests.benchmarks.bench_gateway [--requests N] [--daemon-core C] [--other-core C]

The daemon runs alone on one core, with everything on: breaker, limiter, queue,
costs, a JSON log line an attempt. The stub upstream and the clients, a process
each, share the other one. Direct and through the daemon are measured in the same
run, in turns, and medians are printed. CPU is the daemon's own, from /proc.

A stream's chunks come one by one, 5 ms apart, as models write them: each is
received, decoded, encoded and sent on alone. Or as fast as the upstream can write.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs
import trio

ROOT = Path(__file__).parents[2]

REQUEST = json.dumps(
    {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant. " * 10},
            {"role": "user", "content": "Why do ducks quack? " * 30},
        ],
        "temperature": 0.7,
        "max_tokens": 200,
    }
).encode()
STREAM_REQUEST = REQUEST[:-1] + b', "stream": true}'
FAST_STREAM_REQUEST = REQUEST[:-1] + b', "stream": true, "user": "fast"}'
COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Because they can. " * 40},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 210, "completion_tokens": 160, "total_tokens": 370},
    }
).encode()
CHUNKS = 100
PAUSE = 0.005


def delta(**delta_: str) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "delta": delta_, "finish_reason": None}],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


LAST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":210,'
    b'"completion_tokens":100,"total_tokens":310}}\n\ndata: [DONE]\n\n'
)


async def upstream() -> None:
    """A provider that answers at once, and streams a chunk after each `PAUSE`."""
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        % (len(COMPLETION), COMPLETION)
    )
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )

    def piece(data: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(data), data)

    first, more = (
        piece(delta(role="assistant", content="")),
        piece(delta(content=" quack")),
    )

    async def serve(stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = b""
        try:
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = await stream.receive_some(65536)
                    if not data:
                        return
                    buffer += data
                request, _, buffer = buffer.partition(b"\r\n\r\n")
                lower = request.lower()
                length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
                while len(buffer) < length:
                    buffer += await stream.receive_some(65536)
                body, buffer = buffer[:length], buffer[length:]
                if b'"stream":true' not in body.replace(b" ", b""):
                    await stream.send_all(answer)
                    continue
                pause = 0.0 if b'"fast"' in body else PAUSE
                await stream.send_all(head + first)
                for _ in range(CHUNKS):
                    await trio.sleep(pause)
                    await stream.send_all(more)
                await stream.send_all(piece(LAST) + b"0\r\n\r\n")
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(listeners[0].socket.getsockname()[1], flush=True)
        nursery.start_soon(trio.serve_listeners, serve, listeners)


@attrs.frozen
class Target:
    name: str
    family: int
    address: object
    path: str


class Client:
    """A keep-alive connection that does next to nothing itself."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.socket = trio.socket.socket(target.family, socket.SOCK_STREAM)
        self.buffer = b""

    async def connect(self) -> None:
        await self.socket.connect(self.target.address)

    async def request(self, body: bytes) -> tuple[float, float]:
        """Return the seconds to the first byte of body, and to the end."""
        since = time.perf_counter()
        await self.socket.send(
            b"POST %s HTTP/1.1\r\nhost: duck\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n"
            % (self.target.path.encode(), len(body))
            + body
        )
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self._receive()
        head, _, rest = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), data
        if b"content-length:" in head.lower():
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            while len(rest) < length:
                rest += await self._receive()
            end = time.perf_counter() - since
            return end, end
        while not rest:
            rest = await self._receive()
        first = time.perf_counter() - since
        while not rest.endswith(b"0\r\n\r\n"):
            rest = rest[-8:] + await self._receive()
        return first, time.perf_counter() - since

    async def _receive(self) -> bytes:
        data = await self.socket.recv(262144)
        assert data, "the server hung up"
        return data


@attrs.frozen
class Result:
    wall: float
    cpu: float
    firsts: list[float]
    ends: list[float]


async def load(
    target: Target, body: bytes, concurrency: int, requests: int, pid: int | None
) -> Result:
    clients = [Client(target) for _ in range(concurrency)]
    for client in clients:
        await client.connect()
        await client.request(body)  # warm
    firsts, ends = list[float](), list[float]()
    left = requests
    cpu = cpu_seconds(pid) if pid else 0.0
    since = time.perf_counter()

    async def run(client: Client) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            first, end = await client.request(body)
            firsts.append(first)
            ends.append(end)

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(run, client)
    wall = time.perf_counter() - since
    cpu = (cpu_seconds(pid) - cpu) if pid else 0.0
    for client in clients:
        client.socket.close()
    return Result(wall, cpu, firsts, ends)


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads, in nanosecond resolution where possible."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def start_daemon(port: int, folder: Path, core: int) -> tuple[subprocess.Popen, Path]:
    config, sock = folder / "config.toml", folder / "run" / "duckd.sock"
    config.write_text(
        f"""
[providers.openai]
api_key = "env:BENCH_KEY"
base_url = "http://127.0.0.1:{port}/v1"
models = ["*"]
max_concurrency = 1000
limits = {{ requests_per_minute = 100000000, tokens_per_minute = 10000000000 }}
rate_limit = {{ capacity = 1000000, refill_rate = 1000000.0 }}
price = {{ input = 2.5, output = 10.0 }}
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
            env={**os.environ, "BENCH_KEY": "sk-bench"},
        )
    os.sched_setaffinity(process.pid, {core})
    while b"daemon.ready" not in (folder / "log").read_bytes():
        if process.poll() is not None:
            raise SystemExit((folder / "log").read_text())
        time.sleep(0.01)
    return process, sock


def median_us(values: list[float]) -> float:
    return statistics.median(values) * 1e6


async def measure(direct: Target, duck: Target, pid: int, requests: int) -> None:
    rounds = 3
    print(
        f"{'':26}{'CPU of duckd':>14}{'direct':>12}{'through':>12}{'added':>12}{'req/s':>9}"
    )
    for concurrency in (1, 16, 64):
        results = [
            (
                await load(direct, REQUEST, concurrency, requests // rounds, None),
                await load(duck, REQUEST, concurrency, requests // rounds, pid),
            )
            for _ in range(rounds)
        ]
        cpu = statistics.median(d.cpu / len(d.ends) for _, d in results) * 1e6
        plain = statistics.median(median_us(p.ends) for p, _ in results)
        through = statistics.median(median_us(d.ends) for _, d in results)
        rate = statistics.median(len(d.ends) / d.wall for _, d in results)
        print(
            f"request, {concurrency:3} at once     {cpu:11.0f} us{plain:9.0f} us"
            f"{through:9.0f} us{through - plain:9.0f} us{rate:9.0f}"
        )
    for concurrency in (1, 16):
        await measure_streams(direct, duck, pid, concurrency, STREAM_REQUEST)
    await measure_streams(direct, duck, pid, 16, FAST_STREAM_REQUEST)


async def measure_streams(
    direct: Target, duck: Target, pid: int, concurrency: int, body: bytes
) -> None:
    streams = 4 * concurrency + 6
    plain = await load(direct, body, concurrency, streams, None)
    through = await load(duck, body, concurrency, streams, pid)
    first, ours = median_us(plain.firsts), median_us(through.firsts)
    chunk = through.cpu / len(through.ends) / CHUNKS * 1e6
    how = "at once" if body is FAST_STREAM_REQUEST else "5 ms apart"
    print(
        f"{concurrency:3} streams, {how:10}   first byte {first:6.0f} us direct,"
        f" {ours:6.0f} us through; CPU of duckd {chunk:5.1f} us a chunk"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--daemon-core", type=int, default=0)
    parser.add_argument("--other-core", type=int, default=1)
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        trio.run(upstream)
        return
    os.sched_setaffinity(0, {options.other_core})
    provider = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.bench_gateway", "--upstream"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert provider.stdout is not None
    port = int(provider.stdout.readline())
    with tempfile.TemporaryDirectory() as folder:
        process, sock = start_daemon(port, Path(folder), options.daemon_core)
        try:
            path = "/v1/chat/completions"
            direct = Target("direct", socket.AF_INET, ("127.0.0.1", port), path)
            duck = Target("duckd", socket.AF_UNIX, str(sock), path)
            trio.run(measure, direct, duck, process.pid, options.requests)
        finally:
            for started in (process, provider):
                started.terminate()
                started.wait()


if __name__ == "__main__":
    main()
