"""Cohere's SDK and our Cohere adapter send requests that mean the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from duckservice.gateway.wire.openai_embeddings import decode_embedding
from tests.e2e.makers import COHERE
from tests.e2e.running import json_answer
from tests.sdks import talks
from tests.sdks.meaning import arguments_read, differences
from tests.sdks.sending import KEY, sent_by_sdk, sent_by_us
from tests.sdks.talks import CALLS, PARAMETERS, RESULTS, TALKS, sayable

cohere = pytest.importorskip("cohere", reason="cohere is not installed")

pytestmark = pytest.mark.slow

MODEL = "command-a-03-2025"
VECTORS = json_answer(
    {
        "id": "e-1",
        "embeddings": {"float": [[0.1], [0.2]]},
        "texts": talks.TEXTS,
        "meta": {"billed_units": {"input_tokens": 2}},
    }
)


def using(use: Callable[[Any], object]) -> Callable[[str], None]:
    """Return what calls *use* with the SDK's client of an upstream."""

    def at(url: str) -> None:
        with cohere.ClientV2(KEY, base_url=url, timeout=20, max_retries=0) as sdk:
            use(sdk)

    return at


def said(text: str):
    return cohere.UserChatMessageV2(content=text)


def tool(name: str):
    function = cohere.ToolV2Function(
        name=name, description=talks.DESCRIPTION, parameters=PARAMETERS
    )
    return cohere.ToolV2(function=function)


def calling(*places: int, **more: Any):
    calls = [
        cohere.ToolCallV2(
            id=own_id,
            function=cohere.ToolCallV2Function(
                name=name, arguments=json.dumps(arguments)
            ),
        )
        for own_id, name, arguments in (CALLS[place] for place in places)
    ]
    return cohere.AssistantChatMessageV2(tool_calls=calls, **more)


def result(place: int):
    return cohere.ToolChatMessageV2(
        tool_call_id=CALLS[place][0], content=json.dumps(RESULTS[place])
    )


SYSTEM = cohere.SystemChatMessageV2(content=talks.SYSTEM)
BOTH = [tool(talks.TOOL), tool(talks.OTHER_TOOL)]
PICTURE = cohere.ImageUrlContent(
    image_url=cohere.ImageUrl(url=f"data:image/png;base64,{talks.PICTURE}")
)

NATIVE: dict[str, dict[str, Any]] = {
    "greeting": {},
    "turns": {
        "messages": [
            said(talks.PROMPT),
            cohere.AssistantChatMessageV2(content=talks.REPLY),
            said(talks.MORE),
        ]
    },
    "sampling": {"temperature": 0.5, "p": 0.9},
    "stop": {"stop_sequences": talks.STOPS},
    "penalties": {"seed": 7, "presence_penalty": 0.25, "frequency_penalty": 0.5},
    "result": {
        "messages": [said(talks.PROMPT), calling(0), result(0)],
        "tools": BOTH[:1],
    },
    "results": {
        "messages": [
            said(talks.PROMPT),
            calling(0, 1, content=talks.PLAN),
            result(0),
            result(1),
            said(talks.MORE),
        ],
        "tools": BOTH,
    },
    "picture": {
        "messages": [
            cohere.UserChatMessageV2(
                content=[cohere.TextContent(text=talks.PROMPT), PICTURE]
            )
        ]
    },
    "schema": {
        "response_format": cohere.JsonObjectResponseFormatV2(json_schema=talks.SCHEMA)
    },
    "required": {"tools": BOTH, "tool_choice": "REQUIRED"},
    # There is no word for one tool among several.
    "named": {"tools": BOTH[:1], "tool_choice": "REQUIRED"},
    "none": {"tools": BOTH, "tool_choice": "NONE"},
    "effort": {"thinking": cohere.Thinking(type="enabled", token_budget=2048)},
    "budget": {"thinking": cohere.Thinking(type="enabled", token_budget=talks.BUDGET)},
}


def asked(name: str) -> dict[str, Any]:
    given = NATIVE[name]
    return {
        "model": MODEL,
        "max_tokens": talks.MAX_TOKENS,
        **given,
        "messages": [SYSTEM, *given.get("messages", [said(talks.PROMPT)])],
    }


@pytest.mark.parametrize(("name", "form"), sayable())
async def test_a_request_is_what_the_sdk_sends(name, form):
    request = TALKS[name].request(form, MODEL)
    ours = await sent_by_us(COHERE, request, COHERE.text)
    theirs = await sent_by_sdk(COHERE.text, using(lambda sdk: sdk.chat(**asked(name))))
    assert not differences(ours, theirs, arguments_read)


async def test_a_request_for_a_stream_is_what_the_sdk_sends():
    request = TALKS["greeting"].request("openai", MODEL)
    ours = await sent_by_us(COHERE, request, COHERE.text_stream, stream=True)
    theirs = await sent_by_sdk(
        COHERE.text_stream,
        using(lambda sdk: list(sdk.chat_stream(**asked("greeting")))),
    )
    assert not differences(ours, theirs, arguments_read)


async def test_a_request_for_embeddings_is_what_the_sdk_sends():
    body = b'{"model": "embed-v4.0", "input": ["sun", "rain"], "dimensions": 256}'
    ours = await sent_by_us(COHERE, decode_embedding(body).request, VECTORS)
    theirs = await sent_by_sdk(
        VECTORS,
        using(
            lambda sdk: sdk.embed(
                model="embed-v4.0",
                input_type="search_document",
                texts=talks.TEXTS,
                embedding_types=["float"],
                output_dimension=256,
            )
        ),
    )
    assert not differences(ours, theirs, arguments_read)
