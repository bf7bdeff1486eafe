"""Cohere's streamed answers, event by event, read into chunks.

    fresh ──message-start──▶ running ──message-end──▶ complete
      │                         │
      └─────────────────────────┴──message-end with a failure, undecodable event,
                                   any other event out of place, end of bytes──▶ failed

Often ``data: [DONE]`` comes behind the end (43 of 50 recorded streams), and says
nothing more. Event types of the future are ignored.

A citation comes as a `TextDelta` without text, under ``cohere_citations`` of its
``extra``; so does each piece of a plan to call tools, under ``tool_plan``.
"""

from __future__ import annotations

from typing import Any, Final, final

import msgspec

from duckservice.completion import (
    Chunk,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from duckservice.providers.cohere.answer import (
    CITATIONS,
    PLAN,
    REASONS,
    failure,
    made_up_id,
    usage,
)
from duckservice.providers.cohere.errors import FAILURES
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import Origin
from duckservice.providers.reading import Malformed, text_or

TOOL_CALLS_MAX: Final = 1024
"""What is beyond is an attack on our memory, not an answer."""


class _Content(msgspec.Struct, gc=False):
    text: str | None = None
    thinking: str | None = None


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, gc=False):
    id: Any = None
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    # At a message's start these are empty lists.
    content: _Content | list[Any] | None = None
    tool_plan: str | None = None
    tool_calls: _Call | list[Any] | None = None
    citations: Any = None


class _Delta(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None
    usage: Any = None
    error: Any = None
    error_type: Any = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    id: Any = None
    delta: _Delta | None = None
    message: Any = None


_NO_MESSAGE: Final = _Message()
_NO_DELTA: Final = _Delta()

_event: Final = msgspec.json.Decoder(_Event)


@final
class ChatEvents:
    """What the events of one streamed answer mean: an `EventDecoder`."""

    __slots__ = (
        "_calls",
        "_errors",
        "_origin",
        "_started",
        "_usage_seen",
        "complete",
        "reply_characters",
    )

    def __init__(self, errors: Classifier, origin: Origin) -> None:
        self._errors = errors
        self._origin = origin
        self._started = False
        self._calls: dict[int, int] = {}
        """Cohere's index of each call to ours."""
        self._usage_seen = False
        self.complete = False
        self.reply_characters = 0

    @property
    def usage_seen(self) -> bool:
        """Whether Cohere has said what the answer has used."""
        return self._usage_seen

    def take(self, data: bytes, chunks: list[Chunk]) -> None:
        """Append what an event means to *chunks*."""
        event = _event.decode(data)
        if isinstance(event.message, str):
            raise self._errors.in_band({"message": event.message})
        if not event.type:
            raise Malformed("JSON without a type")
        if self._started == (event.type == "message-start"):
            raise Malformed("a message that does not begin with one start")
        self._event(event, event.delta or _NO_DELTA, chunks)

    def end_of_bytes(self, chunks: list[Chunk]) -> bool:  # noqa: ARG002 - the protocol's
        """Say that only ``message-end`` ends a message."""
        return False

    def _event(self, event: _Event, delta: _Delta, chunks: list[Chunk]) -> None:
        message = delta.message or _NO_MESSAGE
        match event.type:
            case "content-delta" | "content-start":
                self._content(message.content, chunks)
            case "tool-plan-delta":
                self._plan(message.tool_plan or "", chunks)
            case "tool-call-delta":
                self._grow_call(event.index, message.tool_calls, chunks)
            case "tool-call-start":
                self._begin_call(event.index, message.tool_calls, chunks)
            case "citation-start":
                extra = {CITATIONS: [message.citations]}
                chunks.append(TextDelta(text="", extra=extra))
            case "message-start":
                self._start(event, chunks)
            case "message-end":
                self._end(delta, chunks)
            case _:
                pass

    def _start(self, event: _Event, chunks: list[Chunk]) -> None:
        self._started = True
        own_id = text_or(event.id, "") or self._origin.answer_id
        chunks.append(Started(id=own_id, model=self._origin.model))

    def _content(
        self, content: _Content | list[Any] | None, chunks: list[Chunk]
    ) -> None:
        if not isinstance(content, _Content):
            raise Malformed("a piece of content that is no object")
        if content.thinking:
            self.reply_characters += len(content.thinking)
            chunks.append(ReasoningDelta(text=content.thinking))
        if content.text:
            self.reply_characters += len(content.text)
            chunks.append(TextDelta(text=content.text))

    def _plan(self, piece: str, chunks: list[Chunk]) -> None:
        self.reply_characters += len(piece)
        chunks.append(TextDelta(text="", extra={PLAN: piece}))

    def _begin_call(
        self, place: int, call: _Call | list[Any] | None, chunks: list[Chunk]
    ) -> None:
        function = call.function if isinstance(call, _Call) else None
        if not isinstance(call, _Call) or function is None or not function.name:
            raise Malformed("a tool call without a name")
        if place in self._calls:
            raise Malformed("a second start of a tool call")
        index = len(self._calls)
        if index >= TOOL_CALLS_MAX:
            raise Malformed("too many tool calls")
        self._calls[place] = index
        arguments = function.arguments or ""
        self.reply_characters += len(function.name) + len(arguments)
        chunks.append(
            ToolCallDelta(
                index=index,
                id=text_or(call.id, "") or made_up_id(self._origin, index),
                name=function.name,
                arguments=arguments,
            )
        )

    def _grow_call(
        self, place: int, call: _Call | list[Any] | None, chunks: list[Chunk]
    ) -> None:
        index = self._calls.get(place)
        if index is None or not isinstance(call, _Call):
            raise Malformed("a piece of a tool call that has not begun")
        arguments = call.function.arguments if call.function is not None else None
        if arguments:
            self.reply_characters += len(arguments)
            chunks.append(ToolCallDelta(index=index, arguments=arguments))

    def _end(self, delta: _Delta, chunks: list[Chunk]) -> None:
        reason = delta.finish_reason
        if reason in FAILURES or delta.error:
            raise failure(
                self._errors, reason=reason, said=delta.error, kind=delta.error_type
            )
        chunks.append(
            Finished(reason=REASONS.get(reason or "", "stop"), native_reason=reason)
        )
        used = usage(delta.usage)
        if used is not None:
            self._usage_seen = True
            chunks.append(UsageReport(usage=used))
        self.complete = True
