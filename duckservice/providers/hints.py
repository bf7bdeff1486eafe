"""What clients of Anthropic write for Anthropic alone, taken out for all others.

Coding agents always write it, and nothing of it changes what an answer means:

    cache_control                  what is to be cached; others cache by themselves
    tools[].eager_input_streaming  in which pieces a call's arguments are streamed
    thinking.display               whether thoughts are shown
    context_management             while it is about thoughts of earlier turns only

So it is left out where it is not known, and not refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import attrs

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolResult,
)
from duckservice.providers.reading import mapping_or_empty, text_or

CACHE_CONTROL: Final = "cache_control"
EAGER: Final = "eager_input_streaming"

T = TypeVar("T")


def without_hints(request: ChatRequest, *, cached: bool) -> ChatRequest:
    """Return *request* without what only Anthropic reads; itself if there is none.

    Where prompts are *cached* as they are marked, the marks stay.
    """
    extra = {
        name: value
        for name, value in request.extra.items()
        if not _is_hint(name, value)
    }
    tools = tuple(
        attrs.evolve(tool, extra=_less(tool.extra, EAGER))
        if EAGER in tool.extra
        else tool
        for tool in request.tools
    )
    if len(extra) < len(request.extra) or not _same(tools, request.tools):
        request = attrs.evolve(request, extra=extra, tools=tools)
    return request if cached else without_cache_control(request)


def _is_hint(name: str, value: Any) -> bool:
    fields = mapping_or_empty(value)
    if name == "thinking":  # here it is what is understood only in part
        return fields.keys() <= {"type", "budget_tokens", "display"}
    if name == "context_management" and fields.keys() == {"edits"}:
        if not isinstance(fields["edits"], list):
            return False
        edits: list[Any] = fields["edits"]  # pyright: ignore[reportUnknownVariableType]  # any JSON
        kinds = (text_or(mapping_or_empty(edit).get("type"), "") for edit in edits)
        return all(kind.startswith("clear_thinking") for kind in kinds)
    return False


def without_cache_control(request: ChatRequest) -> ChatRequest:
    """Return *request* without a mark for the cache; itself if it has none."""
    messages = tuple(map(_message, request.messages))
    tools = tuple(
        attrs.evolve(tool, extra=_without(tool.extra))
        if CACHE_CONTROL in tool.extra
        else tool
        for tool in request.tools
    )
    extra = _without(request.extra)
    if _same(messages, request.messages) and _same(tools, request.tools):
        return request if extra is request.extra else attrs.evolve(request, extra=extra)
    return attrs.evolve(request, messages=messages, tools=tools, extra=extra)


def _message(message: Message) -> Message:
    parts = tuple(map(_part, message.parts))
    extra = _without(message.extra)
    if extra is message.extra and _same(parts, message.parts):
        return message
    return attrs.evolve(message, parts=parts, extra=extra)


def _part(part: Part) -> Part:
    if isinstance(part, (ReasoningPart, RefusalPart)):
        return part
    if isinstance(part, OpaquePart):
        value = _without(part.value)
        return part if value is part.value else attrs.evolve(part, value=value)
    if isinstance(part, ToolResult):
        content = tuple(map(_inner, part.content))
        if not _same(content, part.content):
            part = attrs.evolve(part, content=content)
    if CACHE_CONTROL not in part.extra:
        return part
    return attrs.evolve(part, extra=_without(part.extra))


def _inner(
    inner: TextPart | ImagePart | OpaquePart,
) -> TextPart | ImagePart | OpaquePart:
    if isinstance(inner, OpaquePart):
        value = _without(inner.value)
        return inner if value is inner.value else attrs.evolve(inner, value=value)
    extra = _without(inner.extra)
    return inner if extra is inner.extra else attrs.evolve(inner, extra=extra)


def _without(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    return _less(extra, CACHE_CONTROL) if CACHE_CONTROL in extra else extra


def _less(extra: Mapping[str, Any], without: str) -> Mapping[str, Any]:
    return {name: value for name, value in extra.items() if name != without}


def _same(new: tuple[T, ...], old: tuple[T, ...]) -> bool:
    return all(a is b for a, b in zip(new, old, strict=True))
