"""What of a request Responses have no words for, by name.

The format has no stop sequences, seeds, penalties, and no second choice; a thought
goes back only to who has thought it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    OpaquePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from duckservice.providers.responses.chat_fields import is_known_here
from duckservice.providers.responses.files import file_of
from duckservice.providers.responses.input_items import EXTRA_CONTENT, without_nulls
from duckservice.providers.responses.variant import ResponsesVariant
from duckservice.providers.translation import (
    foreign_fields,
    has_unsayable_failure,
    message_path,
    option,
    part_path,
    refusal,
)

PICTURES: Final = "images"
"""What a chat has made, which no item of OpenAI's own can say."""

_OWN_SIGNATURE: Final = "gAAAA"
"""How OpenAI's encrypted thoughts begin. Others' would be refused there."""


def check(request: ChatRequest, its: ResponsesVariant, *, provider: str) -> None:
    """Raise `InvalidRequest` for what this format has no words for."""
    least = its.output_tokens_min
    if request.max_tokens is not None and request.max_tokens < least:
        own = request.format == "responses"
        field = "max_output_tokens" if own else "max_tokens"
        raise refusal(provider, "", field, f"this provider takes no less than {least}")
    for field in _untranslatable(request, its):
        raise refusal(provider, "OpenAI's Responses format", field)


def _untranslatable(request: ChatRequest, its: ResponsesVariant) -> Iterator[str]:
    yield from foreign_fields(_without_translated(request), "responses")
    yield from _unknown_options(request, its)
    for i, message in enumerate(request.messages):
        if message.name is not None and message.role != "tool":
            yield f"{message_path(request, i)}.name"
        if request.format == "responses" and PICTURES in message.extra:
            yield f"{message_path(request, i)} (a picture of another's)"
        for j, part in enumerate(message.parts):
            path = part_path(request, i, j)
            match part:
                case ReasoningPart() if not _is_taken(part, request, its):
                    yield f"{path} (reasoning)"
                case ToolResult() if has_unsayable_failure(part):
                    yield f"{path}.is_error"
                case ImagePart() if message.role == "assistant":
                    yield path
                case _:
                    pass


def _unknown_options(request: ChatRequest, its: ResponsesVariant) -> Iterator[str]:
    asked = {
        option(request, "stop"): bool(request.stop),
        "n": request.n not in (None, 1),
        "seed": request.seed is not None,
        "presence_penalty": bool(request.presence_penalty),
        "frequency_penalty": bool(request.frequency_penalty),
        "top_k": request.top_k is not None and not its.top_k,
    }
    yield from (name for name, is_asked in asked.items() if is_asked)
    if request.format == "responses":
        if request.extra.get("background"):
            yield "background"  # its answer would have to be fetched later
    elif request.reasoning and its.asking(request.reasoning, request) is None:
        yield option(request, "reasoning_effort")


def _without_translated(request: ChatRequest) -> ChatRequest:
    """Return *request* without what only its format knows and we can translate."""
    if request.format == "responses":
        return request
    extra = request.extra
    if request.format == "openai":
        extra = {n: v for n, v in extra.items() if not is_known_here(n, v)}
    messages = tuple(
        attrs.evolve(message, parts=tuple(map(_emptied, message.parts)))
        for message in request.messages
    )
    return attrs.evolve(request, extra=extra, messages=messages)


def _emptied(part: Part) -> Part:
    match part:
        case OpaquePart() if file_of(part) is not None:
            return TextPart(text="")
        case ToolCall(extra=extra) if EXTRA_CONTENT in extra:
            # The signature of a Gemini call is for Gemini; the call is whole without.
            return attrs.evolve(part, extra=without_nulls(extra))
        case ToolResult(content=content):
            emptied = tuple(
                TextPart(text="")
                if isinstance(inner, OpaquePart) and file_of(inner) is not None
                else inner
                for inner in content
            )
            return attrs.evolve(part, content=emptied)
        case _:
            return part


def _is_taken(
    thought: ReasoningPart, request: ChatRequest, its: ResponsesVariant
) -> bool:
    if thought.redacted is not None:
        return False
    if its.open_thoughts is not None or request.format == "responses":
        return True
    return (thought.signature or "").startswith(_OWN_SIGNATURE)
