"""Ollama's SDK and our Ollama adapter understand an answer alike."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import attrs
import pytest

from tests.e2e.makers import OLLAMA
from tests.sdks.reading import (
    CALLS,
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

ollama = pytest.importorskip("ollama", reason="ollama is not installed")

pytestmark = pytest.mark.slow

MODEL = "qwen3"


def line(*, finish: str | None = None, **message: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "model": MODEL,
        "created_at": "2026-11-20T12:00:00.123456789Z",
        "message": {"role": "assistant", "content": "", **message},
        "done": finish is not None,
    }
    if finish is not None:
        value |= {"done_reason": finish, "prompt_eval_count": 20, "eval_count": 5}
    return value


def lines(means: Read, *values: dict[str, Any]) -> Answer:
    texts = (json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    return Answer(
        body="".join(texts).encode(),
        means=means,
        stream=True,
        media_type="application/x-ndjson",
    )


def call(place: int) -> dict[str, Any]:
    name, arguments = CALLS[place]
    return {"function": {"name": name, "arguments": arguments}}


EMPTY = Read(finish="stop", usage=(20, 0, 5, 0))
FULL = attrs.evolve(EMPTY, text=UNICODE, reasoning=THOUGHT, calls=CALLS[:1])

ANSWERS = {
    "full": whole(
        line(finish="stop", content=UNICODE, thinking=THOUGHT, tool_calls=[call(0)]),
        FULL,
    ),
    "empty": whole(line(finish="stop"), EMPTY),
    "cut off": whole(line(finish="length"), attrs.evolve(EMPTY, finish="length")),
    "streamed": lines(
        FULL,
        *(line(thinking=piece) for piece in pieces(THOUGHT)),
        *(line(content=piece) for piece in pieces(UNICODE)),
        line(tool_calls=[call(0)]),
        line(finish="stop"),
    ),
    "parallel calls": lines(
        attrs.evolve(EMPTY, calls=CALLS),
        line(tool_calls=[call(0)]),
        line(tool_calls=[call(1)]),
        line(finish="stop"),
    ),
    "calls in one line": lines(
        attrs.evolve(EMPTY, calls=CALLS),
        line(tool_calls=[call(0), call(1)], finish="stop"),
    ),
    "nothing": lines(EMPTY, line(finish="stop")),
}


def read(responses: Iterable[Any]) -> Read:
    found = Read()
    for response in responses:
        message = response.message
        found.text += message.content or ""
        found.reasoning += message.thinking or ""
        for its in message.tool_calls or ():
            found.calls.append((its.function.name, dict(its.function.arguments)))
        if response.done:
            found.finish = response.done_reason
            found.usage = (response.prompt_eval_count, 0, response.eval_count, 0)
    return found


@every(ANSWERS)
async def test_an_answer_is_what_the_sdk_reads(said: Answer, size: int):
    def use(url: str) -> Read:
        messages = [ollama.Message(role="user", content="hello")]
        with ollama.Client(host=url, timeout=20) as sdk:
            got = sdk.chat(model=MODEL, messages=messages, stream=said.stream)
            return read(got if said.stream else [got])

    assert await read_by_sdk(said, size, use) == said.means
    assert await read_by_us(said, size, OLLAMA, MODEL) == said.means
