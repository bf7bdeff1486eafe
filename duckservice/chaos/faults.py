"""What a sick provider does with a request: bytes, pauses, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from functools import partial
from typing import Final, TypeAlias

import attrs

from duckservice.chaos.wire import Complaint, Json, Streamed, Wire


@attrs.frozen
class Pause:
    """Nothing for so many seconds."""

    seconds: float


class End(Enum):
    """How a connection ends."""

    FIN = auto()
    """Closed in order."""
    RESET = auto()
    """Closed by a TCP reset."""
    HANG = auto()
    """Silent until the other side goes away."""


Action: TypeAlias = bytes | Pause | End


@attrs.frozen(kw_only=True)
class Asked:
    """A request, as far as its answer depends on it."""

    wire: Wire
    words: Sequence[str]
    """The right answer."""
    is_stream: bool
    key: str = attrs.field(default="", repr=False)
    """The key that was shown."""
    first_byte: float = 1.0
    """Seconds that the daemon waits for the head of an answer."""

    @property
    def text(self) -> str:
        """The right answer as a whole."""
        return "".join(self.words)

    def streamed(self) -> Streamed:
        """Return the right answer as a stream."""
        return self.wire.stream(self.words)


Fault: TypeAlias = Callable[[Asked], Sequence[Action]]

SHOWN_WORDS: Final = 2
"""So many words come before a fault in mid-stream."""


def healthy(asked: Asked) -> Sequence[Action]:
    """Answer as a provider should."""
    if not asked.is_stream:
        return [_whole(200, asked.wire.whole(asked.text))]
    its = asked.streamed()
    pieces = (its.begin, *its.words, its.end)
    return [_begin(asked), *map(_chunk, filter(None, pieces)), _LAST_CHUNK]


def refusing(complaint: Complaint, headers: Mapping[str, str] | None = None) -> Fault:
    """Return the fault that refuses in the format's own words."""
    return partial(_refuse, complaint, headers or {})


def _refuse(
    complaint: Complaint, headers: Mapping[str, str], asked: Asked
) -> Sequence[Action]:
    refusal = asked.wire.refuse(complaint, asked.key)
    return [_whole(refusal.status, refusal.body, {**refusal.headers, **headers})]


def close_unanswered(_: Asked) -> Sequence[Action]:
    """Close the connection in order, with the request read and not answered."""
    return [End.FIN]


def reset_unanswered(_: Asked) -> Sequence[Action]:
    """Reset the connection before the head of an answer."""
    return [End.RESET]


def hang(_: Asked) -> Sequence[Action]:
    """Never answer."""
    return [End.HANG]


def slow_first_byte(asked: Asked) -> Sequence[Action]:
    """Answer rightly, but only after most of the time that there is."""
    return [Pause(0.6 * asked.first_byte), *healthy(asked)]


def stall(asked: Asked) -> Sequence[Action]:
    """Fall silent in mid-answer, with the connection open."""
    return [*_half(asked), End.HANG]


def stall_early(asked: Asked) -> Sequence[Action]:
    """Fall silent when the answer has begun, and before its first word."""
    if not asked.is_stream:
        return [_begin(asked), End.HANG]
    begin = asked.streamed().begin
    return [_begin(asked), *([_chunk(begin)] if begin else []), End.HANG]


def cut_by_reset(asked: Asked) -> Sequence[Action]:
    """Reset the connection in mid-answer."""
    # Else the reset may overtake the bytes before it, and there is no half.
    return [*_half(asked), Pause(0.05), End.RESET]


def cut_in_order(asked: Asked) -> Sequence[Action]:
    """End in mid-answer, between two events, as if that was all.

    The answer says no length: only the format's own last words are missing.
    """
    if asked.is_stream:
        its = asked.streamed()
        body = its.begin + b"".join(its.words[:SHOWN_WORDS])
        return [_head(200, {"content-type": asked.wire.media}), body, End.FIN]
    body = _encoded(asked.wire.whole(asked.text))
    return [_head(200, _JSON), body[: len(body) // 2], End.FIN]


def error_after_words(asked: Asked) -> Sequence[Action]:
    """Send an error in mid-stream, or a refusal where no stream is asked for."""
    if asked.is_stream:
        return [*_half(asked), _chunk(asked.wire.failed_stream), _LAST_CHUNK]
    return _refuse("server", {}, asked)


def error_in_200(asked: Asked) -> Sequence[Action]:
    """Say 200, and an error behind it."""
    if asked.is_stream:
        return [_begin(asked), _chunk(asked.wire.failed_stream), _LAST_CHUNK]
    return [_whole(200, asked.wire.failed_whole)]


def malformed(asked: Asked) -> Sequence[Action]:
    """Say 200, and what no parser takes."""
    if not asked.is_stream:
        body = _encoded(asked.wire.whole(asked.text))[:-9] + b"}}]]\xff"
        return [_sized(200, body, _JSON)]
    its = asked.streamed()
    # The right words, but the first event is broken: to skip it would be to lie.
    broken = its.words[0][:-9] + b"\xff}\n\n"
    rest = b"".join((*its.words[1:], its.end))
    return [_begin(asked), _chunk(its.begin + broken + rest), _LAST_CHUNK]


def empty(asked: Asked) -> Sequence[Action]:
    """Say 200, and nothing behind it."""
    media = asked.wire.media if asked.is_stream else "application/json"
    return [_sized(200, b"", {"content-type": media})]


def web_page(_: Asked) -> Sequence[Action]:
    """Say 200, and send the page of some proxy."""
    page = b"<!doctype html><title>Please log in</title>"
    return [_sized(200, page, {"content-type": "text/html"})]


def _half(asked: Asked) -> Sequence[Action]:
    """Return the first part of the answer; its end is announced and does not come."""
    if asked.is_stream:
        its = asked.streamed()
        pieces = (its.begin, *its.words[:SHOWN_WORDS])
        return [_begin(asked), *map(_chunk, filter(None, pieces))]
    answer = _whole(200, asked.wire.whole(asked.text))
    return [answer[: -len(answer) // 4]]


_JSON: Final = {"content-type": "application/json"}
_LAST_CHUNK: Final = b"0\r\n\r\n"


def _begin(asked: Asked) -> bytes:
    headers = {"content-type": asked.wire.media, "transfer-encoding": "chunked"}
    return _head(200, headers)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _whole(status: int, body: Json, headers: Mapping[str, str] | None = None) -> bytes:
    return _sized(status, _encoded(body), {**_JSON, **(headers or {})})


def _sized(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    return _head(status, {**headers, "content-length": str(len(body))}) + body


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


_REASONS: Final = {200: "OK"}


def _encoded(body: Json) -> bytes:
    return json.dumps(body).encode()
