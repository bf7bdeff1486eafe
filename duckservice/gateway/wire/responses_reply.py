"""A `Completion` written as OpenAI's response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, assert_never

import attrs
import msgspec

from duckservice.completion import (
    Choice,
    Completion,
    ImagePart,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from duckservice.gateway.wire.pictures import picture_item, pictures_of
from duckservice.gateway.wire.responses_envelope import (
    incomplete_reason,
    open_envelope,
)
from duckservice.gateway.wire.responses_items import (
    Item,
    ItemStatus,
    annotations_of,
    call_item,
    encrypted,
    is_content,
    item_id,
    message_item,
    reasoning_item,
    refusal_part,
    text_part,
)

_BESIDE = ("annotations", "logprobs")

_encode = msgspec.json.Encoder().encode


def encode_completion(
    completion: Completion, settings: Mapping[str, Any], *, now: float = 0.0
) -> bytes:
    """Write the body of a reply of ``/v1/responses``: the first choice.

    *settings* is what the response repeats of its request, *now* the seconds since
    the epoch. The ids of the items are made up: they name nothing that is stored.
    Raises `Unprocessable` for a picture that has not come itself.
    """
    choice = completion.choices[0] if completion.choices else Choice()
    envelope = open_envelope(
        completion.id,
        completion.model,
        completion.created or int(now),
        settings,
        completion.extra,
    )
    incomplete = incomplete_reason(choice.finish_reason)
    body = envelope.fields(
        "completed" if incomplete is None else "incomplete",
        _output(choice, envelope.id, cut=incomplete is not None),
        usage=completion.usage,
        completed_at=int(now) if incomplete is None else None,
        incomplete=incomplete,
    )
    return _encode(body)


def _output(choice: Choice, answer: str, *, cut: bool) -> list[Item]:
    """Return the items; the last is not complete if the reply was *cut*."""
    runs = list(_runs(choice))
    last = len(runs) - 1
    return [
        _item(
            run, answer, index, "incomplete" if cut and index == last else "completed"
        )
        for index, run in enumerate(runs)
    ]


def _runs(choice: Choice) -> Iterator[list[Part]]:
    """Yield the parts of each item: what is said in one go is one message."""
    said: list[Part] = []
    for part in _parts(choice):
        if isinstance(part, (TextPart, RefusalPart)) or is_content(part):
            said.append(part)
            continue
        if said:
            yield said
            said = []
        yield [part]
    if said:
        yield said


def _parts(choice: Choice) -> Iterator[Part]:
    # A chat's annotations and probabilities belong to its one text.
    beside = {key: choice.extra[key] for key in _BESIDE if choice.extra.get(key)}
    for part in choice.parts:
        its = part
        if beside and isinstance(its, TextPart):
            its = attrs.evolve(its, extra={**beside, **its.extra})
            beside = {}
        if _is_shown(its):
            yield its
    yield from pictures_of(choice.extra)


def _is_shown(part: Part) -> bool:
    match part:
        case TextPart(text=text, extra=extra):
            return bool(text or annotations_of(extra))
        case RefusalPart(text=text):
            return bool(text)
        case ReasoningPart(text=text, signature=signature, redacted=redacted):
            return bool(text) or encrypted(signature, redacted) is not None
        case ToolCall() | ImagePart():
            return True
        case OpaquePart(format=origin):
            return origin == "responses"
        case ToolResult():
            return False  # it has no place in a reply
        case _:
            assert_never(part)


def _item(run: list[Part], answer: str, index: int, status: ItemStatus) -> Item:
    match run[0]:
        case ReasoningPart(text=text, signature=signature, redacted=redacted):
            sealed = encrypted(signature, redacted)
            return reasoning_item(item_id("rs", answer, index), text, sealed)
        case ToolCall() as call:
            return call_item(item_id("fc", answer, index), call, status)
        case ImagePart() as image:
            return picture_item(image, answer, index)
        case OpaquePart(value=value) as part if not is_content(part):
            return dict(value)
        case _:
            content = [_content(part) for part in run]
            return message_item(item_id("msg", answer, index), content, status)


def _content(part: Part) -> Item:
    if isinstance(part, RefusalPart):
        return refusal_part(part.text)
    if isinstance(part, OpaquePart):
        return dict(part.value)
    assert isinstance(part, TextPart), "only what is said is content"
    return text_part(part.text, part.extra)
