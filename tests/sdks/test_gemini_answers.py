"""Google's SDK (google-genai) and our Gemini adapter understand an answer alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import pytest

from tests.e2e.makers import GEMINI
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

genai = pytest.importorskip("google.genai", reason="google-genai is not installed")

pytestmark = pytest.mark.slow

MODEL = "gemini-2.5-flash"
USAGE = {
    "promptTokenCount": 20,
    "cachedContentTokenCount": 8,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 3,
    "totalTokenCount": 28,
}


def body(*parts: dict[str, Any], finish: str | None = "STOP", **content: Any):
    content |= {"role": "model", "parts": list(parts)} if parts else {"role": "model"}
    candidate: dict[str, Any] = {"content": content, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": USAGE,
        "modelVersion": MODEL,
        "responseId": "r-1",
    }


def call(place: int) -> dict[str, Any]:
    name, arguments = CALLS[place]
    return {"functionCall": {"id": IDS[place], "name": name, "args": arguments}}


def thought(text: str) -> dict[str, Any]:
    return {"text": text, "thought": True}


EMPTY = Read(finish="STOP", usage=(20, 8, 8, 3))
FULL = attrs.evolve(EMPTY, text=UNICODE, reasoning=THOUGHT, calls=CALLS[:1])

ANSWERS = {
    "full": whole(
        body(thought(THOUGHT), {"text": UNICODE, "thoughtSignature": "c2ln"}, call(0)),
        FULL,
    ),
    "empty": whole(body(), EMPTY),
    "cut off": whole(
        body(finish="MAX_TOKENS"), attrs.evolve(EMPTY, finish="MAX_TOKENS")
    ),
    "streamed": events(
        FULL,
        *(body(thought(piece), finish=None) for piece in pieces(THOUGHT)),
        *(body({"text": piece}, finish=None) for piece in pieces(UNICODE)),
        body(call(0), finish=None),
        body({"text": "", "thoughtSignature": "c2ln"}),
    ),
    "parallel calls": events(
        attrs.evolve(EMPTY, calls=CALLS, ids=IDS),
        body(call(0), finish=None),
        body(call(1)),
    ),
    "nothing": events(EMPTY, body()),
}


def read(responses: Iterable[Any], *, with_ids: bool) -> Read:
    found = Read(ids=[] if with_ids else None)
    for response in responses:
        [candidate] = response.candidates
        for part in candidate.content.parts or ():
            if part.function_call is not None:
                its = part.function_call
                found.calls.append((its.name, its.args))
                if found.ids is not None:
                    found.ids.append(its.id)
            elif part.thought:
                found.reasoning += part.text
            else:
                found.text += part.text or ""
        if candidate.finish_reason is not None:
            found.finish = candidate.finish_reason.value
        used = response.usage_metadata
        thoughts = used.thoughts_token_count
        replied = used.candidates_token_count + thoughts  # it counts them apart
        cached = used.cached_content_token_count
        found.usage = (used.prompt_token_count, cached, replied, thoughts)
    return found


@every(ANSWERS)
async def test_an_answer_is_what_the_sdk_reads(said: Answer, size: int):
    def use(url: str) -> Read:
        options = genai.types.HttpOptions(
            base_url=url, api_version="v1beta", timeout=20_000
        )
        with genai.Client(api_key=KEY, http_options=options) as sdk:
            asked = {"model": MODEL, "contents": "hello"}
            responses = (
                sdk.models.generate_content_stream(**asked)
                if said.stream
                else [sdk.models.generate_content(**asked)]
            )
            return read(responses, with_ids=said.means.ids is not None)

    assert await read_by_sdk(said, size, use) == said.means
    assert await read_by_us(said, size, GEMINI, MODEL) == said.means
