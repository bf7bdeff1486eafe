"""How many tokens a prompt can have at most, without a tokenizer.

A tokenizer over bytes (BPE, as all served models use) makes no token out of less
than one byte, so the prompt's UTF-8 bytes bound its tokens. To them come what a
provider puts around messages, tools and images: constants that are meant to be
larger than any provider's. The bound is three to four times the real number; it
is for reservations that must hold, not for estimates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, assert_never

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)

TOKENS_PER_REQUEST = 32
TOKENS_PER_MESSAGE = 16
TOKENS_PER_PART = 8
TOKENS_FOR_TOOLS = 1024
"""The prompt that a provider adds as soon as there is a tool (Anthropic: up to 530)."""
TOKENS_PER_TOOL = 64
TOKENS_PER_IMAGE = {"low": 3_000}
"""By ``detail``; all others are `TOKENS_PER_IMAGE_MAX`."""
TOKENS_PER_IMAGE_MAX = 50_000
"""The dearest known is gpt-4o-mini with 48,169 for a large image, 2,833 in low detail."""

_SAID_ELSEWHERE = frozenset(
    {
        "cache_control",
        "citations",
        "include",
        "logit_bias",
        "logprobs",
        "max_tool_calls",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream_options",
        "text",
        "top_logprobs",
        "verbosity",
    }
)
"""Fields of one wire format that say how to serve a request, not what to read."""


def input_tokens_bound(request: ChatRequest) -> int | None:
    """Return a number that the prompt's tokens do not exceed, or None if there is none.

    None for parts and fields that only one wire format knows: a file, a stored
    conversation or a hosted web search may bring in any number of tokens.
    """
    bounds = [
        _extra(request.extra),
        *map(_message, request.messages),
        *map(_tool, request.tools),
    ]
    total = _sum(bounds)
    if total is None:
        return None
    total += TOKENS_PER_REQUEST
    if request.tools:
        total += TOKENS_FOR_TOOLS
    if request.response_format is not None:
        total += TOKENS_PER_TOOL + _json(request.response_format.schema)
        total += _bytes(request.response_format.description)
    return total


def _message(message: Message) -> int | None:
    parts = _sum(map(_part, message.parts))
    if parts is None or _extra(message.extra) is None:
        return None
    return TOKENS_PER_MESSAGE + _bytes(message.name) + parts


def _part(part: Part) -> int | None:
    match part:
        case TextPart():
            return _sum([TOKENS_PER_PART + _bytes(part.text), _extra(part.extra)])
        case ImagePart():
            tokens = TOKENS_PER_IMAGE.get(part.detail or "", TOKENS_PER_IMAGE_MAX)
            return _sum([tokens, _extra(part.extra)])
        case ReasoningPart():
            # The signature holds the whole of the thinking, encrypted.
            hidden = _bytes(part.signature) + _bytes(part.redacted)
            return TOKENS_PER_PART + _bytes(part.text) + hidden
        case RefusalPart():
            return TOKENS_PER_PART + _bytes(part.text)
        case ToolCall():
            text = _bytes(part.id) + _bytes(part.name) + _bytes(part.arguments)
            return _sum([TOKENS_PER_TOOL + text, _extra(part.extra)])
        case ToolResult():
            around = TOKENS_PER_TOOL + _bytes(part.tool_call_id)
            return _sum([around, _extra(part.extra), *map(_part, part.content)])
        case OpaquePart():
            return None
        case _:
            assert_never(part)


def _tool(tool: Tool) -> int | None:
    text = _bytes(tool.name) + _bytes(tool.description) + _json(tool.parameters)
    return _sum([TOKENS_PER_TOOL + text, _extra(tool.extra)])


def _extra(extra: Mapping[str, Any]) -> int | None:
    return 0 if extra.keys() <= _SAID_ELSEWHERE else None


def _json(value: Mapping[str, Any] | None) -> int:
    # Twice, because a provider may show a schema to the model in another layout.
    return 0 if value is None else 2 * len(json.dumps(value, default=dict))


def _bytes(text: str | None) -> int:
    # A lone surrogate has no UTF-8 form; it counts as the three bytes it would take.
    return 0 if text is None else len(text.encode("utf-8", "surrogatepass"))


def _sum(bounds: Iterable[int | None]) -> int | None:
    total = 0
    for bound in bounds:
        if bound is None:
            return None
        total += bound
    return total
