"""A `Completion` written as Anthropic's message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from duckservice.completion import (
    Choice,
    Completion,
    FinishReason,
    ImagePart,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCall,
    Usage,
)
from duckservice.errors import BadProviderResponse
from duckservice.gateway.wire.pictures import pictures_of, unsayable_picture

EXTRAS = frozenset({"container", "context_management", "stop_details", "diagnostics"})
"""What Anthropic says about a message beside what we understand of it."""

_NATIVE_REASONS = frozenset(
    {
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
    }
)
_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def encode_completion(completion: Completion) -> bytes:
    """Write the body of a reply of ``/v1/messages``: the first choice.

    Raises `BadProviderResponse` if the arguments of a tool call are no JSON
    object, and `Unprocessable` for a picture: the format has no place for them.
    """
    choice = completion.choices[0] if completion.choices else Choice()
    if any(pictures_of(choice.extra)):
        raise unsayable_picture()
    body: dict[str, Any] = {
        "id": completion.id,
        "type": "message",
        "role": "assistant",
        "model": completion.model,
        "content": [block for part in choice.parts if (block := _block(part))],
        "stop_reason": stop_reason(
            choice.finish_reason,
            choice.native_finish_reason,
            choice.stop_sequence,
            refused=any(isinstance(part, RefusalPart) for part in choice.parts),
            called=bool(choice.tool_calls),
        ),
        "stop_sequence": choice.stop_sequence,
        "usage": usage_fields(completion.usage),
    }
    for extra in (completion.extra, choice.extra):
        body.update(known_extras(extra))
    return _encode(body)


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Return *usage* in Anthropic's words: cached tokens are no input tokens."""
    cached = usage.cached_tokens + usage.cache_write_tokens
    fields: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - cached),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.cache_write_tokens:
        hour = usage.hour_write_tokens
        fields["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - hour,
            "ephemeral_1h_input_tokens": hour,
        }
    if usage.reasoning_tokens:
        fields["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return fields


def stop_reason(
    reason: FinishReason,
    native: str | None,
    stop_sequence: str | None,
    *,
    refused: bool,
    called: bool,
) -> str:
    """Return Anthropic's word: the provider's own if it is one of Anthropic's.

    OpenAI says ``stop`` for a call that the request has forced; a client of Anthropic
    carries calls out only if it is told ``tool_use``.
    """
    if native in _NATIVE_REASONS:
        return native
    if reason == "stop" and called:
        return "tool_use"
    if reason == "stop" and refused:
        return "refusal"
    if reason == "stop" and stop_sequence is not None:
        return "stop_sequence"
    return _REASONS[reason]


def known_extras(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of *extra* that belong into a message."""
    return {key: value for key, value in extra.items() if key in EXTRAS}


def _block(part: Part) -> dict[str, Any] | None:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text, **_citations(part.extra)}
        case RefusalPart(text=text):
            return {"type": "text", "text": text}
        case ReasoningPart(redacted=str(redacted)):
            return {"type": "redacted_thinking", "data": redacted}
        case ReasoningPart(text=text, signature=signature):
            return {"type": "thinking", "thinking": text, "signature": signature or ""}
        case ToolCall():
            return _tool_use(part)
        case OpaquePart(format="anthropic", value=value):
            return dict(value)
        case ImagePart():
            raise unsayable_picture()
        case _:
            # Another format's parts have no place in a reply.
            return None


def _citations(extra: Mapping[str, Any]) -> dict[str, Any]:
    # Other formats' extras have no place in a message.
    return {"citations": extra["citations"]} if extra.get("citations") else {}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments.strip() or "{}"
    try:
        value: Any = _decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        value = None
    if type(value) is not dict:
        raise BadProviderResponse(
            f"the arguments of the call of {call.name!r} are not a JSON object"
        )
    # The model's own text goes out: numbers keep their digits.
    raw = msgspec.Raw(arguments.encode())
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": raw}
