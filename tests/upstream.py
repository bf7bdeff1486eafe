"""A real HTTP server on loopback whose every byte, pause and reset is scripted.

    script = [[answer(b"ok")], [head(b"content-length: 9"), b"half", RESET]]
    async with open_upstream(script) as upstream:
        ...  # talk to upstream.base_url; read upstream.requests

A script says what happens to the n-th request that arrives, over whichever
connection: a list of actions, carried out in order.

    bytes              sent as they are
    Pause(seconds)     nothing for so long
    a trio.Event       nothing until the test sets it
    Repeat(bytes, s)   the same bytes for ever, every s seconds (0: without a pause)
    FIN                both directions closed in order; the end of the connection
    RESET              closed with a TCP RST; the end of the connection
    HANG               silence until the client goes away

After the last action the connection stays open for the next request. Requests
beyond the script get the last entry again. Every request is read whole before it
is acted upon.

Pauses are real time: keep them out of tests, except where a configured timeout is
to be seen to end them.
"""

from __future__ import annotations

import functools
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio


@attrs.frozen
class Pause:
    seconds: float


@attrs.frozen
class Repeat:
    data: bytes
    every: float = 0.0


@attrs.frozen
class _End:
    name: str


FIN: Final = _End("FIN")
RESET: Final = _End("RESET")
HANG: Final = _End("HANG")

Action = bytes | Pause | trio.Event | Repeat | _End
Script = Sequence[Sequence[Action]]


@attrs.frozen
class Request:
    """A request as it came in."""

    head: bytes
    body: bytes
    connection: int
    """Which connection brought it, counted from 0."""

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    def header(self, name: str) -> str | None:
        """Return the value of a header; several are joined by a comma."""
        lines = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        found = [
            value.strip().decode("latin-1")
            for key, _, value in lines
            if key.decode("latin-1").lower() == name.lower()
        ]
        return ", ".join(found) if found else None


@attrs.define
class Upstream:
    """The server, while it runs."""

    script: Script
    base_url: str = ""
    requests: list[Request] = attrs.field(factory=list)
    connections: int = 0
    """How many were ever accepted."""
    open_connections: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def wait_until(self, condition) -> None:
        """Wait until ``condition()`` holds: about requests or connections."""
        while not condition():
            await self._changed.wait()

    async def wait_for_requests(self, count: int) -> None:
        """Wait until *count* requests have come in, whole."""
        await self.wait_until(lambda: len(self.requests) >= count)

    async def wait_all_closed(self) -> None:
        """Wait until no client is connected."""
        await self.wait_until(lambda: self.open_connections == 0)

    def note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def actions(self) -> Sequence[Action]:
        """Return what is to happen to the request that came in last."""
        return self.script[min(len(self.requests), len(self.script)) - 1]


def answer(
    body: bytes = b"", *headers: bytes, status: bytes = b"200 OK", length: int = -1
) -> bytes:
    """Return a whole answer with a Content-Length (a wrong one if *length* says so)."""
    size = len(body) if length < 0 else length
    return head(b"content-length: %d" % size, *headers, status=status) + body


def head(*headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Return the head of an answer: the status line, the headers, the blank line."""
    return b"".join(line + b"\r\n" for line in (b"HTTP/1.1 " + status, *headers, b""))


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """Return *pieces* in the chunked coding, each as one chunk."""
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return coded + (b"0\r\n\r\n" if end else b"")


@asynccontextmanager
async def open_upstream(
    script: Script,
    *,
    ssl_context: ssl.SSLContext | None = None,
    limit: float = 10.0,
) -> AsyncGenerator[Upstream]:
    """Serve *script* on a port of loopback that the system chooses.

    The block fails with `trio.TooSlowError` after *limit* seconds: no test hangs.

    With *ssl_context* it speaks TLS, and calls itself ``localhost``.
    """
    upstream = Upstream(script)
    with trio.fail_after(limit):
        async with _serving(upstream, ssl_context):
            yield upstream


@asynccontextmanager
async def _serving(
    upstream: Upstream, ssl_context: ssl.SSLContext | None
) -> AsyncGenerator[None]:
    async with trio.open_nursery() as nursery:
        scheme, host = ("https", "localhost") if ssl_context else ("http", "127.0.0.1")

        async def serve(raw: trio.SocketStream) -> None:
            await _serve(upstream, raw, ssl_context)

        listen = functools.partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        [listener] = await nursery.start(listen)
        port = listener.socket.getsockname()[1]
        upstream.base_url = f"{scheme}://{host}:{port}"
        yield
        nursery.cancel_scope.cancel()


def closed_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def _serve(
    upstream: Upstream,
    raw: trio.SocketStream,
    ssl_context: ssl.SSLContext | None,
) -> None:
    number = upstream.connections
    upstream.connections += 1
    upstream.open_connections += 1
    upstream.note()
    stream: trio.abc.Stream = raw
    if ssl_context is not None:
        stream = trio.SSLStream(
            raw, ssl_context, server_side=True, https_compatible=True
        )
    try:
        await _answer_all(upstream, stream, raw, number)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the client has gone away, as clients of these tests do
    finally:
        raw.socket.close()
        upstream.open_connections -= 1
        upstream.note()


async def _answer_all(
    upstream: Upstream,
    stream: trio.abc.Stream,
    raw: trio.SocketStream,
    number: int,
) -> None:
    buffer = bytearray()
    while (request := await read_request(stream, buffer, number)) is not None:
        upstream.requests.append(request)
        upstream.note()
        for action in upstream.actions():
            if not await _act(stream, raw, action):
                return


async def _act(stream: trio.abc.Stream, raw: trio.SocketStream, action: Action) -> bool:
    """Carry *action* out; return whether the connection goes on."""
    match action:
        case bytes():
            await stream.send_all(action)
        case Pause():
            await trio.sleep(action.seconds)
        case trio.Event():
            await action.wait()
        case Repeat():
            while True:
                await stream.send_all(action.data)
                await trio.sleep(action.every)
        case _ if action is HANG:
            while await stream.receive_some():
                pass
            return False
        case _ if action is RESET:
            # A linger of zero makes close() send a reset.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        case _:
            return False
    return True


async def read_request(
    stream: trio.abc.Stream, buffer: bytearray, number: int
) -> Request | None:
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        if not await _read_more(stream, buffer):
            return None
    request = Request(bytes(buffer[:end]), b"", number)
    length = int(request.header("content-length") or 0)
    while len(buffer) < end + 4 + length:
        if not await _read_more(stream, buffer):
            return None
    body = bytes(buffer[end + 4 : end + 4 + length])
    del buffer[: end + 4 + length]
    return attrs.evolve(request, body=body)


async def _read_more(stream: trio.abc.Stream, buffer: bytearray) -> bool:
    data = await stream.receive_some()
    buffer += data
    return bool(data)
