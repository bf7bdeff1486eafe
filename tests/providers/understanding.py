"""What was understood of an answer, whole or streamed, in one comparable shape."""

from __future__ import annotations

import json
from collections.abc import Iterable

import attrs

from duckservice.completion import (
    Chunk,
    Completion,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    RefusalPart,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)


@attrs.define
class Said:
    """One choice."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: dict[int, list] = attrs.field(factory=dict)
    """Id, name and arguments of each."""
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    stop_sequence: str | None = None

    def tool_calls(self) -> list[tuple]:
        """Return the calls, their arguments as values where they are JSON."""
        return [
            (own_id, name, json_or_text(arguments))
            for _, (own_id, name, arguments) in sorted(self.calls.items())
        ]


def of_completion(completion: Completion) -> tuple[list[Said], Usage | None]:
    said = [
        Said(
            text=choice.text,
            reasoning=choice.reasoning,
            refusal="".join(p.text for p in choice.parts if isinstance(p, RefusalPart)),
            calls={
                index: [call.id, call.name, call.arguments]
                for index, call in enumerate(choice.tool_calls)
            },
            finish_reason=choice.finish_reason,
            native_finish_reason=choice.native_finish_reason,
            stop_sequence=choice.stop_sequence,
        )
        for choice in completion.choices
    ]
    return said, None if completion.usage.estimated else completion.usage


def of_chunks(chunks: Iterable[Chunk]) -> tuple[list[Said], Usage | None]:
    """Put chunks together; assert that they come in their order."""
    choices: dict[int, Said] = {}
    usage = None
    for number, chunk in enumerate(chunks):
        assert isinstance(chunk, Started) == (number == 0)
        match chunk:
            case Started():
                continue
            case UsageReport():
                usage = chunk.usage
                continue
            case _:
                said = choices.setdefault(chunk.choice, Said())
        assert said.finish_reason is None, "nothing comes after Finished"
        match chunk:
            case TextDelta():
                said.text += chunk.text
            case ReasoningDelta():
                said.reasoning += chunk.text
            case RefusalDelta():
                said.refusal += chunk.text
            case ToolCallDelta():
                _add_call(said, chunk)
            case Finished():
                said.finish_reason = chunk.reason
                said.native_finish_reason = chunk.native_reason
                said.stop_sequence = chunk.stop_sequence
    return [choices[index] for index in sorted(choices)], usage


def json_or_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _add_call(said: Said, delta: ToolCallDelta) -> None:
    if delta.index not in said.calls:
        assert delta.id, "the first delta of a call has its id"
        assert delta.name is not None
        said.calls[delta.index] = [delta.id, delta.name, delta.arguments]
        return
    assert delta.id is None
    assert delta.name is None
    said.calls[delta.index][2] += delta.arguments
