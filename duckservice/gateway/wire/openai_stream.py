"""Chunks written as OpenAI's stream of server-sent events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_never, final

import attrs
import msgspec

from duckservice.completion import (
    NOTHING,
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
from duckservice.gateway.wire.errors import openai_error
from duckservice.gateway.wire.openai_reply import (
    MESSAGE_EXTRAS,
    call_extras,
    finish_reason,
    usage_fields,
    without,
)

_CHUNK_KEYS = frozenset({"id", "object", "created", "model", "choices", "usage"})
_CHOICE_KEYS = frozenset({"index", "delta", "finish_reason", "logprobs"})

_CHOICE_OPENS = b'[{"index":'

_encode = msgspec.json.Encoder().encode


@final
@attrs.define(kw_only=True)
class ChatStreamEncoder:
    """Writes one stream: `encode` each batch, then `finish` or `error`.

    A stream that ends with an error has no ``[DONE]``, so the SDKs raise.
    """

    include_usage: bool = False
    legacy_functions: bool = False
    now: float = 0.0
    """Seconds since the epoch, for a provider that does not say."""
    _head: bytes = b""
    """Every chunk up to the number of its choice."""
    _tail: bytes = b"}]}\n\n"
    """Every chunk from the end of its choice on."""
    _text_head: bytes = b""
    """A chunk of text of the first choice up to the text."""
    _text_tail: bytes = b""
    _greeted: set[int] = attrs.field(factory=set[int])
    """The choices of which the role has been told."""
    _usage: Usage | None = None

    def __attrs_post_init__(self) -> None:
        if self.include_usage:
            self._tail = b'}],"usage":null}\n\n'
        self._text_tail = b'},"logprobs":null,"finish_reason":null' + self._tail
        self._start(Started(id="", model=""))

    def encode(self, batch: Sequence[Chunk]) -> bytes:
        """Return the events of chunks that arrived together."""
        return b"".join([self._chunk(chunk) for chunk in batch])

    def finish(self) -> bytes:
        """Return what ends a stream that is complete."""
        if not self.include_usage or self._usage is None:
            return b"data: [DONE]\n\n"
        head = self._head.removesuffix(_CHOICE_OPENS)
        usage = _encode(usage_fields(self._usage))
        return head + b'[],"usage":' + usage + b"}\n\ndata: [DONE]\n\n"

    def error(self, error: DuckError) -> bytes:
        """Return what ends a stream that has failed."""
        return b"data: " + _encode(openai_error(error)) + b"\n\n"

    def _chunk(self, chunk: Chunk) -> bytes:
        if (
            type(chunk) is TextDelta
            and not chunk.choice
            and not chunk.extra
            and 0 in self._greeted
        ):  # nearly every one: the general way would take 4 times as long
            return self._text_head + _encode(chunk.text) + self._text_tail
        match chunk:
            case Started():
                self._start(chunk)
                return self._greet(0)
            case TextDelta():
                return self._text(chunk)
            case ReasoningDelta(text=text, choice=choice):
                # A signature has no place in this format.
                return self._delta(choice, {"reasoning_content": text}) if text else b""
            case RefusalDelta(text=text, choice=choice):
                return self._delta(choice, {"refusal": text})
            case ToolCallDelta():
                return self._tool_call(chunk)
            case Finished():
                return self._finished(chunk)
            case UsageReport(usage=usage):
                self._usage = usage
                return b""
            case _:
                assert_never(chunk)

    def _start(self, started: Started) -> None:
        head = _encode(
            {
                "id": started.id,
                "object": "chat.completion.chunk",
                "created": started.created or int(self.now),
                "model": started.model,
                **without(started.extra, _CHUNK_KEYS),
            }
        )
        self._head = b"data: " + head[:-1] + b',"choices":' + _CHOICE_OPENS
        self._text_head = self._head + b'0,"delta":{"content":'

    def _text(self, chunk: TextDelta) -> bytes:
        delta: dict[str, Any] = {"content": chunk.text}
        if not chunk.extra:
            return self._delta(chunk.choice, delta)
        choice: dict[str, Any] = {"logprobs": None}
        for key, value in chunk.extra.items():
            if key in MESSAGE_EXTRAS:
                delta[key] = value
            elif key == "logprobs" or key not in _CHOICE_KEYS:
                choice[key] = value
        return self._delta(chunk.choice, delta, fields=choice)

    def _tool_call(self, chunk: ToolCallDelta) -> bytes:
        function: dict[str, Any] = {"arguments": chunk.arguments}
        if chunk.name is not None:
            function = {"name": chunk.name, "arguments": chunk.arguments}
        if self.legacy_functions:
            # The format has a place for one call only, and we asked for one.
            call = {"function_call": function}
            return self._delta(chunk.choice, call) if chunk.index == 0 else b""
        fields: dict[str, Any] = {"index": chunk.index, "function": function}
        if chunk.id is not None:
            fields["id"] = chunk.id
            fields["type"] = "function"
        if chunk.extra:
            fields.update(call_extras(chunk.extra))
        return self._delta(chunk.choice, {"tool_calls": [fields]})

    def _finished(self, chunk: Finished) -> bytes:
        reason = finish_reason(chunk.reason, legacy_functions=self.legacy_functions)
        return self._delta(chunk.choice, {}, finish=_encode(reason))

    def _greet(self, choice: int) -> bytes:
        if choice in self._greeted:
            return b""
        self._greeted.add(choice)
        return self._delta(choice, {"role": "assistant", "content": ""})

    def _delta(
        self,
        choice: int,
        delta: Mapping[str, Any],
        *,
        fields: Mapping[str, Any] = NOTHING,
        finish: bytes = b"null",
    ) -> bytes:
        rest = _encode(fields)[1:-1] if fields else b'"logprobs":null'
        return b'%b%b%d,"delta":%b,%b,"finish_reason":%b%b' % (
            self._greet(choice),
            self._head,
            choice,
            _encode(delta),
            rest,
            finish,
            self._tail,
        )
