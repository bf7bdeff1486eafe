"""Anthropic's Messages, at Anthropic and at Vertex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

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
    named_event,
)

_USAGE: Final = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}


def _message(*content: Json, stop: str | None) -> Json:
    return {
        "id": "msg_chaos",
        "type": "message",
        "role": "assistant",
        "model": "chaos",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": _USAGE,
    }


def _whole(text: str) -> Json:
    return _message({"type": "text", "text": text}, stop="end_turn")


def _stream(words: Sequence[str]) -> Streamed:
    begun: Json = {"type": "message_start", "message": _message(stop=None)}
    block: Json = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    ended: Json = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": OUTPUT_TOKENS},
    }
    return Streamed(
        begin=named_event(begun) + named_event(block),
        words=tuple(map(_delta, words)),
        end=named_event({"type": "content_block_stop", "index": 0})
        + named_event(ended)
        + named_event({"type": "message_stop"}),
    )


def _delta(word: str) -> bytes:
    return named_event(
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": word},
        }
    )


def _error(kind: str, message: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}}


def _refuse(complaint: Complaint, key: str) -> Refusal:
    status, kind, message = {
        "rate": (429, "rate_limit_error", "Number of requests has exceeded your limit"),
        "quota": (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API.",
        ),
        "server": (500, "api_error", "Internal server error"),
        "overloaded": (503, "overloaded_error", "Overloaded"),
        "key": (401, "authentication_error", f"invalid x-api-key {key}"),
        "context": (
            400,
            "invalid_request_error",
            "prompt is too long: 200001 tokens > 200000 maximum",
        ),
        "filter": (
            400,
            "invalid_request_error",
            "Output blocked by content filtering policy",
        ),
    }[complaint]
    return Refusal(status=status, body=_error(kind, message))


_FAILED: Final = _error("overloaded_error", "Overloaded")

WIRE: Final = Wire(
    name="anthropic",
    whole=_whole,
    stream=_stream,
    media=SSE,
    refuse=_refuse,
    failed_stream=named_event(_FAILED),
    failed_whole=_FAILED,
    is_stream=asks_in_body,
)
