"""Ollama's answers, whole and streamed: a stream is lines of the same shape.

    fresh ──first line──▶ running ──line with "done": true──▶ complete
      │                      │
      └──────────────────────┴──line with "error", undecodable line, end of the
                                bytes──▶ failed

An answer of ``/api/generate`` has ``response`` and ``thinking`` in place of a
message; both are read. A tool call comes whole. Its id is the server's own where it
has one (since 2025) that is unique in the answer, else one is made up. Ollama says
``stop`` for calls too: our finish reason is ``tool_calls`` then.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, final

import msgspec

from duckservice.completion import (
    NOTHING,
    Choice,
    Chunk,
    Completion,
    Finished,
    FinishReason,
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
from duckservice.providers.origin import Origin
from duckservice.providers.reading import UNREADABLE, Malformed, text_or, usage_of

TOOL_CALLS_MAX: Final = 1024
"""What is beyond is an attack on our memory, not an answer."""

_DURATIONS: Final = (
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
)
"""In nanoseconds; kept in a completion's ``extra``."""


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct, gc=False):
    function: _Function | None = None
    id: Any = None


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Body(msgspec.Struct, gc=False):
    model: Any = None
    created_at: Any = None
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    total_duration: Any = None
    load_duration: Any = None
    prompt_eval_duration: Any = None
    eval_duration: Any = None
    error: Any = None

    def said(self) -> _Message:
        """Return what the model said, in whichever place it stands."""
        if self.message is not None:
            return self.message
        if self.response is None and not self.done:
            raise Malformed("JSON without a message")
        return _Message(content=self.response, thinking=self.thinking)


_body: Final = msgspec.json.Decoder(_Body)


def decode(body: bytes, errors: Classifier, origin: Origin) -> Completion:
    """Return the completion that *body* is.

    Raises `BadProviderResponse` for what is none, and the fitting error for one
    that came with status 200.
    """
    try:
        answer = _body.decode(body)
        if answer.error:
            raise errors.in_band({"error": answer.error})
        message = answer.said()
        if not answer.done:
            raise Malformed("an answer that is not done")
        return Completion(
            id=origin.answer_id,
            model=text_or(answer.model, "") or origin.model,
            created=epoch(answer.created_at),
            choices=(_choice(answer, message, origin),),
            usage=_usage(answer) or Usage(estimated=True),
            extra=_durations(answer),
        )
    except UNREADABLE as error:
        raise errors.bad_response(what_it_is(body, error)) from error


@final
class ChatLines:
    """What the lines of one streamed answer mean: an `EventDecoder`."""

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
        self._calls = _Calls(origin)
        self._usage_seen = False
        self.complete = False
        self.reply_characters = 0

    @property
    def usage_seen(self) -> bool:
        """Whether the server has said what the answer has used."""
        return self._usage_seen

    def take(self, data: bytes, chunks: list[Chunk]) -> None:
        """Append what a line means to *chunks*."""
        line = _body.decode(data)
        if line.error:
            raise self._errors.in_band({"error": line.error})
        message = line.said()
        if not self._started:
            self._started = True
            chunks.append(
                Started(
                    id=self._origin.answer_id,
                    model=text_or(line.model, "") or self._origin.model,
                    created=epoch(line.created_at),
                )
            )
        if message.thinking:
            self.reply_characters += len(message.thinking)
            chunks.append(ReasoningDelta(text=message.thinking))
        if message.content:
            self.reply_characters += len(message.content)
            chunks.append(TextDelta(text=message.content))
        for call in message.tool_calls or ():
            self._call(call, chunks)
        if line.done:
            self._finish(line, chunks)

    def end_of_bytes(self, chunks: list[Chunk]) -> bool:  # noqa: ARG002 - the protocol's
        """Say that only a line that is done ends an answer."""
        return False

    def _call(self, call: _Call, chunks: list[Chunk]) -> None:
        index = self._calls.count
        made = self._calls.read(call)
        self.reply_characters += len(made.name) + len(made.arguments)
        chunks.append(
            ToolCallDelta(
                index=index, id=made.id, name=made.name, arguments=made.arguments
            )
        )

    def _finish(self, line: _Body, chunks: list[Chunk]) -> None:
        reason = _reason(line.done_reason, calls=self._calls.count > 0)
        chunks.append(Finished(reason=reason, native_reason=line.done_reason))
        usage = _usage(line)
        if usage is not None:
            self._usage_seen = True
            chunks.append(UsageReport(usage=usage))
        self.complete = True


@final
class _Calls:
    """The tool calls of one answer so far, each with an id of its own."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._ids: set[str] = set()

    @property
    def count(self) -> int:
        return len(self._ids)

    def read(self, call: _Call) -> ToolCall:
        function = call.function or _Function()
        if not function.name:
            raise Malformed("a tool call without a name")
        if self.count >= TOOL_CALLS_MAX:
            raise Malformed("too many tool calls")
        own_id = text_or(call.id, "")
        if not own_id or own_id in self._ids:
            own_id = f"call_{self._origin.answer_id}_{self.count}"
        self._ids.add(own_id)
        arguments = _arguments(bytes(function.arguments))
        return ToolCall(id=own_id, name=function.name, arguments=arguments)


def epoch(date: object) -> int:
    """Return the seconds since the epoch of an RFC 3339 date, 0 for anything else."""
    try:
        return max(0, int(datetime.fromisoformat(text_or(date, "")).timestamp()))
    except (ValueError, OverflowError):
        return 0


def _choice(answer: _Body, message: _Message, origin: Origin) -> Choice:
    parts: list[Part] = []
    if message.thinking:
        parts.append(ReasoningPart(text=message.thinking))
    if message.content:
        parts.append(TextPart(text=message.content))
    calls = _Calls(origin)
    parts += [calls.read(call) for call in message.tool_calls or ()]
    return Choice(
        parts=tuple(parts),
        finish_reason=_reason(answer.done_reason, calls=calls.count > 0),
        native_finish_reason=answer.done_reason,
    )


def _reason(native: str | None, *, calls: bool) -> FinishReason:
    if native == "length":
        return "length"
    return "tool_calls" if calls else "stop"


def _arguments(raw: bytes) -> str:
    """Return the arguments' JSON as the server wrote it; some write it as a text."""
    match raw[:1]:
        case b"{":
            return raw.decode()
        case b'"':
            return msgspec.json.decode(raw, type=str)
        case b"n":
            return "{}"
        case _:
            raise Malformed("arguments that are no object")


def _usage(answer: _Body) -> Usage | None:
    if answer.prompt_eval_count is None and answer.eval_count is None:
        return None
    return usage_of(
        input_tokens=answer.prompt_eval_count, output_tokens=answer.eval_count
    )


def _durations(answer: _Body) -> Mapping[str, Any]:
    said = {name: getattr(answer, name) for name in _DURATIONS}
    return {k: v for k, v in said.items() if isinstance(v, int)} or NOTHING
