"""What a client writes for its own provider's cache, taken out for all others.

Anthropic's clients mark what is to be cached (``cache_control``); some always do. The
mark changes nothing in an answer, and providers that do not know it cache by themselves,
so that it is left out there and not refused.
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

CACHE_CONTROL: Final = "cache_control"

T = TypeVar("T")


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
    if CACHE_CONTROL not in extra:
        return extra
    return {name: value for name, value in extra.items() if name != CACHE_CONTROL}


def _same(new: tuple[T, ...], old: tuple[T, ...]) -> bool:
    return all(a is b for a, b in zip(new, old, strict=True))
