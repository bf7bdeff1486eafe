"""How many tokens a prompt can have at most, without a tokenizer.

A tokenizer over bytes (BPE, as all served models use) makes no token out of less
than one byte, so the prompt's UTF-8 bytes bound its tokens. To them comes what is put
around messages, tools and pictures, and the prompt that a provider adds unseen: both
are not published, and are constants that lie above all that real traffic has shown.
The bound is three to four times the real number; it is for reservations, not for
estimates. It does not hold where a model looks things up by itself, unasked.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from duckservice.core.extra_bound import (
    TOKENS_PER_PART,
    Unbounded,
    extra_bound,
    json_text,
    verbatim_bound,
)

TOKENS_PER_REQUEST = 32
TOKENS_PER_MESSAGE = 16
TOKENS_FOR_TOOLS = 1024
"""The prompt that a provider adds as soon as there is a tool (Anthropic: up to 530)."""
TOKENS_PER_TOOL = 64
TOKENS_PER_IMAGE = {"low": 3_000}
"""By ``detail``; all others are `TOKENS_PER_IMAGE_MAX`."""
TOKENS_PER_IMAGE_MAX = 50_000
"""The dearest known is gpt-4o-mini with 48,169 for a large image, 2,833 in low detail."""

_OPTIONS = frozenset(
    {
        "cache_control",
        "include",
        "logit_bias",
        "logprobs",
        "max_tool_calls",
        "metadata",
        "phase",
        "prefix",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream_options",
        "text",
        "thinking",
        "top_logprobs",
        "usage",
        "verbosity",
    }
)
"""Fields of one wire format that say how to serve a request, not what to read."""

_READ = frozenset({"documents", "output_config", "response_format", "tool_choice"})
"""Fields of a request, beside its messages, that the model reads as they are."""

_TEXTUAL = frozenset(
    {
        "custom_tool_call",
        "custom_tool_call_output",
        "document",
        "reasoning",
        "search_result",
        "thinking",
    }
)
"""Types of parts that only one wire format knows, and that are all text."""


def input_tokens_bound(request: ChatRequest, *, hidden_prompt: int = 0) -> int:
    """Return a number that the prompt's tokens do not exceed.

    *hidden_prompt* is what the provider adds to every request. What only one wire
    format knows counts with the bytes of its JSON.

    Raises:
        Unbounded: the prompt refers to what is not in it: a file, a stored
            conversation, a hosted web search; or has a field of unknown meaning.
    """
    total = TOKENS_PER_REQUEST + hidden_prompt
    total += sum(map(_message, request.messages)) + sum(map(_tool, request.tools))
    for name, value in request.extra.items():
        if name in _READ:
            total += extra_bound({name: value})
        elif name not in _OPTIONS:
            msg = f"the size of what {name!r} brings in is not known"
            raise Unbounded(msg)
    if request.tools:
        total += TOKENS_FOR_TOOLS
    if request.response_format is not None:
        total += TOKENS_PER_TOOL + _json(request.response_format.schema)
        total += _bytes(request.response_format.description)
    return total


def _message(message: Message) -> int:
    around = TOKENS_PER_MESSAGE + _bytes(message.name) + extra_bound(message.extra)
    return around + sum(map(_part, message.parts))


def _part(part: Part) -> int:
    match part:
        case TextPart():
            return TOKENS_PER_PART + _bytes(part.text) + extra_bound(part.extra)
        case ImagePart():
            tokens = TOKENS_PER_IMAGE.get(part.detail or "", TOKENS_PER_IMAGE_MAX)
            return tokens + extra_bound(part.extra)
        case ReasoningPart():
            # The signature holds the whole of the thinking, encrypted.
            hidden = _bytes(part.signature) + _bytes(part.redacted)
            return TOKENS_PER_PART + _bytes(part.text) + hidden
        case RefusalPart():
            return TOKENS_PER_PART + _bytes(part.text)
        case ToolCall():
            text = _bytes(part.id) + _bytes(part.name) + _bytes(part.arguments)
            return TOKENS_PER_TOOL + text + extra_bound(part.extra)
        case ToolResult():
            around = (
                TOKENS_PER_TOOL + _bytes(part.tool_call_id) + extra_bound(part.extra)
            )
            return around + sum(map(_part, part.content))
        case OpaquePart():
            return _opaque(part)
        case _:
            assert_never(part)


def _opaque(part: OpaquePart) -> int:
    kind = part.value.get("type")
    if kind not in _TEXTUAL:
        msg = f"the size of a part of type {kind!r} is not known"
        raise Unbounded(msg)
    return TOKENS_PER_TOOL + extra_bound(part.value)


def _tool(tool: Tool) -> int:
    if "type" in tool.extra:
        # A format's own tool is the provider's: it adds a prompt, and what it finds.
        msg = f"the size of what the tool {tool.name!r} brings in is not known"
        raise Unbounded(msg)
    text = _bytes(tool.name) + _bytes(tool.description) + _json(tool.parameters)
    # What it says of files and URLs is what its arguments are called.
    return TOKENS_PER_TOOL + text + verbatim_bound(tool.extra)


def _json(value: Mapping[str, Any] | None) -> int:
    # Twice, because a provider may show a schema to the model in another layout.
    return 0 if value is None else 2 * len(json_text(value))


def _bytes(text: str | None) -> int:
    # A lone surrogate has no UTF-8 form; it counts as the three bytes it would take.
    return 0 if text is None else len(text.encode("utf-8", "surrogatepass"))
