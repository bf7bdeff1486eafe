"""What the readers of upstreams' answers must keep to, whatever an upstream says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Final

from duckservice.completion import Chunk, Completion
from duckservice.errors import DuckError
from duckservice.gateway.wire import (
    anthropic_reply,
    openai_reply,
)
from duckservice.gateway.wire.anthropic_stream import MessageStreamEncoder
from duckservice.gateway.wire.openai_stream import ChatStreamEncoder
from duckservice.gateway.wire.responses_stream import ResponseStreamEncoder
from duckservice.providers.bedrock.eventstream import EventStreamFraming
from duckservice.providers.framing import Framing, FramingError, StreamEvent
from duckservice.providers.http1_answer import AnswerParser, BrokenAnswer
from duckservice.providers.ollama.ndjson import NdjsonFraming
from duckservice.providers.sse import SseParser
from tests.fuzz.cuts import pieces_of
from tests.providers import (
    bedrock,
    event_bytes,
    gemini,
    responses_api,
    test_anthropic,
    test_cohere,
    test_ollama,
    test_openai,
)

EVENT_BYTES_MAX: Final = 256
_CUT_OFF: Final = StreamEvent(None, b"{")

DIALECTS: Final = (
    test_openai.OPENAI,
    test_anthropic.CLAUDE,
    gemini.GEMINI,
    responses_api.OPENAI,
    bedrock.BEDROCK,
    test_cohere.DIALECT,
    test_ollama.DIALECT,
    test_openai.COMPATIBLE,
)
"""One of each wire format; the first byte of an input chooses one."""


def head(given: bytes) -> None:
    """An HTTP answer is the same in one piece and in many, or breaks off the same way."""
    data, pieces = pieces_of(given)
    whole = _answer([data])
    assert whole == _answer(pieces or [b""])
    assert whole == _answer([data[i : i + 1] for i in range(len(data))] or [b""])


def _answer(pieces: Sequence[bytes]) -> tuple[object, ...]:
    parser, body = AnswerParser(), bytearray()
    try:
        for piece in pieces:
            parser.feed(piece)
            while parser.head_complete and (more := parser.take()):
                body += more
            if parser.complete:
                break
        else:
            parser.feed_eof()
    except BrokenAnswer:
        return "broken", parser.status if parser.head_complete else 0, body
    return parser.status, parser.headers, body


def sse(given: bytes) -> None:
    """Events are the same in one piece and in many, none is larger than allowed."""
    _same_events(given, lambda: SseParser(event_bytes_max=EVENT_BYTES_MAX))


def ndjson(given: bytes) -> None:
    """Lines are the same in one piece and in many, none is longer than allowed."""
    _same_events(given, lambda: NdjsonFraming(line_bytes_max=EVENT_BYTES_MAX))


def eventstream(given: bytes) -> None:
    """Messages of the binary kind are the same in one piece and in many."""

    def opened() -> Framing:
        return EventStreamFraming(message_bytes_max=EVENT_BYTES_MAX)

    _same_events(given, opened)
    _same_events(given[:1] + _framed(given[1:]), opened)


def _framed(data: bytes) -> bytes:
    """Return messages with right checksums, which no fuzzer would find: their insides."""
    messages: list[bytes] = []
    for part in data.split(b"\n\n")[:8]:
        headers, _, payload = part.partition(b"\n")
        messages.append(event_bytes.framed(headers, payload))
    return b"".join(messages)


def _same_events(given: bytes, opened: Callable[[], Framing]) -> None:
    data, pieces = pieces_of(given)
    whole = _events(opened(), [data])
    assert whole == _events(opened(), pieces)
    assert whole == _events(opened(), [data[i : i + 1] for i in range(len(data))])


def _events(framing: Framing, pieces: Sequence[bytes]) -> list[object]:
    events: list[object] = []
    try:
        for piece in pieces:
            found = framing.feed(piece)
            assert all(len(event.data) <= 4 * EVENT_BYTES_MAX for event in found)
            events += found
        events.append(framing.close())
    except FramingError as error:
        events += (*error.events, "broken")
    # The binary kind says it so, where nothing follows.
    return [*events[:-1], "broken"] if events[-1:] == [_CUT_OFF] else events


def answers(given: bytes) -> None:
    """Any body is an answer that every client's format has words for, or a typed error."""
    dialect = DIALECTS[given[0] % len(DIALECTS) if given else 0]
    data, pieces = pieces_of(given[1:])
    with contextlib.suppress(DuckError):
        _tell(dialect.decode(data))
    whole, parted = _chunks(dialect, [data]), _chunks(dialect, pieces)
    assert whole == parted, f"{whole}\n{parted}"
    _stream(whole[0])


def _chunks(dialect, pieces: Sequence[bytes]) -> tuple[list[Chunk], str]:
    stream, chunks = dialect.open_stream(), list[Chunk]()
    try:
        for piece in pieces:
            if stream.ended:
                break
            chunks += stream.feed(piece)
        chunks += stream.close()
    except DuckError as error:
        return chunks, type(error).__name__
    return chunks, ""


def _tell(completion: Completion) -> None:
    for encode in (
        lambda: openai_reply.encode_completion(completion),
        lambda: anthropic_reply.encode_completion(completion),
    ):
        try:
            json.loads(encode())
        except DuckError:
            continue


def _stream(chunks: Sequence[Chunk]) -> None:
    for encoder in (
        ChatStreamEncoder(include_usage=True),
        MessageStreamEncoder(),
        ResponseStreamEncoder(settings={}, clock=lambda: 1.0),
    ):
        try:
            written = b"".join(encoder.encode([chunk]) for chunk in chunks)
        except DuckError:
            continue
        for line in written.decode().split("\n"):
            if line.startswith("data: {"):
                json.loads(line[6:])
