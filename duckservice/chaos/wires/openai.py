"""OpenAI's Chat Completions, which most others speak as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from duckservice.chaos.wire import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    SSE,
    Complaint,
    Json,
    Refusal,
    Streamed,
    Wire,
    asks_in_body,
    data_event,
)

_USAGE: Final = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


def _fields(kind: str, **more: Any) -> Json:
    return {
        "id": "chatcmpl-chaos",
        "object": kind,
        "created": 1_750_000_000,
        "model": "chaos",
        **more,
    }


def _whole(text: str) -> Json:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return _fields("chat.completion", choices=[choice], usage=_USAGE)


def _event(delta: Json, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return data_event(_fields("chat.completion.chunk", choices=[choice], usage=None))


def _stream(words: Sequence[str]) -> Streamed:
    usage = data_event(_fields("chat.completion.chunk", choices=[], usage=_USAGE))
    return Streamed(
        begin=_event({"role": "assistant", "content": ""}),
        words=tuple(_event({"content": word}) for word in words),
        end=_event({}, "stop") + usage + b"data: [DONE]\n\n",
    )


def error(message: str, kind: str, code: str | None) -> Json:
    """Return an error in OpenAI's envelope."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def refuse(complaint: Complaint, key: str) -> Refusal:
    """Return a refusal in OpenAI's words."""
    status, message, kind, code = {
        "rate": (429, "Rate limit reached for requests", "requests", "rate_limit_exceeded"),
        "quota": (
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
        "server": (500, "The server had an error while processing your request.", "server_error", None),
        "overloaded": (503, "The engine is currently overloaded.", "server_error", None),
        "key": (
            401,
            f"Incorrect API key provided: {key}.",
            "invalid_request_error",
            "invalid_api_key",
        ),
        "context": (
            400,
            "This model's maximum context length is 8192 tokens, and yours are 9001.",
            "invalid_request_error",
            "context_length_exceeded",
        ),
        "filter": (
            400,
            "The response was filtered by our content management policy.",
            "invalid_request_error",
            "content_filter",
        ),
    }[complaint]  # fmt: skip
    return Refusal(status=status, body=error(message, kind, code))


_FAILED: Final = error("The server had an error.", "server_error", None)

WIRE: Final = Wire(
    name="openai",
    whole=_whole,
    stream=_stream,
    media=SSE,
    refuse=refuse,
    failed_stream=data_event(_FAILED),
    failed_whole=_FAILED,
    is_stream=asks_in_body,
)
