"""Version 2 of Cohere's chats."""

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
    named_event,
)

_USAGE: Final = {
    "tokens": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
}


def _whole(text: str) -> Json:
    return {
        "id": "c-chaos",
        "message": {"role": "assistant", "content": [{"type": "text", "text": text}]},
        "finish_reason": "COMPLETE",
        "usage": _USAGE,
    }


def _event(kind: str, **more: Any) -> bytes:
    return named_event({"type": kind, **more})


def _content(kind: str, **content: str) -> bytes:
    return _event(kind, index=0, delta={"message": {"content": content}})


def _stream(words: Sequence[str]) -> Streamed:
    started = {"message": {"role": "assistant"}}
    ended = {"finish_reason": "COMPLETE", "usage": _USAGE}
    return Streamed(
        begin=_event("message-start", id="c-chaos", delta=started)
        + _content("content-start", type="text", text=""),
        words=tuple(_content("content-delta", text=word) for word in words),
        end=_event("content-end", index=0) + _event("message-end", delta=ended),
    )


def _refuse(complaint: Complaint, key: str) -> Refusal:
    status, message = {
        "rate": (429, "rate limit exceeded, limit is 20 api calls / minute"),
        "quota": (429, "Trial keys are limited to 1000 API calls / month."),
        "server": (500, "internal server error"),
        "overloaded": (503, "service is overloaded, please try again later"),
        "key": (401, f"invalid api token: {key}"),
        "context": (400, "too many tokens: size limit exceeded by 4711 tokens."),
        "filter": (400, "the prompt was flagged by our moderation"),
    }[complaint]
    return Refusal(status=status, body={"id": "x-chaos", "message": message})


_FAILED: Final[Json] = {
    "id": "c-chaos",
    "message": {"role": "assistant", "content": []},
    "finish_reason": "ERROR",
    "error": "internal server error",
    "usage": _USAGE,
}

WIRE: Final = Wire(
    name="cohere",
    whole=_whole,
    stream=_stream,
    media=SSE,
    refuse=_refuse,
    failed_stream=_event(
        "message-end",
        delta={"finish_reason": "ERROR", "error": "internal server error"},
    ),
    failed_whole=_FAILED,
    is_stream=asks_in_body,
)
