"""A healthy upstream in OpenAI's format that does what the model's name says.

m-quick    a small answer, or a stream of three words
m-slow     the same, after a second
m-long     a stream of 2,000 words of 1 KiB, as fast as it is read
m-endless  a stream that ends when nobody reads it any more
m-vast     a whole answer of 300 MB
m-bomb     a compressed answer: 300 kB that would be 300 MB
m-fail     500
"""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from tests.upstream import answer, chunked, head, read_request

SSE = head(b"content-type: text/event-stream", b"transfer-encoding: chunked")
WORD = "quack " * 170
LONG_WORDS = 2000
VAST_BYTES = 300_000_000


def event(text: str | None, **more: object) -> bytes:
    """Return one piece of a stream."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, **more}
    value = {"id": "c", "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def whole(text: str) -> bytes:
    """Return the body of a whole answer."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return json.dumps(
        {"id": "c", "model": "m", "choices": [choice], "usage": usage}
    ).encode()


END = event(None, finish_reason="stop") + b"data: [DONE]\n\n"
TEXT = "Hello there."
QUICK = answer(whole(TEXT), b"content-type: application/json")
QUICK_STREAM = SSE + chunked(event("Hello"), event(" there"), event("."), END)
FAIL = answer(
    b'{"error":{"message":"no"}}',
    b"content-type: application/json",
    status=b"500 Internal Server Error",
)


@attrs.define
class Upstream:
    """The server, while it runs."""

    port: int
    requests: int = 0
    open: int = 0
    """Connections."""


@asynccontextmanager
async def open_upstream() -> AsyncGenerator[Upstream]:
    """Serve on a port of loopback for the length of a block."""
    async with trio.open_nursery() as nursery:
        upstream = Upstream(0)

        async def serve(stream: trio.SocketStream) -> None:
            await _serve(upstream, stream)

        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=2048)
        upstream.port = listener.socket.getsockname()[1]
        await nursery.start(trio.serve_listeners, serve, [listener])
        yield upstream
        nursery.cancel_scope.cancel()


async def _serve(upstream: Upstream, stream: trio.SocketStream) -> None:
    upstream.open += 1
    buffer = bytearray()
    try:
        while (asked := await read_request(stream, buffer, 0)) is not None:
            upstream.requests += 1
            its = json.loads(asked.body)
            await _answer(stream, its["model"], stream=its.get("stream", False))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the daemon has gone away
    finally:
        upstream.open -= 1
        stream.socket.close()


async def _answer(out: trio.SocketStream, model: str, *, stream: bool) -> None:
    match model:
        case "m-fail":
            await out.send_all(FAIL)
            return
        case "m-slow":
            await trio.sleep(1)
        case "m-long" if not stream:
            await out.send_all(answer(whole(WORD * LONG_WORDS)))
            return
        case "m-long" | "m-endless":
            await out.send_all(SSE)
            piece = chunked(event(WORD), end=False)
            count = 0
            while model == "m-endless" or count < LONG_WORDS:
                await out.send_all(piece)
                count += 1
            await out.send_all(chunked(END))
            return
        case "m-vast":
            await out.send_all(head(b"content-length: %d" % VAST_BYTES))
            for _ in range(VAST_BYTES // 100_000):
                await out.send_all(b"x" * 100_000)
            return
        case "m-bomb":
            body = gzip.compress(b" " * VAST_BYTES)
            await out.send_all(answer(body, b"content-encoding: gzip"))
            return
    await out.send_all(QUICK_STREAM if stream else QUICK)
