"""Ollama's own chats: a stream is one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from duckservice.chaos.wire import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Complaint,
    Json,
    Refusal,
    Streamed,
    Wire,
)


def _answer(text: str, *, done: bool) -> Json:
    answer: Json = {
        "model": "chaos",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": text},
        "done": done,
    }
    if not done:
        return answer
    return answer | {
        "done_reason": "stop",
        "prompt_eval_count": INPUT_TOKENS,
        "eval_count": OUTPUT_TOKENS,
    }


def _whole(text: str) -> Json:
    return _answer(text, done=True)


def _line(value: Json) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _stream(words: Sequence[str]) -> Streamed:
    return Streamed(
        begin=b"",
        words=tuple(_line(_answer(word, done=False)) for word in words),
        end=_line(_answer("", done=True)),
    )


def _refuse(complaint: Complaint, key: str) -> Refusal:
    status, message = {
        "rate": (429, "too many requests"),
        "quota": (429, "you have reached your weekly usage limit"),
        "server": (500, "llama runner process has terminated"),
        "overloaded": (503, "server busy, please try again"),
        "key": (401, f"unauthorized: {key}"),
        "context": (400, "the prompt exceeds the context length"),
        "filter": (400, "the prompt was flagged by moderation"),
    }[complaint]
    return Refusal(status=status, body={"error": message})


def _is_stream(_target: str, body: Json) -> bool:
    return body.get("stream") is not False


_FAILED: Final[Json] = {"error": "llama runner process has terminated"}

WIRE: Final = Wire(
    name="ollama",
    whole=_whole,
    stream=_stream,
    media="application/x-ndjson",
    refuse=_refuse,
    failed_stream=_line(_FAILED),
    failed_whole=_FAILED,
    is_stream=_is_stream,
)
