"""The items of a response while they grow, and the events that tell of it.

    message     added  (part added  text or refusal delta*  done  part done)*  done
    reasoning   added  [part added  summary delta*  done  part done]           done
    call        added  arguments delta*  done                                  done

Every method returns the events to send, in their order and without their sequence
numbers. An item is ended once; it is asked for nothing but its value then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, final

import attrs

from duckservice.completion import NOTHING, ToolCall, ToolCallDelta
from duckservice.gateway.wire.responses_items import (
    Item,
    ItemStatus,
    annotations_of,
    call_item,
    logprobs_of,
    message_item,
    reasoning_item,
    refusal_part,
    summary_part,
    text_part,
)

Events: TypeAlias = list[Item]

Said: TypeAlias = Literal["output_text", "refusal"]


def event(kind: str, **fields: Any) -> Item:
    """Return an event; its number comes when it is sent."""
    return {"type": f"response.{kind}", **fields}


@final
@attrs.define
class MessageInProgress:
    """What the assistant says: texts and refusals, one after the other."""

    id: str
    index: int
    _content: list[Item] = attrs.field(factory=list[Item])
    """The parts that are complete."""
    _saying: Said | None = None
    _pieces: list[str] = attrs.field(factory=list[str])
    _annotations: list[Item] = attrs.field(factory=list[Item])
    _logprobs: list[Any] = attrs.field(factory=list[Any])

    def begin(self) -> Events:
        """Return what announces the item."""
        return [_added(self.index, message_item(self.id, (), "in_progress"))]

    def keep(self, text: str) -> None:
        """Keep a piece of the open text, whose event the caller writes."""
        self._pieces.append(text)

    def text(self, text: str, extra: Mapping[str, Any] = NOTHING) -> Events:
        """Add more text, and what is said about it."""
        events = self._say("output_text")
        if text:
            self.keep(text)
            said = logprobs_of(extra)
            self._logprobs += said
            its: Item = {"delta": text, "logprobs": said}
            events.append(event("output_text.delta", **self.where(), **its))
        for annotation in annotations_of(extra):
            its = {
                "annotation_index": len(self._annotations),
                "annotation": annotation,
            }
            self._annotations.append(annotation)
            events.append(event("output_text.annotation.added", **self.where(), **its))
        return events

    def refusal(self, text: str) -> Events:
        """Add more of a refusal."""
        events = self._say("refusal")
        self._pieces.append(text)
        return [*events, event("refusal.delta", **self.where(), delta=text)]

    def end(self, status: ItemStatus) -> Events:
        """Return what ends the item."""
        return [*self._end_part(), _done(self.index, self.value(status))]

    def value(self, status: ItemStatus) -> Item:
        """Return the item as far as it has come."""
        part = self._part()
        content = self._content if part is None else [*self._content, part]
        return message_item(self.id, content, status)

    def where(self) -> Item:
        """Return the place of the part that is open."""
        return {
            "item_id": self.id,
            "output_index": self.index,
            "content_index": len(self._content),
        }

    def _say(self, kind: Said) -> Events:
        if self._saying == kind:
            return []
        events = self._end_part()
        self._saying = kind
        part = text_part("", NOTHING) if kind == "output_text" else refusal_part("")
        return [*events, event("content_part.added", **self.where(), part=part)]

    def _end_part(self) -> Events:
        part = self._part()
        if part is None:
            return []
        where = self.where()
        if self._saying == "refusal":
            done = event("refusal.done", **where, refusal=part["refusal"])
        else:
            its: Item = {"text": part["text"], "logprobs": part["logprobs"]}
            done = event("output_text.done", **where, **its)
        self._content.append(part)
        self._saying = None
        self._pieces, self._annotations, self._logprobs = [], [], []
        return [done, event("content_part.done", **where, part=part)]

    def _part(self) -> Item | None:
        text = "".join(self._pieces)
        match self._saying:
            case None:
                return None
            case "refusal":
                return refusal_part(text)
            case "output_text":
                about = {"annotations": self._annotations, "logprobs": self._logprobs}
                return text_part(text, about)


@final
@attrs.define
class ReasoningInProgress:
    """A thought. Its seal ends it: what comes after is another."""

    id: str
    index: int
    _pieces: list[str] = attrs.field(factory=list[str])
    _encrypted: str | None = None

    def begin(self) -> Events:
        """Return what announces the item."""
        return [_added(self.index, reasoning_item(self.id, "", None))]

    def text(self, text: str) -> Events:
        """Add more of the thought."""
        events: Events = []
        if not self._pieces:
            part = summary_part("")
            events.append(
                event("reasoning_summary_part.added", **self._where(), part=part)
            )
        self._pieces.append(text)
        delta = event("reasoning_summary_text.delta", **self._where(), delta=text)
        return [*events, delta]

    def seal(self, encrypted: str) -> None:
        """Take what must go back to the provider as it is."""
        self._encrypted = encrypted

    def end(self, _: ItemStatus) -> Events:
        """Return what ends the item, which has no status of its own."""
        done = _done(self.index, self.value("completed"))
        if not self._pieces:
            return [done]
        text, where = "".join(self._pieces), self._where()
        return [
            event("reasoning_summary_text.done", **where, text=text),
            event("reasoning_summary_part.done", **where, part=summary_part(text)),
            done,
        ]

    def value(self, _: ItemStatus) -> Item:
        """Return the item as far as it has come."""
        return reasoning_item(self.id, "".join(self._pieces), self._encrypted)

    def _where(self) -> Item:
        return {"item_id": self.id, "output_index": self.index, "summary_index": 0}


@final
@attrs.define
class CallInProgress:
    """A tool call."""

    id: str
    index: int
    call_id: str
    name: str
    _pieces: list[str] = attrs.field(factory=list[str])
    _extra: Item = attrs.field(factory=dict[str, Any])

    def begin(self) -> Events:
        """Return what announces the item."""
        return [_added(self.index, self.value("in_progress"))]

    def more(self, delta: ToolCallDelta) -> Events:
        """Add more of the arguments, and what must go back with the call."""
        self._extra.update(delta.extra)
        if not delta.arguments:
            return []
        self._pieces.append(delta.arguments)
        its = {"delta": delta.arguments}
        return [event("function_call_arguments.delta", **self._where(), **its)]

    def end(self, status: ItemStatus) -> Events:
        """Return what ends the item."""
        its = {"name": self.name, "arguments": "".join(self._pieces)}
        return [
            event("function_call_arguments.done", **self._where(), **its),
            _done(self.index, self.value(status)),
        ]

    def value(self, status: ItemStatus) -> Item:
        """Return the item as far as it has come."""
        arguments = "".join(self._pieces)
        call = ToolCall(
            id=self.call_id, name=self.name, arguments=arguments, extra=self._extra
        )
        return call_item(self.id, call, status)

    def _where(self) -> Item:
        return {"item_id": self.id, "output_index": self.index}


@final
@attrs.frozen
class ForeignItem:
    """An item that comes whole: a picture, or what only this format knows."""

    index: int
    _item: Item

    def begin(self) -> Events:
        """Return what announces the item."""
        return [_added(self.index, self._item)]

    def end(self, _: ItemStatus) -> Events:
        """Return what ends the item."""
        return [_done(self.index, self._item)]

    def value(self, _: ItemStatus) -> Item:
        """Return the item."""
        return self._item


InProgress: TypeAlias = (
    MessageInProgress | ReasoningInProgress | CallInProgress | ForeignItem
)


def _added(index: int, item: Item) -> Item:
    return event("output_item.added", output_index=index, item=item)


def _done(index: int, item: Item) -> Item:
    return event("output_item.done", output_index=index, item=item)
