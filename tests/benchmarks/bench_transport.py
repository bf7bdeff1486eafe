"""CPU time of a request through each transport; run it as a program.

    python -m tests.benchmarks.bench_transport [REQUESTS]

A cheap stub answers from a second process, on a core of its own where there are
two. What is printed is the CPU time of this process alone, per request and per
streamed chunk, in microseconds.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import time
from contextlib import aclosing
from functools import partial

import httpx
import trio

from duckservice.config import Secret, TimeoutConfig
from duckservice.errors import ProviderError
from duckservice.providers.fast_transport import FastTransport
from duckservice.providers.http import HttpClient
from tests.providers.httpcore_transport import LifoTransport

CONCURRENCIES = (1, 16, 64)
CHUNKS = 400
CHUNK_INTERVAL = 0.0005

REPLY = b'{"choices":[{"message":{"content":"%s"}}]}' % (b"word " * 150)
WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    b"date: Fri, 20 Nov 2026 12:00:00 GMT\r\nserver: stub\r\n"
    b"x-request-id: req_0123456789abcdef\r\nopenai-processing-ms: 12\r\n"
    b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(REPLY), REPLY)
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
BODY = b'{"model":"stub","messages":[{"role":"user","content":"%s"}]}' % (b"x" * 800)
HEADERS = {"authorization": "Bearer sk-stub", "content-type": "application/json"}


def serve() -> None:
    """Answer on a port that is printed first, until killed; the stub process."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(client, selectors.EVENT_READ)
            elif not _answer(key.fileobj):
                selector.unregister(key.fileobj)
                key.fileobj.close()


def _answer(client: socket.socket) -> bool:
    # A request is small and comes in one piece: two only from httpcore.
    request = client.recv(65536)
    while request and BODY not in request:
        request += client.recv(65536)
    if request.startswith(b"POST /stream"):
        client.sendall(STREAM_HEAD)
        for _ in range(CHUNKS):
            time.sleep(CHUNK_INTERVAL)
            client.sendall(CHUNK)
        client.sendall(b"0\r\n\r\n")
    elif request:
        client.sendall(WHOLE)
    return bool(request)


class PlainHttpx:
    """httpx as it comes, to compare with."""

    def __init__(self, base_url: str) -> None:
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
        self._client = httpx.AsyncClient(
            base_url=base_url, headers=HEADERS, limits=limits, trust_env=False
        )

    async def whole(self) -> None:
        response = await self._client.post("/chat", content=BODY)
        assert response.content == REPLY

    async def streamed(self) -> int:
        async with (
            self._client.stream("POST", "/stream", content=BODY) as response,
            aclosing(response.aiter_raw()) as pieces,
        ):
            return sum([len(piece) async for piece in pieces])

    async def aclose(self) -> None:
        await self._client.aclose()


class Ours:
    """`HttpClient` over one of the transports."""

    def __init__(self, make_transport, base_url: str) -> None:
        self._client = HttpClient(
            provider="stub",
            base_url=base_url,
            headers=HEADERS | {"authorization": Secret(HEADERS["authorization"])},
            timeout=TimeoutConfig(),
            classify=lambda status, headers, body: ProviderError(str(status)),
            transport=make_transport(),
        )

    async def whole(self) -> None:
        response = await self._client.request("POST", "/chat", content=BODY)
        assert response.body == REPLY

    async def streamed(self) -> int:
        async with self._client.stream("POST", "/stream", content=BODY) as response:
            return sum([len(piece) async for piece in response.iter_bytes()])

    async def aclose(self) -> None:
        await self._client.aclose()


SUBJECTS = {
    "httpx, its own pool": PlainHttpx,
    "LifoTransport": partial(Ours, LifoTransport),
    "FastTransport": partial(Ours, FastTransport),
}


async def cpu_per_request(subject, concurrency: int, requests: int) -> float:
    async def work(count: int) -> None:
        for _ in range(count):
            await subject.whole()

    async def run(count: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(concurrency):
                nursery.start_soon(work, count // concurrency)

    await run(4 * concurrency)  # connect and warm up
    started = time.process_time()
    await run(requests)
    return (time.process_time() - started) / (requests // concurrency * concurrency)


async def cpu_per_chunk(subject) -> float:
    started = time.process_time()
    assert await subject.streamed() == CHUNKS * len(EVENT)
    return (time.process_time() - started) / CHUNKS


async def measure(base_url: str, requests: int) -> None:
    columns = [f"{n} at once" for n in CONCURRENCIES]
    print(f"{'us CPU':22}" + "".join(f"{c:>12}" for c in (*columns, "a chunk")))
    for name, make in SUBJECTS.items():
        subject = make(base_url)
        figures = [await cpu_per_request(subject, n, requests) for n in CONCURRENCIES]
        figures.append(await cpu_per_chunk(subject))
        await subject.aclose()
        print(f"{name:22}" + "".join(f"{figure * 1e6:12.0f}" for figure in figures))


def main() -> None:
    if sys.argv[1:] == ["serve"]:
        serve()
        return
    requests = int(sys.argv[1]) if sys.argv[1:] else 2000
    command = [sys.executable, "-m", "tests.benchmarks.bench_transport", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stub:
        try:
            port = int(stub.stdout.readline())
            cores = sorted(os.sched_getaffinity(0))
            if len(cores) > 1:
                os.sched_setaffinity(0, cores[:1])
                os.sched_setaffinity(stub.pid, cores[1:2])
            trio.run(measure, f"http://127.0.0.1:{port}", requests)
        finally:
            stub.kill()


if __name__ == "__main__":
    main()
