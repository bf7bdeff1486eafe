"""Anthropic's SDK and our Anthropic adapter understand an answer alike."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from tests.e2e.makers import ANTHROPIC
from tests.sdks.reading import (
    CALLS,
    IDS,
    THOUGHT,
    UNICODE,
    Answer,
    Read,
    events,
    every,
    pieces,
    read_by_sdk,
    read_by_us,
    whole,
)
from tests.sdks.sending import KEY

anthropic = pytest.importorskip("anthropic", reason="anthropic is not installed")

pytestmark = pytest.mark.slow

MODEL = "claude-haiku-4-5"
USAGE = {
    "input_tokens": 8,
    "output_tokens": 5,
    "cache_read_input_tokens": 8,
    "cache_creation_input_tokens": 4,
}


def body(*content: dict[str, Any], stop: str | None = "end_turn") -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
    }


def call(number: int) -> dict[str, Any]:
    name, arguments = CALLS[number]
    return {"type": "tool_use", "id": IDS[number], "name": name, "input": arguments}


def block(place: int, start: dict[str, Any], *deltas: dict[str, Any]):
    at = {"index": place}
    return [
        {"type": "content_block_start", **at, "content_block": start},
        *({"type": "content_block_delta", **at, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", **at},
    ]


def text_block(place: int, kind: str, text: str):
    name = "text_delta" if kind == "text" else "thinking_delta"
    start: dict[str, Any] = {"type": kind, kind: ""}
    deltas: list[dict[str, Any]] = [{"type": name, kind: p} for p in pieces(text)]
    if kind == "thinking":
        start["signature"] = ""
        deltas.append({"type": "signature_delta", "signature": "s"})
    return block(place, start, *deltas)


def call_block(place: int, number: int):
    arguments = CALLS[number][1]
    text = json.dumps(arguments, ensure_ascii=False) if arguments else ""
    deltas = [
        {"type": "input_json_delta", "partial_json": piece} for piece in pieces(text)
    ]
    return block(place, {**call(number), "input": {}}, *deltas)


def stream(means: Read, *middle: dict[str, Any]) -> Answer:
    begun = body(stop=None)
    begun["usage"] = {**USAGE, "output_tokens": 1}
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": means.finish, "stop_sequence": None},
        "usage": {"output_tokens": 5},
    }
    start = {"type": "message_start", "message": begun}
    stop = {"type": "message_stop"}
    return events(means, start, {"type": "ping"}, *middle, end, stop, named=True)


EMPTY = Read(finish="end_turn", usage=(20, 8, 5, 0))
FULL = attrs.evolve(
    EMPTY,
    text=UNICODE,
    reasoning=THOUGHT,
    calls=CALLS[:1],
    ids=IDS[:1],
    finish="tool_use",
)

ANSWERS = {
    "full": whole(
        body(
            {"type": "thinking", "thinking": THOUGHT, "signature": "s"},
            {"type": "text", "text": UNICODE},
            call(0),
            stop="tool_use",
        ),
        FULL,
    ),
    "empty": whole(body(), EMPTY),
    "cut off": whole(body(stop="max_tokens"), attrs.evolve(EMPTY, finish="max_tokens")),
    "streamed": stream(
        FULL,
        *text_block(0, "thinking", THOUGHT),
        *text_block(1, "text", UNICODE),
        *call_block(2, 0),
    ),
    "parallel calls": stream(
        attrs.evolve(EMPTY, calls=CALLS, ids=IDS, finish="tool_use"),
        *call_block(0, 0),
        *call_block(1, 1),
    ),
    "nothing": stream(EMPTY),
}


def read(message: Any, *, with_ids: bool) -> Read:
    calls = [block for block in message.content if block.type == "tool_use"]
    used = message.usage
    cached = used.cache_read_input_tokens
    # What is cached is counted apart.
    sent = used.input_tokens + cached + used.cache_creation_input_tokens
    return Read(
        text="".join(b.text for b in message.content if b.type == "text"),
        reasoning="".join(b.thinking for b in message.content if b.type == "thinking"),
        calls=[(block.name, block.input) for block in calls],
        ids=[block.id for block in calls] if with_ids else None,
        finish=message.stop_reason,
        usage=(sent, cached, used.output_tokens, 0),
    )


@every(ANSWERS)
async def test_an_answer_is_what_the_sdk_reads(said: Answer, size: int):
    def use(url: str) -> Read:
        asked: dict[str, Any] = {
            "model": MODEL,
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "hello"}],
        }
        with anthropic.Anthropic(
            api_key=KEY, base_url=url, timeout=20, max_retries=0
        ) as sdk:
            if said.stream:
                with sdk.messages.stream(**asked) as events:
                    message = events.get_final_message()
            else:
                message = sdk.messages.create(**asked)
        return read(message, with_ids=said.means.ids is not None)

    assert await read_by_sdk(said, size, use) == said.means
    assert await read_by_us(said, size, ANTHROPIC, MODEL) == said.means
