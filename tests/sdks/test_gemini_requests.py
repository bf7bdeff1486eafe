"""Google's SDK (google-genai) and our Gemini adapter send requests that mean the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from duckservice.gateway.wire.openai_embeddings import decode_embedding
from tests.e2e.makers import GEMINI
from tests.e2e.running import json_answer
from tests.sdks import talks
from tests.sdks.meaning import differences
from tests.sdks.sending import KEY, sent_by_sdk, sent_by_us
from tests.sdks.talks import CALLS, PARAMETERS, RESULTS, TALKS, sayable

genai = pytest.importorskip("google.genai", reason="google-genai is not installed")
types = genai.types

pytestmark = pytest.mark.slow

MODEL = "gemini-2.5-flash"
VECTORS = json_answer({"embeddings": [{"values": [0.1]}, {"values": [0.2]}]})


def using(use: Callable[[Any], object]) -> Callable[[str], None]:
    """Return what calls *use* with the SDK's client of an upstream."""

    def at(url: str) -> None:
        # Its default is v1 since 3.0; what we speak, as recorded, is v1beta.
        options = types.HttpOptions(base_url=url, api_version="v1beta", timeout=20_000)
        with genai.Client(api_key=KEY, http_options=options) as sdk:
            use(sdk.models)

    return at


def turn(role: str, *parts: Any):
    return types.Content(role=role, parts=list(parts))


def text(value: str):
    return types.Part.from_text(text=value)


def call(place: int):
    own_id, name, arguments = CALLS[place]
    made = types.FunctionCall(id=own_id, name=name, args=arguments)
    return types.Part(function_call=made)


def result(place: int):
    own_id, name, _ = CALLS[place]
    made = types.FunctionResponse(id=own_id, name=name, response=RESULTS[place])
    return types.Part(function_response=made)


def tools(*names: str) -> list:
    return [
        types.Tool(
            function_declarations=[
                types.FunctionDeclaration(
                    name=name,
                    description=talks.DESCRIPTION,
                    parameters_json_schema=PARAMETERS,
                )
                for name in names
            ]
        )
    ]


def choosing(mode: str, *names: str) -> dict[str, Any]:
    calling = types.FunctionCallingConfig(
        mode=mode, allowed_function_names=list(names) or None
    )
    return {
        "config": {
            "tools": BOTH,
            "tool_config": types.ToolConfig(function_calling_config=calling),
        }
    }


def thinking(budget: int) -> dict[str, Any]:
    config = types.ThinkingConfig(thinking_budget=budget, include_thoughts=True)
    return {"config": {"thinking_config": config}}


BOTH = tools(talks.TOOL, talks.OTHER_TOOL)
PROMPT = turn("user", text(talks.PROMPT))
PICTURE = types.Part(
    inline_data=types.Blob(mime_type="image/png", data=talks.PICTURE),
)

NATIVE: dict[str, dict[str, Any]] = {
    "greeting": {},
    "turns": {
        "contents": [
            PROMPT,
            turn("model", text(talks.REPLY)),
            turn("user", text(talks.MORE)),
        ]
    },
    "sampling": {"config": {"temperature": 0.5, "top_p": 0.9}},
    "stop": {"config": {"stop_sequences": talks.STOPS}},
    "penalties": {
        "config": {"seed": 7, "presence_penalty": 0.25, "frequency_penalty": 0.5}
    },
    "result": {
        "contents": [PROMPT, turn("model", call(0)), turn("user", result(0))],
        "config": {"tools": tools(talks.TOOL)},
    },
    "results": {
        "contents": [
            PROMPT,
            turn("model", text(talks.PLAN), call(0), call(1)),
            turn("user", result(0), result(1), text(talks.MORE)),
        ],
        "config": {"tools": BOTH},
    },
    "picture": {"contents": [turn("user", text(talks.PROMPT), PICTURE)]},
    "schema": {
        "config": {
            "response_mime_type": "application/json",
            "response_json_schema": talks.SCHEMA,
        }
    },
    "required": choosing("ANY"),
    "named": choosing("ANY", talks.TOOL),
    "none": choosing("NONE"),
    "effort": thinking(1024),
    "budget": thinking(talks.BUDGET),
}


def asked(name: str) -> dict[str, Any]:
    given = NATIVE[name]
    config = {
        "system_instruction": talks.SYSTEM,
        "max_output_tokens": talks.MAX_TOKENS,
        **given.get("config", {}),
    }
    return {
        "model": MODEL,
        "contents": given.get("contents", [PROMPT]),
        "config": types.GenerateContentConfig(**config),
    }


FREE = ("args", "response", "parametersJsonSchema", "responseJsonSchema")
"""Members whose values are not in Google's words."""


def normal(body: dict[str, Any]) -> dict[str, Any]:
    body = in_camel_case(body)
    # A role beside the turns is written by the SDK, and read by nobody.
    instruction = body.get("systemInstruction", {})
    for content in (instruction, *(its["content"] for its in body.get("requests", ()))):
        content.pop("role", None)
    return body


def in_camel_case(value: Any) -> Any:
    """Return *value* in one of the two spellings that Google's servers take.

    The SDK mixes them: a protobuf's JSON may have either.
    """
    match value:
        case dict():
            named = {camel(name): member for name, member in value.items()}
            return {
                name: member if name in FREE else in_camel_case(member)
                for name, member in named.items()
            }
        case list():
            return [in_camel_case(item) for item in value]
        case _:
            return value


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


@pytest.mark.parametrize(("name", "form"), sayable())
async def test_a_request_is_what_the_sdk_sends(name, form):
    request = TALKS[name].request(form, MODEL)
    ours = await sent_by_us(GEMINI, request, GEMINI.text)
    theirs = await sent_by_sdk(
        GEMINI.text, using(lambda models: models.generate_content(**asked(name)))
    )
    assert not differences(ours, theirs, normal)


async def test_a_request_for_a_stream_is_what_the_sdk_sends():
    request = TALKS["greeting"].request("openai", MODEL)
    ours = await sent_by_us(GEMINI, request, GEMINI.text_stream, stream=True)
    theirs = await sent_by_sdk(
        GEMINI.text_stream,
        using(lambda models: list(models.generate_content_stream(**asked("greeting")))),
    )
    assert not differences(ours, theirs, normal)


async def test_a_request_for_embeddings_is_what_the_sdk_sends():
    body = (
        b'{"model": "gemini-embedding-001", "input": ["sun", "rain"], "dimensions": 8}'
    )
    ours = await sent_by_us(GEMINI, decode_embedding(body).request, VECTORS)
    theirs = await sent_by_sdk(
        VECTORS,
        using(
            lambda models: models.embed_content(
                model="gemini-embedding-001",
                contents=talks.TEXTS,
                config=types.EmbedContentConfig(output_dimensionality=8),
            )
        ),
    )
    assert not differences(ours, theirs, normal)
