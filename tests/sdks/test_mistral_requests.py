"""Mistral's SDK and our Mistral adapter send requests that mean the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from duckservice.gateway.wire.openai_embeddings import decode_embedding
from tests.e2e.makers import MAKERS
from tests.e2e.running import json_answer
from tests.sdks import talks
from tests.sdks.meaning import arguments_read, differences, named, without_nulls
from tests.sdks.sending import KEY, sent_by_sdk, sent_by_us
from tests.sdks.talks import CALLS, PARAMETERS, RESULTS, TALKS, sayable

mistralai = pytest.importorskip("mistralai.client", reason="mistralai is not installed")
models = pytest.importorskip("mistralai.client.models", reason="mistralai is missing")

pytestmark = pytest.mark.slow

MISTRAL = MAKERS["mistral"]
MODEL = "mistral-medium-latest"
VECTORS = json_answer(
    {
        "id": "e-1",
        "object": "list",
        "model": "mistral-embed",
        "data": [
            {"object": "embedding", "index": place, "embedding": [0.1]}
            for place in range(2)
        ],
        "usage": {"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 2},
    }
)


def using(use: Callable[[Any], object]) -> Callable[[str], None]:
    """Return what calls *use* with the SDK's client of an upstream."""

    def at(url: str) -> None:
        with mistralai.Mistral(api_key=KEY, server_url=url, timeout_ms=20_000) as sdk:
            use(sdk)

    return at


def said(text: str):
    return models.UserMessage(content=text)


def tool(name: str):
    function = models.Function(
        name=name, description=talks.DESCRIPTION, parameters=PARAMETERS
    )
    return models.Tool(function=function)


def calls(*places: int) -> list:
    return [
        models.ToolCall(
            id=CALLS[place][0],
            function=models.FunctionCall(
                name=CALLS[place][1], arguments=json.dumps(CALLS[place][2])
            ),
        )
        for place in places
    ]


def result(place: int):
    return models.ToolMessage(
        tool_call_id=CALLS[place][0], content=json.dumps(RESULTS[place])
    )


BOTH = [tool(talks.TOOL), tool(talks.OTHER_TOOL)]

NATIVE: dict[str, dict[str, Any]] = {
    "greeting": {},
    "turns": {
        "messages": [
            said(talks.PROMPT),
            models.AssistantMessage(content=talks.REPLY),
            said(talks.MORE),
        ]
    },
    "sampling": {"temperature": 0.5, "top_p": 0.9},
    "stop": {"stop": talks.STOPS},
    "penalties": {"random_seed": 7, "presence_penalty": 0.25, "frequency_penalty": 0.5},
    "result": {
        "messages": [
            said(talks.PROMPT),
            models.AssistantMessage(tool_calls=calls(0)),
            result(0),
        ],
        "tools": BOTH[:1],
    },
    "results": {
        "messages": [
            said(talks.PROMPT),
            models.AssistantMessage(content=talks.PLAN, tool_calls=calls(0, 1)),
            result(0),
            result(1),
            said(talks.MORE),
        ],
        "tools": BOTH,
    },
    "picture": {
        "messages": [
            models.UserMessage(
                content=[
                    models.TextChunk(text=talks.PROMPT),
                    models.ImageURLChunk(
                        image_url=f"data:image/png;base64,{talks.PICTURE}"
                    ),
                ]
            )
        ]
    },
    "schema": {
        "response_format": models.ResponseFormat(
            type="json_schema",
            json_schema=models.JSONSchema(
                name="verdict", schema_definition=talks.SCHEMA, strict=True
            ),
        )
    },
    "required": {"tools": BOTH, "tool_choice": "any"},
    "named": {
        "tools": BOTH,
        "tool_choice": models.ToolChoice(function=models.FunctionName(name=talks.TOOL)),
    },
    "none": {"tools": BOTH, "tool_choice": "none"},
    # There are two efforts: high, and none.
    "effort": {"reasoning_effort": "high"},
    "budget": {"reasoning_effort": "high"},
}


def asked(name: str) -> dict[str, Any]:
    given = NATIVE[name]
    system = models.SystemMessage(content=talks.SYSTEM)
    return {
        "model": MODEL,
        "max_tokens": talks.MAX_TOKENS,
        **given,
        "messages": [system, *given.get("messages", [said(talks.PROMPT)])],
    }


DEFAULTS = {"stream": False, "encoding_format": "float", "prefix": False, "index": 0}
"""What holds where nothing is said; the SDK or we say it all the same."""


def normal(body: dict[str, Any]) -> dict[str, Any]:
    body = arguments_read(without_nulls(body))
    turns = body.get("messages", [])
    calls = [call for turn in turns for call in turn.get("tool_calls", ())]
    for said in (body, *turns, *calls):
        for name, default in DEFAULTS.items():
            if said.get(name) == default:
                del said[name]
    for turn in turns:
        for chunk in turn.get("content", "") if turn["role"] == "user" else ():
            if isinstance(chunk, dict) and isinstance(chunk.get("image_url"), dict):
                chunk["image_url"] = chunk["image_url"]["url"]  # both are taken
    return named(body)


@pytest.mark.parametrize(("name", "form"), sayable())
async def test_a_request_is_what_the_sdk_sends(name, form):
    request = TALKS[name].request(form, MODEL)
    ours = await sent_by_us(MISTRAL, request, MISTRAL.text)
    theirs = await sent_by_sdk(
        MISTRAL.text, using(lambda sdk: sdk.chat.complete(**asked(name)))
    )
    assert not differences(ours, theirs, normal)


async def test_a_request_for_a_stream_is_what_the_sdk_sends():
    request = TALKS["greeting"].request("openai", MODEL)
    ours = await sent_by_us(MISTRAL, request, MISTRAL.text_stream, stream=True)
    theirs = await sent_by_sdk(
        MISTRAL.text_stream,
        using(lambda sdk: list(sdk.chat.stream(**asked("greeting")))),
    )
    assert not differences(ours, theirs, normal)


async def test_a_request_for_embeddings_is_what_the_sdk_sends():
    body = b'{"model": "mistral-embed", "input": ["sun", "rain"], "dimensions": 256}'
    ours = await sent_by_us(MISTRAL, decode_embedding(body).request, VECTORS)
    theirs = await sent_by_sdk(
        VECTORS,
        using(
            lambda sdk: sdk.embeddings.create(
                model="mistral-embed", inputs=talks.TEXTS, output_dimension=256
            )
        ),
    )
    assert not differences(ours, theirs, normal)
