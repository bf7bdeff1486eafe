"""OpenAI's SDK and our adapter understand an answer in its newer format alike."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from tests.e2e.makers import RESPONSES
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

openai = pytest.importorskip("openai", reason="openai is not installed")

pytestmark = pytest.mark.slow

MODEL = "gpt-5-mini"
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 25,
}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": THOUGHT}],
    "encrypted_content": "c2VhbGVk",
}


def message(text: str) -> dict[str, Any]:
    return {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def call(place: int) -> dict[str, Any]:
    name, arguments = CALLS[place]
    return {
        "type": "function_call",
        "id": f"fc_{place}",
        "call_id": IDS[place],
        "name": name,
        "arguments": json.dumps(arguments, ensure_ascii=False),
        "status": "completed",
    }


def response(*output: dict[str, Any], cut: bool = False) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "instructions": None,
        "metadata": {},
        "model": MODEL,
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": USAGE,
    }


def streamed_item(place: int, item: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of one item: its beginning, its pieces, its end."""
    at = {"output_index": place, "item_id": item["id"]}
    begun = {**item, "status": "in_progress"}
    match item["type"]:
        case "message":
            begun["content"] = []
            at["content_index"] = 0
            [part] = item["content"]
            empty = {**part, "text": ""}
            middle = [
                {"type": "response.content_part.added", **at, "part": empty},
                *(
                    {"type": "response.output_text.delta", **at, "delta": piece}
                    for piece in pieces(part["text"])
                ),
                {"type": "response.output_text.done", **at, "text": part["text"]},
                {"type": "response.content_part.done", **at, "part": part},
            ]
        case "reasoning":
            begun["summary"] = []
            at["summary_index"] = 0
            part = {"type": "summary_text", "text": THOUGHT}
            empty = {**part, "text": ""}
            middle = [
                {"type": "response.reasoning_summary_part.added", **at, "part": empty},
                *(
                    {
                        "type": "response.reasoning_summary_text.delta",
                        **at,
                        "delta": piece,
                    }
                    for piece in pieces(THOUGHT)
                ),
                {"type": "response.reasoning_summary_text.done", **at, "text": THOUGHT},
            ]
        case _:
            begun["arguments"] = ""
            text = item["arguments"]
            kind = "response.function_call_arguments"
            middle = [
                *({"type": f"{kind}.delta", **at, "delta": p} for p in pieces(text)),
                {"type": f"{kind}.done", **at, "arguments": text},
            ]
    return [
        {"type": "response.output_item.added", "output_index": place, "item": begun},
        *middle,
        {"type": "response.output_item.done", "output_index": place, "item": item},
    ]


def stream(means: Read, *items: dict[str, Any]) -> Answer:
    begun = {**response(), "status": "in_progress", "usage": None}
    end = {"type": "response.completed", "response": response(*items)}
    said = [
        {"type": "response.created", "response": begun},
        *(
            event
            for place, item in enumerate(items)
            for event in streamed_item(place, item)
        ),
        end,
    ]
    numbered = ({**event, "sequence_number": n} for n, event in enumerate(said))
    return events(means, *numbered, named=True)


EMPTY = Read(finish="completed", usage=(20, 8, 5, 3))
FULL = attrs.evolve(
    EMPTY, text=UNICODE, reasoning=THOUGHT, calls=CALLS[:1], ids=IDS[:1]
)

ANSWERS = {
    "full": whole(response(REASONING, message(UNICODE), call(0)), FULL),
    "empty": whole(response(), EMPTY),
    "cut off": whole(
        response(cut=True), attrs.evolve(EMPTY, finish="incomplete:max_output_tokens")
    ),
    "streamed": stream(FULL, REASONING, message(UNICODE), call(0)),
    "parallel calls": stream(
        attrs.evolve(EMPTY, calls=CALLS, ids=IDS), call(0), call(1)
    ),
    "nothing": stream(EMPTY),
}


def read(got: Any, *, with_ids: bool) -> Read:
    calls = [item for item in got.output if item.type == "function_call"]
    thoughts = [item for item in got.output if item.type == "reasoning"]
    details = got.incomplete_details
    used = got.usage
    return Read(
        text=got.output_text,
        reasoning="".join(part.text for item in thoughts for part in item.summary),
        calls=[(its.name, json.loads(its.arguments)) for its in calls],
        ids=[its.call_id for its in calls] if with_ids else None,
        finish=got.status if details is None else f"{got.status}:{details.reason}",
        usage=(
            used.input_tokens,
            used.input_tokens_details.cached_tokens,
            used.output_tokens,
            used.output_tokens_details.reasoning_tokens,
        ),
    )


@every(ANSWERS)
async def test_an_answer_is_what_the_sdk_reads(said: Answer, size: int):
    def use(url: str) -> Read:
        with openai.OpenAI(
            api_key=KEY, base_url=f"{url}/v1", timeout=20, max_retries=0
        ) as sdk:
            if said.stream:
                with sdk.responses.stream(model=MODEL, input="hello") as stream:
                    got = stream.get_final_response()
            else:
                got = sdk.responses.create(model=MODEL, input="hello")
        return read(got, with_ids=said.means.ids is not None)

    assert await read_by_sdk(said, size, use) == said.means
    assert await read_by_us(said, size, RESPONSES, MODEL) == said.means
