"""Print what a request costs the gateway's server, in CPU time of its process.

    python -m tests.benchmarks.bench_server [requests] [connections]

The server runs in a process of its own; the clients, plain sockets in one epoll
loop, run in this one. Each connection has one request
under way. The figure is the server process's user and system time, divided by
the number of requests.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from duckservice.gateway.server import serve
from duckservice.gateway.unix_socket import bind_unix

REQUEST_BODY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"%s"}]}' % (
    b"hello " * 190
)
ANSWER = b'{"id":"x","choices":[{"message":{"role":"assistant","content":"hi"}}]}'
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    b"Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Connection: keep-alive\r\nUser-Agent: OpenAI/Python 3.52\r\n"
    b"Authorization: Bearer none\r\nX-Stainless-Lang: python\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
) % (len(REQUEST_BODY), REQUEST_BODY)


async def bare_app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(ANSWER)),
            ],
        }
    )
    await send({"type": "http.response.body", "body": ANSWER})


async def waiting_app(scope: Any, receive: Any, send: Any) -> None:
    """Like `bare_app`, but it passes through the scheduler, as real work does."""
    await trio.lowlevel.checkpoint()
    await bare_app(scope, receive, send)


def starlette_app() -> Any:
    async def chat(request: Request) -> Response:
        await request.body()
        return Response(ANSWER, media_type="application/json")

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])


APPS: dict[str, Callable[[], Any]] = {
    "bare ASGI": lambda: bare_app,
    "bare ASGI, one checkpoint": lambda: waiting_app,
    "Starlette": starlette_app,
}


def run_server(name: str, path: Path, ready: Any, cpu: Any) -> None:
    app = APPS[name]()

    async def main() -> None:
        with bind_unix(path) as listener:
            ready.set()
            await serve(measured, [listener])

    async def measured(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/cpu":
            usage = resource.getrusage(resource.RUSAGE_SELF)
            cpu.value = usage.ru_utime + usage.ru_stime
        await app(scope, receive, send)

    trio.run(main)


def converse(path: Path, requests: int, connections: int) -> None:
    clients = {}
    poll = select.epoll()
    for _ in range(connections):
        client = socket.socket(socket.AF_UNIX)
        client.connect(os.fspath(path))
        clients[client.fileno()] = client
        poll.register(client, select.EPOLLIN)
        client.send(REQUEST)
    sent, answered = connections, 0
    while answered < requests:
        for fd, _ in poll.poll():
            assert clients[fd].recv(65536).startswith(b"HTTP/1.1 200")
            answered += 1
            if sent < requests:
                clients[fd].send(REQUEST)
                sent += 1
    poll.close()
    for client in clients.values():
        client.close()


def ask_cpu(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))
        client.send(b"GET /cpu HTTP/1.0\r\n\r\n")
        while client.recv(65536):
            pass


def measure(name: str, requests: int, connections: int) -> None:
    context = multiprocessing.get_context("spawn")
    ready, cpu = context.Event(), context.Value("d", 0.0)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "bench.sock")
        server = context.Process(target=run_server, args=(name, path, ready, cpu))
        server.start()
        try:
            assert ready.wait(10)
            converse(path, requests // 10, connections)
            ask_cpu(path)
            before, began = cpu.value, time.perf_counter()
            converse(path, requests, connections)
            elapsed = time.perf_counter() - began
            ask_cpu(path)
        finally:
            server.kill()
            server.join()
    each = (cpu.value - before) / requests * 1e6
    print(f"{name:28} {each:6.1f} µs/request  {requests / elapsed:8.0f} requests/s")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    at_once = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    for app_name in APPS:
        measure(app_name, count, at_once)
