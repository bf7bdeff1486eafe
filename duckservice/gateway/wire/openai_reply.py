"""A `Completion` written as OpenAI's chat completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from duckservice.completion import (
    Choice,
    Completion,
    FinishReason,
    ImagePart,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCall,
    Usage,
)

MESSAGE_EXTRAS = frozenset(
    {
        *("annotations", "audio", "extra_content", "images"),
        # OpenRouter's and Cohere's, which go back to them with the message.
        *("reasoning_details", "tool_plan"),
    }
)
"""What a provider's extra fields belong to: these to the message, others to the
choice."""

CALL_EXTRAS = frozenset({"extra_content"})
"""What goes out with a call or a picture, and has to come back: Google's signatures."""

_COMPLETION_KEYS = frozenset({"id", "object", "created", "model", "choices", "usage"})

_encode = msgspec.json.Encoder().encode


def encode_completion(
    completion: Completion, *, now: float = 0.0, legacy_functions: bool = False
) -> bytes:
    """Write the body of a reply of ``/v1/chat/completions``.

    The model is the one that the provider reported. Reasoning becomes
    ``reasoning_content``, the name that most providers have agreed on; its
    signatures have no place in this format. *now*, in seconds since the epoch,
    is used where the provider did not say when it answered.
    """
    body: dict[str, Any] = {
        "id": completion.id,
        "object": "chat.completion",
        "created": completion.created or int(now),
        "model": completion.model,
        "choices": [_choice(choice, legacy_functions) for choice in completion.choices],
        "usage": usage_fields(completion.usage),
    }
    body.update(without(completion.extra, _COMPLETION_KEYS))
    return _encode(body)


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Return *usage* in OpenAI's words."""
    prompt_details = {"cached_tokens": usage.cached_tokens}
    if usage.cache_write_tokens:
        prompt_details["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def finish_reason(reason: FinishReason, *, legacy_functions: bool) -> str:
    """Return OpenAI's word; the provider's own may be the same and mean another thing."""
    if legacy_functions and reason == "tool_calls":
        return "function_call"
    return reason


def tool_call_fields(call: ToolCall) -> dict[str, Any]:
    """Return a whole tool call in OpenAI's words."""
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
        **call_extras(call.extra),
    }


def call_extras(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what of its extra fields a client of this format is to keep."""
    if not extra:
        return extra
    return {key: value for key, value in extra.items() if key in CALL_EXTRAS}


def without(extra: Mapping[str, Any], keys: frozenset[str]) -> Mapping[str, Any]:
    """Return *extra* without *keys*, so that it cannot overwrite what we say."""
    if not extra or extra.keys().isdisjoint(keys):
        return extra
    return {key: value for key, value in extra.items() if key not in keys}


def _choice(choice: Choice, legacy_functions: bool) -> dict[str, Any]:
    message = _message(choice, legacy_functions)
    fields: dict[str, Any] = {
        "index": choice.index,
        "message": message,
        "logprobs": None,
        "finish_reason": finish_reason(
            choice.finish_reason, legacy_functions=legacy_functions
        ),
    }
    for key, value in choice.extra.items():
        if key in MESSAGE_EXTRAS:
            message[key] = value
        elif key == "logprobs" or key not in fields:
            fields[key] = value
    return fields


def _message(choice: Choice, legacy_functions: bool) -> dict[str, Any]:
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for part in choice.parts:
        match part:
            case TextPart(text=text):
                texts.append(text)
            case RefusalPart(text=text):
                refusals.append(text)
            case ReasoningPart(text=text):
                thoughts.append(text)
            case ToolCall():
                calls.append(part)
            case _:
                # Pictures follow; another format's parts have no place in a reply.
                pass
    message: dict[str, Any] = {
        "role": "assistant",
        "content": _joined(texts),
        "refusal": _joined(refusals),
    }
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if calls and legacy_functions:
        function = calls[0]
        message["function_call"] = {
            "name": function.name,
            "arguments": function.arguments,
        }
    elif calls:
        message["tool_calls"] = [tool_call_fields(call) for call in calls]
    pictures = [_image(part) for part in choice.parts if isinstance(part, ImagePart)]
    if pictures:
        message["images"] = pictures
    return message


def _image(image: ImagePart) -> dict[str, Any]:
    # The format has no words for pictures in a reply; these are OpenRouter's.
    url = image.url or f"data:{image.media_type};base64,{image.data}"
    fields = {"type": "image_url", "image_url": {"url": url}}
    return {**fields, **call_extras(image.extra)}


def _joined(texts: Sequence[str]) -> str | None:
    return "".join(texts) if texts else None
