"""OpenAI's Responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from duckservice.chaos.wire import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    SSE,
    Json,
    Streamed,
    Wire,
    asks_in_body,
    named_event,
)
from duckservice.chaos.wires.openai import refuse

_USAGE: Final = {
    "input_tokens": INPUT_TOKENS,
    "output_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


def _response(status: str, *output: Json, **more: Any) -> Json:
    return {
        "id": "resp_chaos",
        "object": "response",
        "created_at": 1_750_000_000,
        "model": "chaos",
        "status": status,
        "error": None,
        "incomplete_details": None,
        "output": list(output),
        "usage": _USAGE if status == "completed" else None,
        **more,
    }


def _item(text: str, status: str = "completed") -> Json:
    part: Json = {"type": "output_text", "text": text, "annotations": []}
    return {
        "id": "msg_chaos",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [part] if text else [],
    }


def _whole(text: str) -> Json:
    return _response("completed", _item(text))


def _delta(word: str) -> bytes:
    return named_event(
        {
            "type": "response.output_text.delta",
            "item_id": "msg_chaos",
            "output_index": 0,
            "content_index": 0,
            "delta": word,
        }
    )


def _item_event(kind: str, item: Json) -> bytes:
    return named_event(
        {"type": f"response.output_item.{kind}", "output_index": 0, "item": item}
    )


def _stream(words: Sequence[str]) -> Streamed:
    item = _item("".join(words))
    begun: Json = {"type": "response.created", "response": _response("in_progress")}
    done: Json = {
        "type": "response.completed",
        "response": _response("completed", item),
    }
    return Streamed(
        begin=named_event(begun) + _item_event("added", _item("", "in_progress")),
        words=tuple(map(_delta, words)),
        end=_item_event("done", item) + named_event(done),
    )


_FAILED: Final = _response(
    "failed", error={"code": "server_error", "message": "The server had an error."}
)

WIRE: Final = Wire(
    name="responses",
    whole=_whole,
    stream=_stream,
    media=SSE,
    refuse=refuse,
    failed_stream=named_event({"type": "response.failed", "response": _FAILED}),
    failed_whole=_FAILED,
    is_stream=asks_in_body,
)
