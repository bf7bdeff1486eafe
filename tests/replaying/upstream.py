"""A real loopback upstream that gives the answer which it is told to give."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import attrs
import httpx
import trio

from duckservice.providers.fast_transport import FastTransport
from tests.recordings import Record, response_parts
from tests.upstream import Request, chunked, head, read_request

#: What a client may see of an answer; the upstream writes the framing itself.
_DROPPED = {"content-length", "transfer-encoding", "content-encoding", "connection"}

NOTHING_MORE = b'{"data": [], "models": []}'
"""What a second request gets, e.g. for the next page of a list."""


@attrs.define
class Stage:
    """The upstream: *answers* are given in turn, `NOTHING_MORE` when there are none."""

    origin: str = ""
    answers: list[bytes] = attrs.field(factory=list)
    requests: list[Request] = attrs.field(factory=list)

    def set(self, record: Record, size: int) -> None:
        """Answer the next request as it was in *record*, in pieces of *size* bytes."""
        self.answers = [_answer(record, size)]
        self.requests = []


def _answer(record: Record, size: int) -> bytes:
    status, headers, body = response_parts(record)
    lines = [
        f"{name}: {value}".encode("latin-1", "replace")
        for name, value in headers.items()
        if name not in _DROPPED and "\n" not in str(value)
    ]
    if "content-type" not in headers:
        lines.append(b"content-type: " + _media_type(record))
    begun = head(*lines, b"transfer-encoding: chunked", status=b"%d Recorded" % status)
    pieces = [body] if not size else _cut(body, size)
    return begun + chunked(*(piece for piece in pieces if piece))


def _media_type(record: Record) -> bytes:
    if "body" in record.response:
        return b"application/json"
    if "body_base64" in record.response:
        return b"application/vnd.amazon.eventstream"
    if record.api.startswith("ollama."):
        return b"application/x-ndjson"
    return b"text/event-stream" if record.streaming else b"application/json"


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@asynccontextmanager
async def open_stage() -> AsyncGenerator[Stage]:
    """Run the upstream on a port of loopback that the system chooses."""
    stage = Stage()
    async with trio.open_nursery() as nursery:
        serve = functools.partial(_serve, stage)
        listen = functools.partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        [listener] = await nursery.start(listen)
        stage.origin = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        yield stage
        nursery.cancel_scope.cancel()


async def _serve(stage: Stage, stream: trio.SocketStream) -> None:
    buffer = bytearray()
    try:
        while (request := await read_request(stream, buffer, 0)) is not None:
            stage.requests.append(request)
            if stage.answers:
                await stream.send_all(stage.answers.pop(0))
            else:
                more = head(
                    b"content-type: application/json",
                    b"content-length: %d" % len(NOTHING_MORE),
                )
                await stream.send_all(more + NOTHING_MORE)
    except trio.BrokenResourceError:
        pass  # the adapter has closed an answer that it did not want to the end


@attrs.define
class CuttingTransport(httpx.AsyncBaseTransport):
    """The daemon's own transport, whose pieces are cut again.

    The kernel joins what the upstream sends in pieces; here they come apart for sure.
    """

    size: int
    _inner: FastTransport = attrs.field(factory=FastTransport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        return httpx.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_CutStream(answer.stream, self.size),
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


@attrs.define
class _CutStream(httpx.AsyncByteStream):
    """An iterator of its own, so that it may be left at any time."""

    _inner: httpx.AsyncByteStream
    _size: int
    _pieces: AsyncIterator[bytes] = attrs.field(init=False)
    _parts: list[bytes] = attrs.field(factory=list)
    """What is still to come of the last piece, the next one last."""

    def __attrs_post_init__(self) -> None:
        self._pieces = aiter(self._inner)

    def __aiter__(self) -> _CutStream:
        return self

    async def __anext__(self) -> bytes:
        while not self._parts:
            self._parts = _cut(await anext(self._pieces), self._size)[::-1]
        return self._parts.pop()

    async def aclose(self) -> None:
        await self._inner.aclose()
