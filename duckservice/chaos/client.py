"""Asks the daemon over its socket, as any program would, and keeps every byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import attrs
import trio

from duckservice.chaos.http_in import AnswerIn
from duckservice.chaos.wire import Json

_MAX_TOKENS = 64


@attrs.frozen(kw_only=True)
class Seen:
    """What the client has got."""

    status: int | None
    """None: not even the head of an answer."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    complete: bool
    """Whether HTTP says that the answer is whole."""
    took: float
    timed_out: bool
    """Whether the client has given up waiting."""


async def ask(
    socket: Path, *, model: str, nonce: str, stream: bool, limit: float
) -> Seen:
    """Ask for a chat; wait for its end, but no longer than *limit* seconds."""
    body: Json = {
        "model": model,
        "messages": [{"role": "user", "content": f"What is {nonce}?"}],
        "max_tokens": _MAX_TOKENS,
        "stream": stream,
    }
    return await _send(socket, _request("POST", "/v1/chat/completions", body), limit)


async def get(socket: Path, target: str, limit: float) -> Seen:
    """Get what is at *target*."""
    return await _send(socket, _request("GET", target, None), limit)


def _request(method: str, target: str, body: Json | None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {target} HTTP/1.1\r\nhost: duck\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode("ascii") + content


async def _send(socket: Path, request: bytes, limit: float) -> Seen:
    answer = AnswerIn()
    started = trio.current_time()
    with trio.move_on_after(limit) as scope:
        try:
            async with await trio.open_unix_socket(socket) as stream:
                await stream.send_all(request)
                await answer.read(stream)
        except (OSError, trio.BrokenResourceError):
            pass  # what has come until then says it
    return Seen(
        status=answer.status,
        headers=answer.headers,
        body=bytes(answer.body),
        complete=answer.complete,
        took=trio.current_time() - started,
        timed_out=scope.cancelled_caught,
    )
