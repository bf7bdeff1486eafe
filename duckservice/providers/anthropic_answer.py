"""Anthropic's messages, whole and streamed, read into completions and chunks.

A stream, state by state; ``ping`` and event types of the future are ignored:

    fresh ──message_start──▶ running ──message_stop──▶ complete
      │                         │
      └─────────────────────────┴──error event, undecodable event, any other
                                   event out of place, end of the bytes──▶ failed

What it has used is reported twice: at its start, so that a stream that breaks
off can be billed, and with its last words, which count.

A block that only Anthropic knows (a server's tool, its result) is an
`OpaquePart` of a whole completion. In a stream it comes as a `TextDelta` without
text, whole, when it is complete: under ``content_block`` of its ``extra``. So
do citations, under ``citations``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import (
    NOTHING,
    Choice,
    Chunk,
    Completion,
    Finished,
    FinishReason,
    OpaquePart,
    Part,
    ReasoningDelta,
    ReasoningPart,
    Started,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.reading import (
    UNREADABLE,
    Malformed,
    mapping_or_empty,
    text_or,
    token_count,
    usage_of,
)

OPAQUE_CHARACTERS_MAX: Final = 4 * 1024 * 1024
"""What the input of one server tool may hold while it streams in."""

_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

_ANSWER_EXTRAS: Final = ("stop_details", "container", "context_management")


class _Usage(msgspec.Struct, gc=False):
    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None
    cache_creation: Any = None
    output_tokens_details: Any = None


class _Message(msgspec.Struct, gc=False):
    type: Any = None
    id: Any = None
    model: Any = None
    content: list[dict[str, Any]] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: _Usage | None = None
    error: Any = None
    stop_details: Any = None
    container: Any = None
    context_management: Any = None


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    citation: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: dict[str, Any] | None = None
    message: _Message | None = None
    usage: _Usage | None = None
    error: Any = None


_message: Final = msgspec.json.Decoder(_Message)
_event: Final = msgspec.json.Decoder(_Event)
_any: Final = msgspec.json.Decoder()
_encode: Final = msgspec.json.Encoder().encode


def decode(body: bytes, errors: Classifier) -> Completion:
    """Return the completion that *body* is.

    Raises `BadProviderResponse` for what is none, and the fitting error for
    one that came with status 200.
    """
    try:
        answer = _message.decode(body)
        if answer.error:
            raise errors.in_band({"error": answer.error})
        if answer.content is None:
            raise Malformed("JSON without content")
        reason = answer.stop_reason
        choice = Choice(
            parts=tuple(map(_part, answer.content)),
            finish_reason=_REASONS.get(reason or "", "stop"),
            native_finish_reason=reason,
            stop_sequence=answer.stop_sequence,
        )
        return Completion(
            id=text_or(answer.id, ""),
            model=text_or(answer.model, ""),
            choices=(choice,),
            usage=_usage(answer.usage) if answer.usage else Usage(estimated=True),
            extra=_extra(answer),
        )
    except UNREADABLE as error:
        raise errors.bad_response(what_it_is(body, error)) from error


@final
class MessageEvents:
    """What the events of one streamed message mean: an `EventDecoder`."""

    __slots__ = (
        "_blocks",
        "_calls",
        "_errors",
        "_finished",
        "_started",
        "_usage",
        "complete",
        "reply_characters",
    )

    def __init__(self, errors: Classifier) -> None:
        self._errors = errors
        self._started = False
        self._finished = False
        self._blocks: dict[int, _Text | _Call | _Opaque] = {}
        """The blocks that are open."""
        self._calls = 0
        self._usage: _Usage | None = None
        self.complete = False
        self.reply_characters = 0

    @property
    def usage_seen(self) -> bool:
        """Whether the server has said what the answer has used."""
        return self._usage is not None

    def take(self, data: bytes, chunks: list[Chunk]) -> None:
        """Append what an event means to *chunks*."""
        self._event(_event.decode(data), chunks)

    def end_of_bytes(self, chunks: list[Chunk]) -> bool:  # noqa: ARG002 - the protocol's
        """Say that only ``message_stop`` ends a message."""
        return False

    def _event(self, event: _Event, chunks: list[Chunk]) -> None:
        match event.type:
            case "content_block_delta":
                self._grow(event, chunks)
            case "content_block_start":
                self._open(event, chunks)
            case "content_block_stop":
                self._shut(event, chunks)
            case "message_start":
                self._start(event, chunks)
            case "message_delta":
                self._finish(event, chunks)
            case "message_stop":
                self._stop(chunks)
            case "error":
                raise self._errors.in_band({"error": event.error or {}})
            case _:
                if event.error:
                    raise self._errors.in_band({"error": event.error})
                if not event.type:
                    raise Malformed("JSON without a type")

    def _start(self, event: _Event, chunks: list[Chunk]) -> None:
        message = event.message
        if message is None or self._started:
            raise Malformed("a message's start without it, or a second one")
        self._started = True
        chunks.append(
            Started(id=text_or(message.id, ""), model=text_or(message.model, ""))
        )
        if message.usage is not None:
            self._report(message.usage, chunks)

    def _stop(self, chunks: list[Chunk]) -> None:
        if not self._started:
            raise Malformed("an end without a start")
        if not self._finished:
            chunks.append(Finished(reason="stop"))
        self.complete = True

    def _finish(self, event: _Event, chunks: list[Chunk]) -> None:
        delta = event.delta
        if delta is not None and delta.stop_reason is not None:
            self._finished = True
            chunks.append(
                Finished(
                    reason=_REASONS.get(delta.stop_reason, "stop"),
                    native_reason=delta.stop_reason,
                    stop_sequence=delta.stop_sequence,
                )
            )
        if event.usage is not None:
            self._report(event.usage, chunks)

    def _report(self, usage: _Usage, chunks: list[Chunk]) -> None:
        # Counts are cumulative, and those that are not said have not changed.
        before = self._usage or _Usage()
        self._usage = _Usage(
            *(
                getattr(before, name)
                if getattr(usage, name) is None
                else getattr(usage, name)
                for name in _Usage.__struct_fields__
            )
        )
        chunks.append(UsageReport(usage=_usage(self._usage)))

    def _open(self, event: _Event, chunks: list[Chunk]) -> None:
        if not self._started or event.content_block is None:
            raise Malformed("a block without its message or without its start")
        fields = event.content_block
        block: _Text | _Call | _Opaque
        match fields.get("type"):
            case "text" | "thinking" | "redacted_thinking":
                block = _Text()
            case "tool_use":
                block = _Call(index=self._calls)
                self._calls += 1
            case _:
                block = _Opaque(fields=fields)
        self._blocks[event.index] = block
        chunks += block.begin(fields)

    def _grow(self, event: _Event, chunks: list[Chunk]) -> None:
        delta = event.delta
        block = self._blocks.get(event.index)
        if block is None or delta is None:
            raise Malformed("a piece of a block that is not open")
        self.reply_characters += (
            len(delta.text) + len(delta.thinking) + len(delta.partial_json)
        )
        chunks += block.add(delta)

    def _shut(self, event: _Event, chunks: list[Chunk]) -> None:
        block = self._blocks.pop(event.index, None)
        if block is None:
            raise Malformed("the end of a block that is not open")
        chunks += block.end()


@attrs.frozen
class _Text:
    """A block of text or of thoughts."""

    def begin(self, fields: dict[str, Any]) -> Sequence[Chunk]:
        if isinstance(fields.get("data"), str):
            return (ReasoningDelta(redacted=fields["data"]),)
        return self.add(
            _Delta(
                text=text_or(fields.get("text"), ""),
                thinking=text_or(fields.get("thinking"), ""),
                signature=text_or(fields.get("signature"), ""),
            )
        )

    def add(self, delta: _Delta) -> Sequence[Chunk]:
        if delta.text:
            return (TextDelta(text=delta.text),)
        if delta.citation is not None:
            return (TextDelta(text="", extra={"citations": [delta.citation]}),)
        if delta.thinking or delta.signature:
            return (
                ReasoningDelta(text=delta.thinking, signature=delta.signature or None),
            )
        return ()

    def end(self) -> Sequence[Chunk]:
        return ()


@attrs.define
class _Call:
    """A tool call for the client."""

    index: int
    has_arguments: bool = False

    def begin(self, fields: dict[str, Any]) -> Sequence[Chunk]:
        given = fields.get("input")
        self.has_arguments = bool(given)
        return (
            ToolCallDelta(
                index=self.index,
                id=text_or(fields.get("id"), ""),
                name=text_or(fields.get("name"), ""),
                arguments=_encode(given).decode() if given else "",
            ),
        )

    def add(self, delta: _Delta) -> Sequence[Chunk]:
        if not delta.partial_json:
            return ()
        self.has_arguments = True
        return (ToolCallDelta(index=self.index, arguments=delta.partial_json),)

    def end(self) -> Sequence[Chunk]:
        if self.has_arguments:
            return ()
        return (ToolCallDelta(index=self.index, arguments="{}"),)


@attrs.define
class _Opaque:
    """A block that only Anthropic knows."""

    fields: dict[str, Any]
    json: str = ""

    def begin(self, fields: dict[str, Any]) -> Sequence[Chunk]:
        self.fields = fields
        return ()

    def add(self, delta: _Delta) -> Sequence[Chunk]:
        self.json += delta.partial_json
        if len(self.json) > OPAQUE_CHARACTERS_MAX:
            raise Malformed("a block without end")
        return ()

    def end(self) -> Sequence[Chunk]:
        if self.json:
            self.fields["input"] = _any.decode(self.json)
        return (TextDelta(text="", extra={"content_block": self.fields}),)


def _part(block: dict[str, Any]) -> Part:
    match block:
        case {"type": "text", "text": str(text)}:
            citations = block.get("citations")
            return TextPart(
                text=text, extra={"citations": citations} if citations else NOTHING
            )
        case {"type": "thinking", "thinking": str(text)}:
            return ReasoningPart(
                text=text, signature=text_or(block.get("signature"), "") or None
            )
        case {"type": "redacted_thinking", "data": str(data)}:
            return ReasoningPart(redacted=data)
        case {"type": "tool_use", "id": str(own_id), "name": str(name)}:
            caller = block.get("caller")
            return ToolCall(
                id=own_id,
                name=name,
                arguments=_encode(block.get("input") or {}).decode(),
                extra={"caller": caller} if caller else NOTHING,
            )
        case _:
            return OpaquePart(format="anthropic", value=block)


def _usage(usage: _Usage) -> Usage:
    """Return the usage with cached tokens in the input, where Anthropic leaves them out."""
    read = token_count(usage.cache_read_input_tokens)
    written = token_count(usage.cache_creation_input_tokens)
    details = mapping_or_empty(usage.output_tokens_details)
    return usage_of(
        input_tokens=token_count(usage.input_tokens) + read + written,
        output_tokens=usage.output_tokens,
        cached=read,
        cache_write=written,
        hour_write=mapping_or_empty(usage.cache_creation).get(
            "ephemeral_1h_input_tokens"
        ),
        reasoning=details.get("thinking_tokens"),
    )


def _extra(answer: _Message) -> Mapping[str, Any]:
    extra = {name: getattr(answer, name) for name in _ANSWER_EXTRAS}
    return {name: value for name, value in extra.items() if value is not None}
