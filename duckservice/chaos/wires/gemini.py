"""Google's generateContent, at Gemini and at Vertex."""

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
    data_event,
)

_USAGE: Final = {
    "promptTokenCount": INPUT_TOKENS,
    "candidatesTokenCount": OUTPUT_TOKENS,
    "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
}


def _answer(text: str, finish: str | None) -> Json:
    candidate: Json = {
        "index": 0,
        "content": {"role": "model", "parts": [{"text": text}]},
    }
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": _USAGE,
        "modelVersion": "chaos",
        "responseId": "r-chaos",
    }


def _whole(text: str) -> Json:
    return _answer(text, "STOP")


def _stream(words: Sequence[str]) -> Streamed:
    return Streamed(
        begin=b"",
        words=tuple(data_event(_answer(word, None)) for word in words),
        end=data_event(_answer("", "STOP")),
    )


def _error(code: int, status: str, message: str) -> Json:
    return {"error": {"code": code, "message": message, "status": status}}


def _refuse(complaint: Complaint, key: str) -> Refusal:
    code, status, message = {
        "rate": (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted."),
        "quota": (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."),
        "server": (500, "INTERNAL", "An internal error has occurred."),
        "overloaded": (503, "UNAVAILABLE", "The model is overloaded."),
        "key": (400, "INVALID_ARGUMENT", f"API key not valid: {key}"),
        "context": (
            400,
            "INVALID_ARGUMENT",
            "The input token count (9001) exceeds the maximum number of tokens (8192).",
        ),
        "filter": (
            400,
            "INVALID_ARGUMENT",
            "The prompt violates our Responsible AI practices.",
        ),
    }[complaint]
    return Refusal(status=code, body=_error(code, status, message))


def _is_stream(target: str, _body: Json) -> bool:
    return ":streamGenerateContent" in target


_FAILED: Final = _error(503, "UNAVAILABLE", "The model is overloaded.")

WIRE: Final = Wire(
    name="gemini",
    whole=_whole,
    stream=_stream,
    media=SSE,
    refuse=_refuse,
    failed_stream=data_event(_FAILED),
    failed_whole=_FAILED,
    is_stream=_is_stream,
)
