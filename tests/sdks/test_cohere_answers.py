"""Cohere's SDK and our Cohere adapter understand an answer alike."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import attrs
import pytest

from tests.e2e.makers import COHERE
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

cohere = pytest.importorskip("cohere", reason="cohere is not installed")

pytestmark = pytest.mark.slow

MODEL = "command-a-reasoning-08-2025"
USAGE = {
    "billed_units": {"input_tokens": 3, "output_tokens": 5},
    "tokens": {"input_tokens": 20, "output_tokens": 5},
    "cached_tokens": 8,
}
TEXTS = [json.dumps(arguments, ensure_ascii=False) for _, arguments in CALLS]


def body(finish: str = "COMPLETE", **message: Any) -> dict[str, Any]:
    return {
        "id": "c-1",
        "message": {"role": "assistant", **message},
        "finish_reason": finish,
        "usage": USAGE,
    }


def call(place: int) -> dict[str, Any]:
    function = {"name": CALLS[place][0], "arguments": TEXTS[place]}
    return {"id": IDS[place], "type": "function", "function": function}


def event(kind: str, place: int, **message: Any) -> dict[str, Any]:
    return {"type": kind, "index": place, "delta": {"message": message}}


def streamed_call(place: int) -> list[dict[str, Any]]:
    begun = call(place)
    begun["function"]["arguments"] = ""
    return [
        event("tool-call-start", place, tool_calls=begun),
        *(
            event("tool-call-delta", place, tool_calls={"function": {"arguments": p}})
            for p in pieces(TEXTS[place])
        ),
        {"type": "tool-call-end", "index": place},
    ]


def streamed_block(place: int, kind: str, text: str) -> list[dict[str, Any]]:
    return [
        event("content-start", place, content={"type": kind, kind: ""}),
        *(event("content-delta", place, content={kind: p}) for p in pieces(text)),
        {"type": "content-end", "index": place},
    ]


def stream(means: Read, *middle: dict[str, Any]) -> Answer:
    begin = {
        "type": "message-start",
        "id": "c-1",
        "delta": {
            "message": {
                "role": "assistant",
                "content": [],
                "tool_plan": "",
                "tool_calls": [],
                "citations": [],
            }
        },
    }
    end = {
        "type": "message-end",
        "delta": {"finish_reason": means.finish, "usage": USAGE},
    }
    return events(means, begin, *middle, end, named=True, done=True)


EMPTY = Read(finish="COMPLETE", usage=(20, 8, 5, 0))
FULL = attrs.evolve(
    EMPTY,
    text=UNICODE,
    reasoning=THOUGHT,
    calls=CALLS[:1],
    ids=IDS[:1],
    finish="TOOL_CALL",
)

ANSWERS = {
    "full": whole(
        body(
            "TOOL_CALL",
            content=[
                {"type": "thinking", "thinking": THOUGHT},
                {"type": "text", "text": UNICODE},
            ],
            tool_calls=[call(0)],
        ),
        FULL,
    ),
    "empty": whole(body(content=[]), EMPTY),
    "cut off": whole(body("MAX_TOKENS"), attrs.evolve(EMPTY, finish="MAX_TOKENS")),
    "streamed": stream(
        FULL,
        *streamed_block(0, "thinking", THOUGHT),
        *streamed_block(1, "text", UNICODE),
        *streamed_call(0),
    ),
    "parallel calls": stream(
        attrs.evolve(EMPTY, calls=CALLS, ids=IDS, finish="TOOL_CALL"),
        *streamed_call(0),
        *streamed_call(1),
    ),
    "nothing": stream(EMPTY),
}


def read(response: Any, *, with_ids: bool) -> Read:
    message = response.message
    found = Read(finish=response.finish_reason, usage=usage(response.usage))
    for block in message.content or ():
        if block.type == "thinking":
            found.reasoning += block.thinking
        else:
            found.text += block.text
    calls = message.tool_calls or ()
    found.calls = [(c.function.name, json.loads(c.function.arguments)) for c in calls]
    found.ids = [c.id for c in calls] if with_ids else None
    return found


def read_stream(chunks: Iterable[Any], *, with_ids: bool) -> Read:
    found = Read(ids=[] if with_ids else None)
    names, texts = [], []
    for chunk in chunks:
        match chunk.type:
            case "content-delta":
                content = chunk.delta.message.content
                found.text += content.text or ""
                found.reasoning += content.thinking or ""
            case "tool-call-start":
                begun = chunk.delta.message.tool_calls
                names.append(begun.function.name)
                texts.append(begun.function.arguments)
                assert found.ids is not None
                found.ids.append(begun.id)
            case "tool-call-delta":
                texts[-1] += chunk.delta.message.tool_calls.function.arguments
            case "message-end":
                found.finish = chunk.delta.finish_reason
                found.usage = usage(chunk.delta.usage)
    found.calls = list(zip(names, map(json.loads, texts), strict=True))
    return found


def usage(used: Any) -> tuple[int, int, int, int]:
    tokens = used.tokens
    return tokens.input_tokens, used.cached_tokens, tokens.output_tokens, 0


@every(ANSWERS)
async def test_an_answer_is_what_the_sdk_reads(said: Answer, size: int):
    def use(url: str) -> Read:
        messages = [cohere.UserChatMessageV2(content="hello")]
        with_ids = said.means.ids is not None
        with cohere.ClientV2(KEY, base_url=url, timeout=20, max_retries=0) as sdk:
            if said.stream:
                chunks = sdk.chat_stream(model=MODEL, messages=messages)
                return read_stream(chunks, with_ids=with_ids)
            response = sdk.chat(model=MODEL, messages=messages)
            return read(response, with_ids=with_ids)

    assert await read_by_sdk(said, size, use) == said.means
    assert await read_by_us(said, size, COHERE, MODEL) == said.means
