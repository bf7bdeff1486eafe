"""The events of a streamed response, read into chunks.

State by state; kinds of events that are not named here are ignored (keepalives,
the progress of searches, the beginnings of parts):

    fresh ──response.created──▶ running ──response.completed──▶ complete
      │                            │      response.incomplete
      │                            │
      └────────────────────────────┴──error, response.failed, undecodable
                                      event, end of the bytes──▶ failed

Everything is told several times: in pieces, when an item is done, and in the last
event. Pieces go on as they come; what an item's end has beyond its pieces is sent
then, because some servers send few pieces or none.

An item that only this format knows comes as a `TextDelta` without text, whole, when
it is complete: under ``output_item`` of its ``extra``. So do annotations, under
``annotations``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, Final, TypeAlias, final

import attrs
import msgspec

from duckservice.completion import (
    NOTHING,
    Chunk,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    RefusalPart,
    Started,
    TextDelta,
    TextPart,
    ToolCallDelta,
    UsageReport,
)
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.reading import Malformed, number_or, text_or
from duckservice.providers.responses.answer import (
    ITEMS_MAX,
    Billed,
    Response,
    answer_extra,
    finish,
    made_up_id,
    meaning,
    raise_failure,
    usage_in,
)
from duckservice.providers.responses.items import (
    CLIENT_CALLS,
    arguments_of,
    call_extra,
    call_id_of,
    message_parts,
    signature_of,
    thought_text,
)

Fields: TypeAlias = dict[str, Any]


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: Any = None
    output_index: int | None = None
    item_id: str | None = None
    item: Fields | None = None
    response: Response | None = None
    annotation: Any = None
    logprobs: Any = None
    error: Any = None
    code: Any = None
    message: Any = None
    param: Any = None


_event: Final = msgspec.json.Decoder(_Event)


@final
class ResponseEvents:
    """What the events of one streamed response mean: an `EventDecoder`."""

    __slots__ = (
        "_billed",
        "_calls",
        "_errors",
        "_id",
        "_items",
        "_kinds",
        "_origin",
        "_started",
        "_usage_seen",
        "_waits_for_client",
        "complete",
        "reply_characters",
    )

    def __init__(
        self,
        errors: Classifier,
        origin: Origin = NAMELESS,
        billed: Billed | None = None,
    ) -> None:
        self._errors = errors
        self._origin = origin
        self._billed = billed
        self._id = origin.answer_id
        self._started = False
        self._items: dict[int | str, _Item] = {}
        """By their place in the output, by their id, and by the id of their call."""
        self._kinds: dict[str, _Item] = {}
        """The last item of each kind."""
        self._calls = 0
        self._waits_for_client = False
        self._usage_seen = False
        self.complete = False
        self.reply_characters = 0

    @property
    def usage_seen(self) -> bool:
        """Whether the server has said what the answer has used."""
        return self._usage_seen

    def take(self, data: bytes, chunks: list[Chunk]) -> None:
        """Append what an event means to *chunks*."""
        if data[:1] == b"{":
            self._event(_event.decode(data), chunks)
        elif data.strip() != b"[DONE]":  # which is not the end of this format
            raise Malformed("neither a JSON object nor [DONE]")

    def end_of_bytes(self, chunks: list[Chunk]) -> bool:  # noqa: ARG002 - the protocol's
        """Say that only a response's last event ends it."""
        return False

    def _event(self, event: _Event, chunks: list[Chunk]) -> None:
        match event.type:
            case "response.output_text.delta":
                self._grow("message", "text", event, chunks)
            case "response.refusal.delta":
                self._grow("message", "refusal", event, chunks)
            case (
                "response.reasoning_summary_text.delta"
                | "response.reasoning_text.delta"
            ):
                self._grow("reasoning", "thought", event, chunks)
            case "response.function_call_arguments.delta":
                self._grow("function_call", "arguments", event, chunks)
            case "response.output_text.annotation.added":
                self._annotate(event, chunks)
            case "response.output_item.added":
                self._open(event, chunks)
            case "response.output_item.done":
                self._shut(event, chunks)
            case "response.created" | "response.in_progress" | "response.queued":
                self._start(event.response or Response(), chunks)
            case (
                "response.completed"
                | "response.incomplete"
                | "response.failed"
                | "response.cancelled"
            ):
                self._end(event, chunks)
            case _:
                self._other(event)

    def _other(self, event: _Event) -> None:
        if event.error:
            raise self._errors.in_band({"error": meaning(event.error)})
        if event.type == "error":
            error = {
                "code": event.code,
                "message": event.message,
                "param": event.param,
            }
            raise self._errors.in_band({"error": meaning(error)})
        if not event.type:
            raise Malformed("JSON without a type")

    def _start(self, response: Response, chunks: list[Chunk]) -> None:
        if self._started:
            return
        self._started = True
        self._id = text_or(response.id, "") or self._origin.answer_id
        chunks.append(
            Started(
                id=self._id,
                model=text_or(response.model, "") or self._origin.model,
                created=number_or(response.created_at, 0),
                extra=answer_extra(response),
            )
        )

    def _end(self, event: _Event, chunks: list[Chunk]) -> None:
        response = event.response or Response()
        response.status = text_or(response.status, "") or event.type[9:]
        raise_failure(response, self._errors)
        self._start(response, chunks)
        self._catch_up(response.output or [], chunks)
        reason, native = finish(response, called=self._waits_for_client)
        chunks.append(Finished(reason=reason, native_reason=native))
        usage = usage_in(response, self._billed)
        if usage is not None:
            self._usage_seen = True
            chunks.append(UsageReport(usage=usage))
        self.complete = True

    def _catch_up(self, output: list[Fields], chunks: list[Chunk]) -> None:
        """Tell what of the whole output has not been told before."""
        for place, fields in enumerate(output):
            kind = text_or(fields.get("type"), "")
            item = self._known(kind, (*_ids(fields), place))
            if item is None and kind not in self._kinds:
                item = _Item(kind=kind)
            if item is not None and not item.done:
                self._complete(item, fields, chunks)

    def _open(self, event: _Event, chunks: list[Chunk]) -> None:
        self._start(Response(), chunks)
        fields = event.item or {}
        item = self._add(_Item(kind=text_or(fields.get("type"), "")), event)
        if item.kind == "function_call" and fields.get("name"):
            self._begin_call(item, fields, chunks)

    def _shut(self, event: _Event, chunks: list[Chunk]) -> None:
        self._start(Response(), chunks)
        fields = event.item or {}
        kind = text_or(fields.get("type"), "")
        item = self._find(kind, event) or self._add(_Item(kind=kind), event)
        if not item.done:
            self._complete(item, fields, chunks)

    def _find(self, kind: str, event: _Event) -> _Item | None:
        known = self._known(kind, _keys(event))
        if known is not None or event.output_index is not None:
            return known
        # Some say no place, and ids that they have not told before.
        last = self._kinds.get(kind)
        return None if last is None or last.done else last

    def _known(self, kind: str, keys: Iterable[int | str]) -> _Item | None:
        for key in keys:
            item = self._items.get(key)
            if item is not None and item.kind == kind:
                return item
        return None

    def _add(self, item: _Item, event: _Event) -> _Item:
        if len(self._items) >= 3 * ITEMS_MAX:
            raise Malformed("too many items of output")
        self._kinds[item.kind] = item
        for key in _keys(event):
            self._items[key] = item
        return item

    def _grow(self, kind: str, what: str, event: _Event, chunks: list[Chunk]) -> None:
        text = text_or(event.delta, "")
        if not text:
            return
        self._start(Response(), chunks)
        item = self._find(kind, event) or self._add(_Item(kind=kind), event)
        if what == "arguments" and item.call is None:
            return  # nobody knows yet what is called; it is told at the item's end
        extra = {"logprobs": {"content": event.logprobs}} if event.logprobs else NOTHING
        self._tell(item, what, text, chunks, extra)

    def _tell(
        self,
        item: _Item,
        what: str,
        text: str,
        chunks: list[Chunk],
        extra: Any = NOTHING,
    ) -> None:
        item.told(what).add(text)
        self.reply_characters += len(text)
        match what:
            case "text":
                chunks.append(TextDelta(text=text, extra=extra))
            case "thought":
                chunks.append(ReasoningDelta(text=text))
            case "refusal":
                chunks.append(RefusalDelta(text=text))
            case _:
                assert item.call is not None
                chunks.append(ToolCallDelta(index=item.call, arguments=text))

    def _annotate(self, event: _Event, chunks: list[Chunk]) -> None:
        if event.annotation is not None:
            self._start(Response(), chunks)
            extra = {"annotations": [event.annotation]}
            chunks.append(TextDelta(text="", extra=extra))

    def _begin_call(self, item: _Item, fields: Fields, chunks: list[Chunk]) -> None:
        item.call = self._calls
        self._calls += 1
        self._waits_for_client = True
        name = text_or(fields.get("name"), "")
        self.reply_characters += len(name)
        chunks.append(
            ToolCallDelta(
                index=item.call,
                id=call_id_of(fields) or made_up_id(self._id, item.call),
                name=name,
                extra=call_extra(fields),
            )
        )

    def _complete(self, item: _Item, fields: Fields, chunks: list[Chunk]) -> None:
        """Tell what *fields*, the whole item, has beyond its pieces."""
        item.done = True
        self._waits_for_client |= item.kind in CLIENT_CALLS
        match item.kind:
            case "message":
                self._complete_message(item, fields, chunks)
            case "reasoning":
                self._rest(item, "thought", thought_text(fields), chunks)
                signature = signature_of(fields)
                if signature is not None:
                    chunks.append(ReasoningDelta(signature=signature))
            case "function_call":
                if item.call is None:
                    self._begin_call(item, fields, chunks)
                self._rest(item, "arguments", arguments_of(fields), chunks)
            case _:
                chunks.append(TextDelta(text="", extra={"output_item": fields}))

    def _complete_message(
        self, item: _Item, fields: Fields, chunks: list[Chunk]
    ) -> None:
        parts = message_parts(fields)
        texts = [part for part in parts if isinstance(part, TextPart)]
        refusals = [part.text for part in parts if isinstance(part, RefusalPart)]
        if not item.told("text").size:
            for part in texts:
                self._tell(item, "text", part.text, chunks, part.extra)
        self._rest(item, "text", "".join(part.text for part in texts), chunks)
        self._rest(item, "refusal", "".join(refusals), chunks)

    def _rest(self, item: _Item, what: str, whole: str, chunks: list[Chunk]) -> None:
        rest = item.told(what).rest(whole)
        if rest:
            self._tell(item, what, rest, chunks)


@attrs.define
class _Told:
    """A text that has been passed on in pieces, remembered by its length and sum."""

    size: int = 0
    _sum: int = 0

    def add(self, piece: str) -> None:
        self.size += len(piece)
        self._sum = _sum(piece, self._sum)

    def rest(self, whole: str) -> str:
        """Return what *whole* has beyond the pieces; nothing if it is another text."""
        if len(whole) <= self.size or _sum(whole[: self.size]) != self._sum:
            return ""
        return whole[self.size :]


@attrs.define
class _Item:
    """An item of the output."""

    kind: str
    call: int | None = None
    """The number of its tool call, once its name has been told."""
    done: bool = False
    _told: dict[str, _Told] = attrs.field(factory=dict[str, _Told])

    def told(self, what: str) -> _Told:
        return self._told.setdefault(what, _Told())


def _keys(event: _Event) -> list[int | str]:
    # The ids come first: some servers give all items the same place.
    keys: list[int | str] = [*_ids(event.item or {})]
    if event.item_id:
        keys.append(event.item_id)
    if event.output_index is not None:
        keys.append(event.output_index)
    return keys


def _ids(fields: Fields) -> list[str]:
    ids = (fields.get("id"), fields.get("call_id"))
    return [own_id for own_id in ids if isinstance(own_id, str) and own_id]


def _sum(text: str, before: int = 0) -> int:
    # JSON may hold half of a surrogate pair, which is no UTF-8.
    return zlib.crc32(text.encode("utf-8", "surrogatepass"), before)
