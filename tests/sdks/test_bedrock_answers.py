"""AWS's SDK (boto3) and our Bedrock adapter understand an answer alike."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from tests.e2e.makers import BEDROCK
from tests.providers.event_bytes import event
from tests.sdks.reading import (
    CALLS,
    IDS,
    THOUGHT,
    UNICODE,
    Answer,
    Read,
    every,
    pieces,
    read_by_sdk,
    read_by_us,
    whole,
)

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")

pytestmark = pytest.mark.slow

MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
USAGE = {
    "inputTokens": 12,
    "outputTokens": 5,
    "totalTokens": 25,
    "cacheReadInputTokens": 8,
    "cacheWriteInputTokens": 0,
}


def body(*content: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": list(content)}},
        "stopReason": stop,
        "usage": USAGE,
        "metrics": {"latencyMs": 1},
    }


def frames(means: Read, *values: tuple[str, Any], stop: str = "end_turn") -> Answer:
    said = [
        ("messageStart", {"role": "assistant"}),
        *values,
        ("messageStop", {"stopReason": stop}),
        ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}}),
    ]
    return Answer(
        body=b"".join(event(kind, value) for kind, value in said),
        means=means,
        stream=True,
        media_type="application/vnd.amazon.eventstream",
    )


def delta(place: int, value: dict[str, Any]) -> tuple[str, Any]:
    return "contentBlockDelta", {"contentBlockIndex": place, "delta": value}


def streamed_call(place: int, number: int) -> list[tuple[str, Any]]:
    name, arguments = CALLS[number]
    its = {"toolUseId": IDS[number], "name": name}
    text = json.dumps(arguments, ensure_ascii=False) if arguments else ""
    return [
        (
            "contentBlockStart",
            {"contentBlockIndex": place, "start": {"toolUse": its}},
        ),
        *(delta(place, {"toolUse": {"input": piece}}) for piece in pieces(text)),
        ("contentBlockStop", {"contentBlockIndex": place}),
    ]


def call(number: int) -> dict[str, Any]:
    name, arguments = CALLS[number]
    return {"toolUse": {"toolUseId": IDS[number], "name": name, "input": arguments}}


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
            {
                "reasoningContent": {
                    "reasoningText": {"text": THOUGHT, "signature": "s"}
                }
            },
            {"text": UNICODE},
            call(0),
            stop="tool_use",
        ),
        FULL,
    ),
    "empty": whole(body(), EMPTY),
    "cut off": whole(body(stop="max_tokens"), attrs.evolve(EMPTY, finish="max_tokens")),
    "streamed": frames(
        FULL,
        *(delta(0, {"reasoningContent": {"text": piece}}) for piece in pieces(THOUGHT)),
        delta(0, {"reasoningContent": {"signature": "s"}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        *(delta(1, {"text": piece}) for piece in pieces(UNICODE)),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        *streamed_call(2, 0),
        stop="tool_use",
    ),
    "parallel calls": frames(
        attrs.evolve(EMPTY, calls=CALLS, ids=IDS, finish="tool_use"),
        *streamed_call(0, 0),
        *streamed_call(1, 1),
        stop="tool_use",
    ),
    "nothing": frames(EMPTY),
}


def read(response: dict[str, Any], *, with_ids: bool) -> Read:
    found = Read(finish=response["stopReason"], ids=[] if with_ids else None)
    for block in response["output"]["message"]["content"]:
        match block:
            case {"text": text}:
                found.text += text
            case {"reasoningContent": {"reasoningText": {"text": text}}}:
                found.reasoning += text
            case {"toolUse": {"toolUseId": own_id, "name": name, "input": value}}:
                found.calls.append((name, value))
                assert found.ids is not None
                found.ids.append(own_id)
    found.usage = usage(response["usage"])
    return found


def read_stream(stream: Any, *, with_ids: bool) -> Read:
    found = Read(ids=[] if with_ids else None)
    inputs: dict[int, str] = {}
    for one in stream:
        match one:
            case {"contentBlockStart": {"contentBlockIndex": at, "start": start}}:
                found.calls.append((start["toolUse"]["name"], None))
                inputs[at] = ""
                assert found.ids is not None
                found.ids.append(start["toolUse"]["toolUseId"])
            case {"contentBlockDelta": {"delta": {"text": text}}}:
                found.text += text
            case {"contentBlockDelta": {"delta": {"reasoningContent": said}}}:
                found.reasoning += said.get("text", "")
            case {"contentBlockDelta": {"contentBlockIndex": at, "delta": value}}:
                inputs[at] += value["toolUse"]["input"]
            case {"messageStop": {"stopReason": reason}}:
                found.finish = reason
            case {"metadata": {"usage": used}}:
                found.usage = usage(used)
    values = [json.loads(text or "{}") for text in inputs.values()]
    names = [name for name, _ in found.calls]
    found.calls = list(zip(names, values, strict=True))
    return found


def usage(used: dict[str, int]) -> tuple[int, int, int, int]:
    cached = used["cacheReadInputTokens"]  # it counts them apart
    return used["inputTokens"] + cached, cached, used["outputTokens"], 0


@every(ANSWERS)
async def test_an_answer_is_what_the_sdk_reads(said: Answer, size: int):
    def use(url: str) -> Read:
        sdk = boto3.client(
            "bedrock-runtime",
            endpoint_url=url,
            region_name="eu-central-1",
            aws_access_key_id="id",
            aws_secret_access_key="secret",
        )
        asked = {
            "modelId": MODEL,
            "messages": [{"role": "user", "content": [{"text": "hello"}]}],
        }
        with_ids = said.means.ids is not None
        try:
            if said.stream:
                stream = sdk.converse_stream(**asked)["stream"]
                return read_stream(stream, with_ids=with_ids)
            return read(sdk.converse(**asked), with_ids=with_ids)
        finally:
            sdk.close()

    assert await read_by_sdk(said, size, use) == said.means
    assert await read_by_us(said, size, BEDROCK, MODEL) == said.means
