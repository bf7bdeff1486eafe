"""OpenAI's SDK and our adapter in its newer format send requests that mean the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from duckservice.errors import InvalidRequest
from duckservice.providers.responses.request import SCHEMA_NAME
from tests.e2e.makers import RESPONSES
from tests.sdks import talks
from tests.sdks.meaning import differences
from tests.sdks.sending import sent_by_sdk, sent_by_us
from tests.sdks.talks import CALLS, PARAMETERS, RESULTS, TALKS, sayable
from tests.sdks.test_openai_requests import using

pytestmark = pytest.mark.slow

MODEL = "gpt-5-mini"

NO_WORDS = {"stop": "stop", "penalties": "seed"}
"""What Responses has no field for, and the field that is refused."""


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def call(place: int) -> dict[str, Any]:
    own_id, name, arguments = CALLS[place]
    return {
        "type": "function_call",
        "call_id": own_id,
        "name": name,
        "arguments": json.dumps(arguments),
    }


def result(place: int) -> dict[str, Any]:
    return {
        "type": "function_call_output",
        "call_id": CALLS[place][0],
        "output": json.dumps(RESULTS[place]),
    }


def tool(name: str) -> dict[str, Any]:
    return {
        "type": "function",
        "name": name,
        "description": talks.DESCRIPTION,
        "parameters": PARAMETERS,
        "strict": False,
    }


BOTH = [tool(talks.TOOL), tool(talks.OTHER_TOOL)]
PROMPT = said("user", talks.PROMPT)
PICTURE = {
    "type": "input_image",
    "image_url": f"data:image/png;base64,{talks.PICTURE}",
    "detail": "auto",
}

NATIVE: dict[str, dict[str, Any]] = {
    "greeting": {},
    "turns": {
        "input": [PROMPT, said("assistant", talks.REPLY), said("user", talks.MORE)]
    },
    "sampling": {"temperature": 0.5, "top_p": 0.9},
    "result": {"input": [PROMPT, call(0), result(0)], "tools": BOTH[:1]},
    "results": {
        "input": [
            PROMPT,
            said("assistant", talks.PLAN),
            call(0),
            call(1),
            result(0),
            result(1),
            said("user", talks.MORE),
        ],
        "tools": BOTH,
    },
    "picture": {
        "input": [said("user", [{"type": "input_text", "text": talks.PROMPT}, PICTURE])]
    },
    "schema": {
        "text": {
            "format": {
                "type": "json_schema",
                "name": "verdict",
                "schema": talks.SCHEMA,
                "strict": True,
            }
        }
    },
    "required": {"tools": BOTH, "tool_choice": "required"},
    "named": {
        "tools": BOTH,
        "tool_choice": {"type": "function", "name": talks.TOOL},
    },
    "none": {"tools": BOTH, "tool_choice": "none"},
    "effort": {"reasoning": {"effort": "low"}},
    # An Anthropic client is shown the thoughts.
    "budget": {"reasoning": {"effort": "low", "summary": "auto"}},
}


def asked(name: str) -> dict[str, Any]:
    given = NATIVE[name]
    return {
        "model": MODEL,
        "max_output_tokens": talks.MAX_TOKENS,
        # Who lets nothing be kept there must take the thoughts along.
        "store": False,
        "include": ["reasoning.encrypted_content"],
        **given,
        "input": [said("system", talks.SYSTEM), *given.get("input", [PROMPT])],
    }


def normal(body: dict[str, Any]) -> dict[str, Any]:
    wanted = body.get("text", {}).get("format", {})
    if wanted.get("name") == SCHEMA_NAME:  # Anthropic's clients give none
        wanted["name"] = "verdict"
    for item in body["input"]:
        if item.get("type") == "function_call":
            # A text of JSON, of which a client of Anthropic's gives the value alone.
            item["arguments"] = json.loads(item["arguments"])
    return body


@pytest.mark.parametrize(("name", "form"), sayable(*NO_WORDS))
async def test_a_request_is_what_the_sdk_sends(name, form):
    request = TALKS[name].request(form, MODEL)
    ours = await sent_by_us(RESPONSES, request, RESPONSES.text)
    theirs = await sent_by_sdk(
        RESPONSES.text, using(lambda sdk: sdk.responses.create(**asked(name)))
    )
    assert not differences(ours, theirs, normal)


@pytest.mark.parametrize(
    ("name", "form"),
    [("stop", "openai"), ("stop", "anthropic"), ("penalties", "openai")],
)
async def test_what_the_sdk_has_no_words_for_is_refused_by_name(name, form):
    request = TALKS[name].request(form, MODEL)
    with pytest.raises(ExceptionGroup) as raised:
        await sent_by_us(RESPONSES, request, RESPONSES.text)
    assert raised.group_contains(InvalidRequest, match=NO_WORDS[name])


async def test_a_request_for_a_stream_is_what_the_sdk_sends():
    request = TALKS["greeting"].request("openai", MODEL)
    ours = await sent_by_us(RESPONSES, request, RESPONSES.text_stream, stream=True)
    theirs = await sent_by_sdk(
        RESPONSES.text_stream,
        using(lambda sdk: list(sdk.responses.create(**asked("greeting"), stream=True))),
    )
    assert not differences(ours, theirs, normal)
