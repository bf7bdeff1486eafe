"""Reasoning of earlier turns, in the ways in which it goes back to the servers.

    a field        {"role": "assistant", "reasoning_content": "..."}     most
    parts          "content": [{"type": "thinking", "thinking": [...]}]  Mistral
    details        "reasoning_details": [{"type": "reasoning.text", ...}]  OpenRouter

DeepSeek wants it with all calls of a conversation that thinks, an empty one too, and
without tools not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from duckservice.completion import ChatRequest, ReasoningPart, ToolCall, ToolResult
from duckservice.providers.openai_variant import OpenAIVariant
from duckservice.providers.reading import UNREADABLE, mapping_or_empty, text_or

Json: TypeAlias = dict[str, Any]

Writer: TypeAlias = Callable[[Sequence[ReasoningPart], Json], Json]
"""From a turn's thoughts and its message so far to what is to be added to it."""

CLAUDE_FORMAT: Final = "anthropic-claude-v1"
"""OpenRouter's word for who has signed a thought."""


def writer(request: ChatRequest, its: OpenAIVariant) -> Writer:
    """Return what writes the thoughts of the assistant's turns of *request*."""
    match its.thoughts:
        case None:
            return _nothing
        case "parts":
            return _as_parts
        case "details":
            return _as_details
        case "field_with_tools" if not _has_tools(request):
            return _nothing
        case "field_with_tools" if _has_thoughts(request):
            return _as_field(its.thoughts_field, always_with_calls=True)
        case "field" | "field_with_tools":
            return _as_field(its.thoughts_field, always_with_calls=False)


def _has_tools(request: ChatRequest) -> bool:
    parts = (part for message in request.messages for part in message.parts)
    return bool(request.tools) or any(
        isinstance(part, (ToolCall, ToolResult)) for part in parts
    )


def _has_thoughts(request: ChatRequest) -> bool:
    parts = (part for message in request.messages for part in message.parts)
    return any(isinstance(part, ReasoningPart) for part in parts)


def _nothing(thoughts: Sequence[ReasoningPart], message: Json) -> Json:  # noqa: ARG001 - a `Writer`
    return {}


def _as_field(name: str, *, always_with_calls: bool) -> Writer:
    def write(thoughts: Sequence[ReasoningPart], message: Json) -> Json:
        if thoughts or (always_with_calls and "tool_calls" in message):
            return {name: "".join(part.text for part in thoughts)}
        return {}

    return write


def _as_parts(thoughts: Sequence[ReasoningPart], message: Json) -> Json:
    if not thoughts:
        return {}
    said: Any = message["content"]
    rest = [{"type": "text", "text": said}] if isinstance(said, str) else said or []
    return {
        "content": [
            *(
                {"type": "thinking", "thinking": [{"type": "text", "text": part.text}]}
                for part in thoughts
            ),
            *rest,
        ]
    }


def _as_details(thoughts: Sequence[ReasoningPart], message: Json) -> Json:  # noqa: ARG001 - a `Writer`
    text = "".join(part.text for part in thoughts)
    body: Json = {"reasoning": text} if text else {}
    if any(part.signature or part.redacted for part in thoughts):
        body["reasoning_details"] = [_detail(part) for part in thoughts]
    return body


def _detail(part: ReasoningPart) -> Json:
    if part.redacted is not None:
        return _unsealed(part.redacted)
    detail: Json = {"type": "reasoning.text", "text": part.text}
    if part.signature:
        detail |= {"signature": part.signature, "format": CLAUDE_FORMAT}
    return detail


def thoughts_of(text: str, details: object) -> tuple[ReasoningPart, ...]:
    """Return the thoughts of a whole answer: their text, and what seals them.

    A text that was signed piece by piece stays in its pieces.
    """
    seals = seals_of(details)
    signed = [part for part in seals if part.signature]
    pieces = [part for part in _parts_of(details) if part.text or part.signature]
    if len(signed) > 1 and "".join(part.text for part in pieces) == text:
        parts = tuple(pieces)
    elif text or signed:
        signature = signed[0].signature if len(signed) == 1 else None
        parts = (ReasoningPart(text=text, signature=signature),)
    else:
        parts = ()
    return (*parts, *(part for part in seals if part.redacted))


def seals_of(details: object) -> tuple[ReasoningPart, ...]:
    """Return what seals the thoughts in *details*, without their text."""
    return tuple(
        ReasoningPart(signature=part.signature, redacted=part.redacted)
        for part in _parts_of(details)
        if part.signature or part.redacted
    )


def _parts_of(details: object) -> tuple[ReasoningPart, ...]:
    if not isinstance(details, list):
        return ()
    listed = cast("list[object]", details)
    return tuple(_part_of(mapping_or_empty(detail)) for detail in listed)


def _part_of(detail: Json) -> ReasoningPart:
    if detail.get("type") == "reasoning.encrypted":
        # One text, which `_unsealed` makes whole again.
        return ReasoningPart(redacted=msgspec.json.encode(detail).decode())
    text = text_or(detail.get("text"), "") or text_or(detail.get("summary"), "")
    return ReasoningPart(
        text=text, signature=text_or(detail.get("signature"), "") or None
    )


def _unsealed(data: str) -> Json:
    try:
        detail = msgspec.json.decode(data)
    except UNREADABLE:
        detail = None
    if isinstance(detail, dict) and "type" in detail:
        return cast("Json", detail)
    # Claude's own, from a turn that was not OpenRouter's.
    return {"type": "reasoning.encrypted", "data": data, "format": CLAUDE_FORMAT}
