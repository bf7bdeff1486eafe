"""What we answer a Responses client can be sent back as input, to every provider."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from duckservice.completion import (
    Choice,
    Chunk,
    Completion,
    Finished,
    Part,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    RefusalPart,
    Started,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from duckservice.gateway.wire.openai_responses import decode_responses
from duckservice.gateway.wire.responses_reply import encode_completion
from duckservice.gateway.wire.responses_stream import ResponseStreamEncoder
from tests.e2e.makers import MAKERS
from tests.gateway.responses_reader import Reader
from tests.providers.asking import asked_of

ASKED = {"role": "user", "content": "Go."}

#: Each letter is a part of the answer: a text, a thought, a refusal, a call.
SHAPES = ["x", "c", "xcx", "cx", "cxcx", "hxccx", "hchcx", "hxhx", "xxcc", "rc", "xrcx"]


def parts_of(shape: str) -> list[Part]:
    makers = {
        "x": lambda n: TextPart(text=f"said-{n}."),
        "h": lambda n: ReasoningPart(text=f"thought-{n}."),
        "r": lambda n: RefusalPart(text=f"said-{n}."),
        "c": lambda n: ToolCall(
            id=f"id-{n}.", name="f", arguments=f'{{"q": "argument-{n}."}}'
        ),
    }
    return [makers[letter](number) for number, letter in enumerate(shape)]


def chunks_of(parts: Sequence[Part]) -> list[Chunk]:
    """Return the chunks of *parts*; each call's arguments come when all has begun."""
    chunks: list[Chunk] = [Started(id="c1", model="m")]
    rest: list[Chunk] = []
    for part in parts:
        match part:
            case TextPart(text=text):
                chunks.append(TextDelta(text=text))
            case ReasoningPart(text=text):
                chunks.append(ReasoningDelta(text=text))
            case RefusalPart(text=text):
                chunks.append(RefusalDelta(text=text))
            case ToolCall():
                index = len(rest)
                chunks.append(ToolCallDelta(index=index, id=part.id, name=part.name))
                rest.append(ToolCallDelta(index=index, arguments=part.arguments))
    return [*chunks, *rest, Finished(reason="stop")]


def output_of(parts: Sequence[Part], *, stream: bool) -> list[dict]:
    settings = decode_responses(b'{"model":"m","input":"hi"}').settings
    if not stream:
        choices = (Choice(parts=tuple(parts)),)
        whole = Completion(id="c1", model="m", choices=choices, usage=Usage())
        return json.loads(encode_completion(whole, settings))["output"]
    encoder = ResponseStreamEncoder(settings=settings, clock=lambda: 1.0)
    raw = b"".join(encoder.encode((chunk,)) for chunk in chunks_of(parts))
    return Reader(raw + encoder.finish()).output


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())
async def test_an_answer_of_any_shape_goes_on_with_its_results(maker, shape, stream):
    parts = parts_of(shape)
    output = output_of(parts, stream=stream)
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": made}
        for item in output
        if item["type"] == "function_call"
        for made in [item["arguments"].split('"')[3].replace("argument", "result")]
    ]
    items = [ASKED, *output, *reversed(results), ASKED]
    body = {"model": "claude-m", "max_output_tokens": 50, "input": items}
    request = decode_responses(json.dumps(body).encode()).request
    sent = json.dumps(await asked_of(maker, request))
    for number, part in enumerate(parts):
        match part:
            case TextPart(text=text) | RefusalPart(text=text):
                assert sent.count(text) == 1
            case ToolCall():
                assert sent.count(f"argument-{number}.") == 1
                assert sent.count(f"result-{number}.") == 1
                call, result = (
                    sent.index(f"{kind}-{number}.") for kind in ("argument", "result")
                )
                assert call < result
            case _:
                assert sent.count(f"thought-{number}.") <= 1


@pytest.mark.parametrize("shape", SHAPES)
async def test_who_speaks_the_format_gets_the_items_in_their_order(shape):
    output = output_of(parts_of(shape), stream=False)
    body = {"model": "gpt-5", "input": [ASKED, *output]}
    request = decode_responses(json.dumps(body).encode()).request
    sent = await asked_of(MAKERS["responses"], request)
    kinds = [item.get("type", "message") for item in sent["input"][1:]]
    assert kinds == [item["type"] for item in output if item["type"] != "reasoning"]
