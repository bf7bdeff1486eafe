"""The bodies of the vendors' formats, in the document: what is needed and read of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from duckservice.gateway.app.openapi.parts import (
    Json,
    array,
    free_object,
    nullable,
    obj,
    ref,
    string,
    whole,
    word,
)

_OPENAI: Final = "https://platform.openai.com/docs/api-reference"
_ANTHROPIC: Final = "https://docs.anthropic.com/en/api"
_MODEL: Final[Json] = string("Any configured model, of any provider.", minLength=1)
_ANY: Final[Json] = {"type": "object"}

_CHAT_FIELDS: Final = (
    *("model", "messages", "max_tokens", "max_completion_tokens", "temperature"),
    *("top_p", "top_k", "n", "stop", "seed", "presence_penalty"),
    *("frequency_penalty", "tools", "tool_choice", "functions", "function_call"),
    *("parallel_tool_calls", "response_format", "reasoning_effort", "user"),
    *("stream", "stream_options"),
)
_RESPONSES_FIELDS: Final = (
    *("model", "input", "instructions", "tools", "tool_choice"),
    *("parallel_tool_calls", "text", "reasoning", "max_output_tokens"),
    *("temperature", "top_p", "user", "safety_identifier", "stream"),
    *("stream_options", "truncation", "background"),
)
_MESSAGES_FIELDS: Final = (
    *("model", "messages", "max_tokens", "system", "temperature", "top_p"),
    *("top_k", "stop_sequences", "stream", "tools", "tool_choice", "thinking"),
    *("metadata", "output_config"),
)

_USAGE: Final[Json] = obj({"prompt_tokens": whole(), "total_tokens": whole()})

SCHEMAS: Final[Mapping[str, Json]] = {
    "ChatRequest": free_object(
        {"model": _MODEL, "messages": array(_ANY, minItems=1)},
        _CHAT_FIELDS,
        "OpenAI's body of a chat completion.",
        f"{_OPENAI}/chat/create",
    ),
    "ChatReply": obj(
        {
            "id": string(),
            "object": word("chat.completion"),
            "created": whole(),
            "model": string(),
            "choices": array(_ANY),
            "usage": ref("Usage"),
        },
        {"system_fingerprint": nullable(string()), "service_tier": nullable(string())},
        about="OpenAI's `chat.completion`.",
    ),
    "ResponsesRequest": free_object(
        {"model": _MODEL, "input": {"type": ["string", "array"]}},
        _RESPONSES_FIELDS,
        "OpenAI's body of a response.",
        f"{_OPENAI}/responses/create",
    ),
    "ResponsesReply": {
        **_ANY,
        "required": ["id", "object", "status", "model", "output", "usage"],
        "description": "OpenAI's `response`.",
    },
    "MessagesRequest": free_object(
        {
            "model": _MODEL,
            "messages": array(_ANY, minItems=1),
            "max_tokens": whole(),
        },
        _MESSAGES_FIELDS,
        "Anthropic's body of a message.",
        f"{_ANTHROPIC}/messages",
    ),
    "MessagesReply": {
        **_ANY,
        "required": ["id", "type", "role", "content", "model", "stop_reason", "usage"],
        "description": "Anthropic's `message`.",
    },
    "CountTokensRequest": free_object(
        {"model": _MODEL, "messages": array(_ANY, minItems=1)},
        _MESSAGES_FIELDS,
        "Anthropic's body of a message; `max_tokens` may be absent.",
        f"{_ANTHROPIC}/messages-count-tokens",
    ),
    "TokenCount": obj({"input_tokens": whole()}),
    "EmbeddingsRequest": free_object(
        {"model": _MODEL, "input": {"type": ["string", "array"]}},
        ("model", "input", "dimensions", "user", "encoding_format"),
        "OpenAI's body of an embeddings request.",
        f"{_OPENAI}/embeddings/create",
    ),
    "EmbeddingsReply": obj(
        {
            "object": word("list"),
            "data": array(
                obj(
                    {
                        "object": word("embedding"),
                        "index": whole(),
                        "embedding": {"type": ["array", "string"]},
                    }
                )
            ),
            "model": string(),
            "usage": _USAGE,
        },
        about="OpenAI's list of embeddings.",
    ),
    "ImagesRequest": free_object(
        {"model": _MODEL, "prompt": string()},
        ("model", "prompt", "n", "size", "quality", "response_format", "user"),
        "OpenAI's body of an image generation; `stream` and `partial_images` are"
        " refused.",
        f"{_OPENAI}/images/create",
    ),
    "ImagesReply": {
        **_ANY,
        "required": ["created", "data"],
        "description": "OpenAI's list of pictures.",
    },
    "Usage": obj(
        {
            "prompt_tokens": whole(),
            "completion_tokens": whole(),
            "total_tokens": whole(),
            "prompt_tokens_details": obj(
                {"cached_tokens": whole()}, {"cache_write_tokens": whole()}
            ),
            "completion_tokens_details": obj({"reasoning_tokens": whole()}),
        },
        about="Tokens, in OpenAI's words.",
    ),
}
