"""Chunks written as Anthropic's stream of server-sent events.

    Started      message_start
    delta        content_block_start if its block is not open, content_block_delta
    Finished     content_block_stop
    (finish)     message_delta with the stop reason and the usage, message_stop
    (error)      error

At most one block is open. It ends when a delta of another kind, or of another
tool call, arrives, or after a signature, which ends its thinking. Should a
delta arrive for a tool call whose block has ended, it goes out under that
block's index all the same: a client that collects by index loses nothing.

What only Anthropic knows comes in the ``extra`` of a `TextDelta`: citations, and
whole blocks under ``content_block``. It goes out again as what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, assert_never, final

import attrs
import msgspec

from duckservice.completion import (
    Chunk,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from duckservice.errors import DuckError
from duckservice.gateway.wire.anthropic_reply import (
    known_extras,
    stop_reason,
    usage_fields,
)
from duckservice.gateway.wire.errors import anthropic_error
from duckservice.gateway.wire.pictures import pictures_of, unsayable_picture

_Kind: TypeAlias = Literal["text", "thinking", "tool_use", "opaque"]

_TEXT_HEAD = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
    b'"delta":{"type":"text_delta","text":'
)
_TEXT_TAIL = b"}}\n\n"
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

_encode = msgspec.json.Encoder().encode


@final
@attrs.define
class MessageStreamEncoder:
    """Writes one stream: `encode` each batch, then `finish` or `error`."""

    _blocks: int = 0
    """How many blocks have begun."""
    _open: _Kind | None = None
    """What the last block that has begun holds, while it is open."""
    _text_head: bytes = b""
    """What every delta of the open text block begins with; empty without one."""
    _calls: dict[int, int] = attrs.field(factory=dict[int, int])
    """The block of each tool call."""
    _finished: Finished | None = None
    _refused: bool = False
    _usage: Usage = attrs.field(factory=Usage)

    def encode(self, batch: Sequence[Chunk]) -> bytes:
        """Return the events of chunks that arrived together.

        Raises `Unprocessable` for a picture, which the format has no words for.
        """
        if len(batch) == 1 and self._text_head:
            chunk = batch[0]
            if type(chunk) is TextDelta and not chunk.choice and not chunk.extra:
                return self._text_head + _encode(chunk.text) + _TEXT_TAIL
        for chunk in batch:
            # A provider of the same format says with its first chunk how long
            # the prompt is, and message_start has a place for it.
            if type(chunk) is UsageReport:
                self._usage = chunk.usage
        return b"".join([self._chunk(chunk) for chunk in batch])

    def finish(self) -> bytes:
        """Return what ends a stream that is complete."""
        end = self._finished or Finished(reason="stop")
        delta = {
            "stop_reason": stop_reason(
                end.reason,
                end.native_reason,
                end.stop_sequence,
                refused=self._refused,
                called=bool(self._calls),
            ),
            "stop_sequence": end.stop_sequence,
        }
        usage = usage_fields(self._usage)
        return self._close() + _event("message_delta", delta=delta, usage=usage) + _STOP

    def error(self, error: DuckError) -> bytes:
        """Return what ends a stream that has failed."""
        return b"event: error\ndata: " + _encode(anthropic_error(error)) + b"\n\n"

    def _chunk(self, chunk: Chunk) -> bytes:
        match chunk:
            case Started():
                return self._start(chunk)
            case UsageReport():
                return b""
            case _ if chunk.choice:
                # A message has no second choice, and the request had no place
                # to ask for one.
                return b""
            case TextDelta():
                return self._text_or_extra(chunk)
            case RefusalDelta(text=text):
                self._refused = True
                return self._text(text)
            case ReasoningDelta():
                return self._reasoning(chunk)
            case ToolCallDelta():
                return self._tool_call(chunk)
            case Finished():
                self._finished = chunk
                return self._close()
            case _:
                assert_never(chunk)

    def _start(self, started: Started) -> bytes:
        message: dict[str, Any] = {
            "id": started.id,
            "type": "message",
            "role": "assistant",
            "model": started.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_fields(self._usage),
            **known_extras(started.extra),
        }
        return _event("message_start", message=message)

    def _text_or_extra(self, chunk: TextDelta) -> bytes:
        if not chunk.extra:
            return self._text(chunk.text)
        if any(pictures_of(chunk.extra)):
            raise unsayable_picture()
        events = [self._text(chunk.text)] if chunk.text else []
        for citation in chunk.extra.get("citations") or ():
            events.append(self._open_text())
            its = {"type": "citations_delta", "citation": citation}
            index = self._blocks - 1
            events.append(_event("content_block_delta", index=index, delta=its))
        if (block := chunk.extra.get("content_block")) is not None:
            events += [self._open_block("opaque", block), self._close()]
        return b"".join(events)

    def _text(self, text: str) -> bytes:
        return self._open_text() + self._text_head + _encode(text) + _TEXT_TAIL

    def _open_text(self) -> bytes:
        if self._text_head:
            return b""
        return self._open_block("text", {"type": "text", "text": ""})

    def _reasoning(self, chunk: ReasoningDelta) -> bytes:
        if chunk.redacted is not None:
            block = {"type": "redacted_thinking", "data": chunk.redacted}
            return self._open_block("thinking", block) + self._close()
        if not chunk.text and chunk.signature is None:
            return b""
        events: list[bytes] = []
        if self._open != "thinking":
            block = {"type": "thinking", "thinking": "", "signature": ""}
            events.append(self._open_block("thinking", block))
        index = self._blocks - 1
        if chunk.text:
            events.append(_delta(index, type="thinking_delta", thinking=chunk.text))
        if chunk.signature is not None:
            signature = chunk.signature
            events.append(_delta(index, type="signature_delta", signature=signature))
            events.append(self._close())
        return b"".join(events)

    def _tool_call(self, chunk: ToolCallDelta) -> bytes:
        opening = b""
        if chunk.index not in self._calls:
            block: dict[str, Any] = {
                "type": "tool_use",
                "id": chunk.id or f"call_{chunk.index}",
                "name": chunk.name or "",
                "input": {},
            }
            self._calls[chunk.index] = self._blocks
            opening = self._open_block("tool_use", block)
        if not chunk.arguments:
            return opening
        index = self._calls[chunk.index]
        return opening + _delta(
            index, type="input_json_delta", partial_json=chunk.arguments
        )

    def _open_block(self, kind: _Kind, block: dict[str, Any]) -> bytes:
        closing = self._close()
        index = self._blocks
        self._blocks += 1
        self._open = kind
        if kind == "text":
            self._text_head = _TEXT_HEAD % index
        return closing + _event("content_block_start", index=index, content_block=block)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        self._text_head = b""
        return _event("content_block_stop", index=self._blocks - 1)


def _delta(index: int, **delta: str) -> bytes:
    return _event("content_block_delta", index=index, delta=delta)


def _event(name: str, **fields: Any) -> bytes:
    data = _encode({"type": name, **fields})
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
