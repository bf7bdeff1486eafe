"""Chunks written as OpenAI's stream of response events.

    Started      response.created, response.in_progress
    delta        output_item.added if its item is not open, then its own events
    (an item that only a provider of the same format knows comes in the ``extra``
    of a `TextDelta`, under ``output_item``, whole; so do pictures, under ``images``)
    Finished     what ends the open items
    (finish)     response.completed or response.incomplete; there is no [DONE]
    (error)      error, response.failed

A message or a thought ends when something else begins. A call stays open until
`Finished`: some providers write their calls by turns, and a client takes the
arguments for complete once it has been told so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, assert_never, final

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
from duckservice.gateway.wire.errors import openai_error
from duckservice.gateway.wire.fields import is_object
from duckservice.gateway.wire.pictures import picture_item, pictures_of
from duckservice.gateway.wire.responses_envelope import (
    Envelope,
    error_fields,
    incomplete_reason,
    open_envelope,
)
from duckservice.gateway.wire.responses_items import (
    Item,
    ItemStatus,
    annotations_of,
    encrypted,
    item_id,
)
from duckservice.gateway.wire.responses_progress import (
    CallInProgress,
    Events,
    ForeignItem,
    InProgress,
    MessageInProgress,
    ReasoningInProgress,
    event,
)

_TEXT_HEAD = b'event: response.output_text.delta\ndata: {"sequence_number":'

_encode = msgspec.json.Encoder().encode


@final
@attrs.define(kw_only=True)
class ResponseStreamEncoder:
    """Writes one stream: `encode` each batch, then `finish` or `error`."""

    settings: Mapping[str, Any]
    """What the response repeats of its request."""
    clock: Callable[[], float]
    """Seconds since the epoch."""
    _envelope: Envelope | None = None
    """From the first chunk on."""
    _numbered: int = 0
    """How many events have been sent."""
    _items: list[InProgress] = attrs.field(factory=list[InProgress])
    """All that have begun, in the order of the output."""
    _open: MessageInProgress | ReasoningInProgress | None = None
    """The last of them while more of it may come, if it is no call."""
    _calls: dict[int, CallInProgress] = attrs.field(factory=dict[int, CallInProgress])
    """Those that are open, by the provider's number."""
    _text_rest: bytes = b""
    """What every delta of the open text has beside its number and the text."""
    _finished: Finished | None = None
    _usage: Usage = attrs.field(factory=Usage)

    def encode(self, batch: Sequence[Chunk]) -> bytes:
        """Return the events of chunks that arrived together.

        Raises `Unprocessable` for a picture that has not come itself.
        """
        if len(batch) == 1 and self._text_rest:
            chunk = batch[0]
            if type(chunk) is TextDelta and not chunk.choice and not chunk.extra:
                return self._more_text(chunk.text)
        return self._send([each for chunk in batch for each in self._chunk(chunk)])

    def finish(self) -> bytes:
        """Return what ends a stream that is complete."""
        if self._finished is None:
            self._finished = Finished(reason="stop")
        incomplete = incomplete_reason(self._finished.reason)
        events = self._end_items()
        status: Literal["completed", "incomplete"]
        status = "completed" if incomplete is None else "incomplete"
        response = self._begun().fields(
            status,
            self._output(),
            usage=self._usage,
            completed_at=int(self.clock()) if incomplete is None else None,
            incomplete=incomplete,
        )
        return self._send([*events, event(status, response=response)])

    def error(self, error: DuckError) -> bytes:
        """Return what ends a stream that has failed.

        OpenAI's servers send the details one level down, its documents have them at
        the top. The SDK raises for the former.
        """
        its: Item = openai_error(error)["error"]
        flat = {key: its[key] for key in ("code", "message", "param")}
        events: Events = [{"type": "error", **flat, "error": its}]
        if self._envelope is not None:
            response = self._envelope.fields(
                "failed", self._output(), error=error_fields(error)
            )
            events.append(event("failed", response=response))
        return self._send(events)

    def _chunk(self, chunk: Chunk) -> Events:
        match chunk:
            case Started():
                return self._start(chunk)
            case UsageReport(usage=usage):
                self._usage = usage
                return []
            case _ if chunk.choice:
                # A response has no second choice, and the request had no place to
                # ask for one.
                return []
            case TextDelta():
                return self._text(chunk)
            case RefusalDelta(text=text):
                return self._refusal(text)
            case ReasoningDelta():
                return self._think(chunk)
            case ToolCallDelta():
                return self._call(chunk)
            case Finished():
                self._finished = chunk
                return self._end_items()
            case _:
                assert_never(chunk)

    def _start(self, started: Started) -> Events:
        self._envelope = open_envelope(
            started.id,
            started.model,
            started.created or int(self.clock()),
            self.settings,
            started.extra,
        )
        response = self._envelope.fields("in_progress", ())
        return [
            event("created", response=response),
            event("in_progress", response=response),
        ]

    def _begun(self) -> Envelope:
        assert self._envelope is not None, "every stream begins with Started"
        return self._envelope

    def _text(self, chunk: TextDelta) -> Events:
        item: Any = chunk.extra.get("output_item")
        if is_object(item):
            return self._foreign(item)
        events: Events = []
        if chunk.text or annotations_of(chunk.extra):
            events, message = self._message()
            events += message.text(chunk.text, chunk.extra)
            self._prepare_text(message)
        for image in pictures_of(chunk.extra):
            place = len(self._items)
            events += self._foreign(picture_item(image, self._begun().id, place))
        return events

    def _refusal(self, text: str) -> Events:
        if not text:
            return []
        opening, message = self._message()
        self._text_rest = b""
        return opening + message.refusal(text)

    def _foreign(self, item: Item) -> Events:
        events = self._end_open("completed")
        foreign = ForeignItem(len(self._items), item)
        self._items.append(foreign)
        return [*events, *foreign.begin(), *foreign.end("completed")]

    def _message(self) -> tuple[Events, MessageInProgress]:
        if isinstance(self._open, MessageInProgress):
            return [], self._open
        events = self._end_open("completed")
        index = len(self._items)
        message = MessageInProgress(item_id("msg", self._begun().id, index), index)
        self._items.append(message)
        self._open = message
        return [*events, *message.begin()], message

    def _think(self, chunk: ReasoningDelta) -> Events:
        sealed = encrypted(chunk.signature, chunk.redacted)
        if not chunk.text and sealed is None:
            return []
        events: Events = []
        thought = self._open
        if chunk.redacted is not None:
            thought = None  # it is no part of the thought before it
        if not isinstance(thought, ReasoningInProgress):
            events += self._end_open("completed")
            index = len(self._items)
            its_id = item_id("rs", self._begun().id, index)
            thought = self._open = ReasoningInProgress(its_id, index)
            self._items.append(thought)
            events += thought.begin()
        if chunk.text:
            events += thought.text(chunk.text)
        if sealed is not None:
            thought.seal(sealed)
            events += self._end_open("completed")
        return events

    def _call(self, chunk: ToolCallDelta) -> Events:
        call = self._calls.get(chunk.index)
        if call is not None:
            return call.more(chunk)
        events = self._end_open("completed")
        index = len(self._items)
        call = CallInProgress(
            item_id("fc", self._begun().id, index),
            index,
            chunk.id or f"call_{index}",
            chunk.name or "",
        )
        self._calls[chunk.index] = call
        self._items.append(call)
        return [*events, *call.begin(), *call.more(chunk)]

    def _end_open(self, status: ItemStatus) -> Events:
        """End the message or thought that is open."""
        self._text_rest = b""
        ended, self._open = self._open, None
        return [] if ended is None else ended.end(status)

    def _end_items(self) -> Events:
        """End all that is open; where the reply was cut, it was in the last item."""
        events = self._end_open(self._status(len(self._items) - 1))
        for call in self._calls.values():
            events += call.end(self._status(call.index))
        self._calls = {}
        return events

    def _status(self, index: int) -> ItemStatus:
        """Return what has become of an item that has ended."""
        end = self._finished
        cut = end is not None and incomplete_reason(end.reason) is not None
        return "incomplete" if cut and index == len(self._items) - 1 else "completed"

    def _output(self) -> list[Item]:
        begun = (self._open, *self._calls.values())
        still_open = {item.index for item in begun if item is not None}
        return [
            item.value(
                "incomplete" if item.index in still_open else self._status(item.index)
            )
            for item in self._items
        ]

    def _prepare_text(self, message: MessageInProgress) -> None:
        """Write what all deltas of the open text share; nearly all events are such."""
        its = event("output_text.delta", **message.where(), logprobs=[])
        self._text_rest = b"," + _encode(its)[1:-1] + b',"delta":'

    def _more_text(self, text: str) -> bytes:
        if not text:
            return b""
        assert isinstance(self._open, MessageInProgress), "whose text this is"
        self._open.keep(text)
        number = self._numbered
        self._numbered += 1
        return b"%b%d%b%b}\n\n" % (_TEXT_HEAD, number, self._text_rest, _encode(text))

    def _send(self, events: Events) -> bytes:
        pieces: list[bytes] = []
        for its in events:
            its["sequence_number"] = self._numbered
            self._numbered += 1
            pieces.append(b"event: %b\ndata: " % its["type"].encode())
            pieces.append(_encode(its))
            pieces.append(b"\n\n")
        return b"".join(pieces)
