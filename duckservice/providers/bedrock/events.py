"""The events of a ConverseStream answer read into chunks.

A stream, state by state; events that we do not know are ignored:

    fresh ──any event──▶ running ──messageStop──▶ finished ──metadata──▶ complete
                            │
                            └──exception, undecodable event, end of the bytes──▶ failed

Only calls have a start of their own; texts and thoughts begin with their first piece.
A stream that ends behind ``messageStop`` is complete too, with its usage estimated.
"""

from __future__ import annotations

from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import (
    Chunk,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from duckservice.errors import DuckError
from duckservice.providers.bedrock.answer import (
    Camel,
    TokenUsage,
    ToolUse,
    finish_reason,
    stop_sequence,
    usage,
)
from duckservice.providers.bedrock.failures import status_of
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import Origin
from duckservice.providers.reading import Malformed


class _Start(Camel):
    tool_use: ToolUse | None = None


class _BlockStart(Camel):
    content_block_index: int = 0
    start: _Start | None = None


class _MoreInput(Camel):
    input: str = ""


class _MoreThought(Camel):
    text: str = ""
    signature: str | None = None
    redacted_content: str | None = None


class _Delta(Camel):
    text: str | None = None
    tool_use: _MoreInput | None = None
    reasoning_content: _MoreThought | None = None


class _BlockDelta(Camel):
    content_block_index: int = 0
    delta: _Delta | None = None


class _BlockStop(Camel):
    content_block_index: int = 0


class _Stop(Camel):
    stop_reason: str | None = None
    additional_model_response_fields: Any = None


class _Metadata(Camel):
    usage: TokenUsage | None = None


class _Event(Camel):
    content_block_delta: _BlockDelta | None = None
    content_block_start: _BlockStart | None = None
    content_block_stop: _BlockStop | None = None
    message_stop: _Stop | None = None
    metadata: _Metadata | None = None
    exception: str | None = None
    body: Any = None


_event: Final = msgspec.json.Decoder(_Event)
_encode: Final = msgspec.json.Encoder().encode


@attrs.define
class _Call:
    """A tool call that is being written."""

    index: int
    has_arguments: bool = False


@final
class ConverseEvents:
    """What the events of one streamed answer mean: an `EventDecoder`."""

    __slots__ = (
        "_calls",
        "_errors",
        "_finished",
        "_metadata_seen",
        "_open",
        "_origin",
        "_started",
        "_usage",
        "complete",
        "reply_characters",
    )

    def __init__(self, origin: Origin, errors: Classifier) -> None:
        self._origin = origin
        self._errors = errors
        self._started = False
        self._finished = False
        self._metadata_seen = False
        self._calls = 0
        self._open: dict[int, _Call] = {}
        """By the index of their block."""
        self._usage: Usage | None = None
        self.complete = False
        self.reply_characters = 0

    @property
    def usage_seen(self) -> bool:
        """Whether Bedrock has said what the answer has used."""
        return self._usage is not None

    def take(self, data: bytes, chunks: list[Chunk]) -> None:
        """Append what an event means to *chunks*."""
        event = _event.decode(data)
        if event.exception is not None:
            raise self._exception(event.exception, event.body)
        if not self._started:
            self._started = True
            chunks.append(Started(id=self._origin.answer_id, model=self._origin.model))
        if event.content_block_delta is not None:
            self._grow(event.content_block_delta, chunks)
        elif event.content_block_start is not None:
            self._begin(event.content_block_start, chunks)
        elif event.content_block_stop is not None:
            self._end(event.content_block_stop.content_block_index, chunks)
        elif event.message_stop is not None:
            self._finish(event.message_stop, chunks)
        elif event.metadata is not None:
            self._account(event.metadata, chunks)

    def end_of_bytes(self, chunks: list[Chunk]) -> bool:  # noqa: ARG002 - the protocol's
        """Say whether all was said, if not what it has used."""
        return self._finished

    def _exception(self, name: str, body: object) -> DuckError:
        headers = {"x-amzn-errortype": name}
        return self._errors(status_of(name), headers, _encode(body))

    def _begin(self, block: _BlockStart, chunks: list[Chunk]) -> None:
        call = None if block.start is None else block.start.tool_use
        if call is None:
            return
        self._refuse_behind_the_end()
        if block.content_block_index in self._open:
            raise Malformed("a second start of one block")
        self._open[block.content_block_index] = _Call(self._calls)
        chunks.append(
            ToolCallDelta(index=self._calls, id=call.tool_use_id, name=call.name)
        )
        self._calls += 1

    def _grow(self, block: _BlockDelta, chunks: list[Chunk]) -> None:
        self._refuse_behind_the_end()
        delta = block.delta
        if delta is None:
            raise Malformed("a piece of a block without the piece")
        if delta.text:
            self.reply_characters += len(delta.text)
            chunks.append(TextDelta(text=delta.text))
        if delta.tool_use is not None:
            self._add_input(block.content_block_index, delta.tool_use.input, chunks)
        if (more := delta.reasoning_content) is not None:
            self.reply_characters += len(more.text)
            chunks.append(
                ReasoningDelta(
                    text=more.text,
                    signature=more.signature,
                    redacted=more.redacted_content,
                )
            )

    def _add_input(self, block: int, piece: str, chunks: list[Chunk]) -> None:
        call = self._open.get(block)
        if call is None:
            raise Malformed("a piece of a call that has not begun")
        if piece:
            call.has_arguments = True
            self.reply_characters += len(piece)
            chunks.append(ToolCallDelta(index=call.index, arguments=piece))

    def _end(self, block: int, chunks: list[Chunk]) -> None:
        call = self._open.pop(block, None)
        if call is not None and not call.has_arguments:
            chunks.append(ToolCallDelta(index=call.index, arguments="{}"))

    def _finish(self, stop: _Stop, chunks: list[Chunk]) -> None:
        self._refuse_behind_the_end()
        for block in tuple(self._open):
            self._end(block, chunks)
        self._finished = True
        chunks.append(
            Finished(
                reason=finish_reason(stop.stop_reason),
                native_reason=stop.stop_reason,
                stop_sequence=stop_sequence(stop.additional_model_response_fields),
            )
        )
        self.complete = self._metadata_seen

    def _account(self, metadata: _Metadata, chunks: list[Chunk]) -> None:
        self._metadata_seen = True
        if metadata.usage is not None:
            self._usage = usage(metadata.usage)
            chunks.append(UsageReport(usage=self._usage))
        self.complete = self._finished

    def _refuse_behind_the_end(self) -> None:
        if self._finished:
            raise Malformed("more of an answer behind its end")
