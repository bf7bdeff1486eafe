"""A streamed reply put together again, from its chunks to the whole `Completion`; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_never, final

import attrs

from duckservice.completion import (
    NOTHING,
    Choice,
    Chunk,
    Completion,
    Finished,
    Part,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    RefusalPart,
    Started,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReport,
)


@attrs.define(eq=False)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = attrs.field(factory=list[str])
    extra: Mapping[str, Any] = NOTHING


@attrs.define(eq=False)
class _Choice:
    text: list[str] = attrs.field(factory=list[str])
    reasoning: list[str] = attrs.field(factory=list[str])
    signature: str | None = None
    refusal: list[str] = attrs.field(factory=list[str])
    calls: dict[int, _Call] = attrs.field(factory=dict[int, _Call])
    finished: Finished | None = None

    def parts(self) -> tuple[Part, ...]:
        """Return what was said, in the order in which a whole reply has it."""
        parts = list[Part]()
        if self.reasoning or self.signature is not None:
            reasoning = "".join(self.reasoning)
            parts.append(ReasoningPart(text=reasoning, signature=self.signature))
        if self.text:
            parts.append(TextPart(text="".join(self.text)))
        if self.refusal:
            parts.append(RefusalPart(text="".join(self.refusal)))
        parts += [
            ToolCall(
                id=call.id,
                name=call.name,
                arguments="".join(call.arguments),
                extra=call.extra,
            )
            for _, call in sorted(self.calls.items())
        ]
        return tuple(parts)


@final
@attrs.define(eq=False)
class Assembly:
    """Takes a stream's chunks, and tells at its end what the whole reply was."""

    _started: Started = attrs.field(factory=lambda: Started(id="", model=""))
    _usage: Usage = attrs.field(factory=Usage)
    _choices: dict[int, _Choice] = attrs.field(factory=dict[int, _Choice])

    def add(self, batch: Sequence[Chunk]) -> None:
        """Take some chunks."""
        for chunk in batch:
            self._add(chunk)

    def completion(self) -> Completion:
        """Return the whole reply."""
        started = self._started
        return Completion(
            id=started.id,
            model=started.model,
            created=started.created,
            extra=started.extra,
            usage=self._usage,
            choices=tuple(
                _whole(index, its) for index, its in sorted(self._choices.items())
            ),
        )

    def _add(self, chunk: Chunk) -> None:
        match chunk:
            case Started():
                self._started = chunk
            case UsageReport(usage=usage):
                self._usage = usage
            case TextDelta():
                self._of(chunk.choice).text.append(chunk.text)
            case ReasoningDelta():
                its = self._of(chunk.choice)
                if chunk.text:
                    its.reasoning.append(chunk.text)
                its.signature = chunk.signature or its.signature
            case RefusalDelta():
                self._of(chunk.choice).refusal.append(chunk.text)
            case ToolCallDelta():
                call = self._of(chunk.choice).calls.setdefault(chunk.index, _Call())
                call.id = call.id or chunk.id or ""
                call.name = call.name or chunk.name or ""
                call.arguments.append(chunk.arguments)
                call.extra = chunk.extra or call.extra
            case Finished():
                self._of(chunk.choice).finished = chunk
            case _:
                assert_never(chunk)

    def _of(self, choice: int) -> _Choice:
        return self._choices.setdefault(choice, _Choice())


def _whole(index: int, its: _Choice) -> Choice:
    end = its.finished
    if end is None:
        return Choice(index=index, parts=its.parts())
    return Choice(
        index=index,
        parts=its.parts(),
        finish_reason=end.reason,
        native_finish_reason=end.native_reason,
        stop_sequence=end.stop_sequence,
    )


def chunks_of(completion: Completion) -> tuple[Chunk, ...]:
    """Return the chunks of a reply that came whole, as a stream would have them."""
    chunks: list[Chunk] = [
        Started(id=completion.id, model=completion.model, created=completion.created)
    ]
    for choice in completion.choices:
        for number, part in enumerate(choice.parts):
            chunks += _deltas(number, part, choice.index)
        chunks.append(
            Finished(
                reason=choice.finish_reason,
                native_reason=choice.native_finish_reason,
                stop_sequence=choice.stop_sequence,
                choice=choice.index,
            )
        )
    chunks.append(UsageReport(usage=completion.usage))
    return tuple(chunks)


def _deltas(number: int, part: Part, choice: int) -> list[Chunk]:
    match part:
        case TextPart(text=text):
            return [TextDelta(text=text, choice=choice)]
        case ReasoningPart(text=text, signature=signature):
            return [ReasoningDelta(text=text, signature=signature, choice=choice)]
        case RefusalPart(text=text):
            return [RefusalDelta(text=text, choice=choice)]
        case ToolCall():
            return [
                ToolCallDelta(
                    index=number,
                    id=part.id,
                    name=part.name,
                    arguments=part.arguments,
                    choice=choice,
                    extra=part.extra,
                )
            ]
        case _:
            return []  # what a stream has no words for
