"""AWS's SDK (boto3) and our Bedrock adapter send requests that mean the same."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from duckservice.config import AuthConfig, Secret
from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.openai_embeddings import decode_embedding
from duckservice.providers.bedrock.request import SCHEMA_NAME
from tests.e2e.makers import BEDROCK
from tests.e2e.running import json_answer
from tests.sdks import talks
from tests.sdks.meaning import differences
from tests.sdks.sending import KEY, sent_by_sdk, sent_by_us
from tests.sdks.talks import CALLS, PARAMETERS, RESULTS, TALKS, sayable

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
botocore_config = pytest.importorskip("botocore.config", reason="botocore is missing")

pytestmark = pytest.mark.slow

MODEL = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
REGION = "eu-central-1"
VECTOR = json_answer({"embedding": [0.1], "inputTextTokenCount": 1})

NO_WORDS = ("penalties",)
"""Converse has neither a seed nor penalties."""


# The key in both of the headers that show who signs. (The SDK sends a bearer token
# over TLS only, which no loopback here has.)
KEYS = {
    "aws_access_key_id": KEY,
    "aws_secret_access_key": "secret",
    "aws_session_token": KEY,
}
SIGNED = attrs.evolve(
    BEDROCK,
    config={
        "region": REGION,
        "api_key": None,
        "auth": AuthConfig(
            type="aws",
            access_key_id=Secret(KEY),
            secret_access_key=Secret("secret"),
            session_token=Secret(KEY),
        ),
    },
)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)


def using(use: Callable[[Any], object]) -> Callable[[str], None]:
    """Return what calls *use* with the SDK's client of an upstream."""

    def at(url: str) -> None:
        config = botocore_config.Config(
            read_timeout=20, retries={"total_max_attempts": 1}
        )
        sdk = boto3.client(
            "bedrock-runtime",
            endpoint_url=url,
            region_name=REGION,
            config=config,
            **KEYS,
        )
        try:
            use(sdk)
        finally:
            sdk.close()

    return at


def turn(role: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def call(place: int) -> dict[str, Any]:
    own_id, name, arguments = CALLS[place]
    return {"toolUse": {"toolUseId": own_id, "name": name, "input": arguments}}


def result(place: int) -> dict[str, Any]:
    content = [{"text": json.dumps(RESULTS[place])}]
    return {"toolResult": {"toolUseId": CALLS[place][0], "content": content}}


def tools(*names: str, **more: Any) -> dict[str, Any]:
    specs = [
        {
            "toolSpec": {
                "name": name,
                "description": talks.DESCRIPTION,
                "inputSchema": {"json": PARAMETERS},
            }
        }
        for name in names
    ]
    return {"toolConfig": {"tools": specs, **more}}


def thinking(budget: int) -> dict[str, Any]:
    asked = {"thinking": {"type": "enabled", "budget_tokens": budget}}
    return {"additionalModelRequestFields": asked}


PROMPT = turn("user", {"text": talks.PROMPT})
BOTH = (talks.TOOL, talks.OTHER_TOOL)
PICTURE = {
    "image": {"format": "png", "source": {"bytes": base64.b64decode(talks.PICTURE)}}
}

NATIVE: dict[str, dict[str, Any]] = {
    "greeting": {},
    "turns": {
        "messages": [
            PROMPT,
            turn("assistant", {"text": talks.REPLY}),
            turn("user", {"text": talks.MORE}),
        ]
    },
    "sampling": {"inferenceConfig": {"temperature": 0.5, "topP": 0.9}},
    "stop": {
        "inferenceConfig": {"stopSequences": talks.STOPS},
        # Claude's answer says which it was to who asks for it.
        "additionalModelResponseFieldPaths": [
            "/stop_sequence",
            "/delta/stop_sequence",
        ],
    },
    "result": {
        "messages": [PROMPT, turn("assistant", call(0)), turn("user", result(0))],
        **tools(talks.TOOL),
    },
    "results": {
        "messages": [
            PROMPT,
            turn("assistant", {"text": talks.PLAN}, call(0), call(1)),
            turn("user", result(0), result(1), {"text": talks.MORE}),
        ],
        **tools(*BOTH),
    },
    "picture": {"messages": [turn("user", {"text": talks.PROMPT}, PICTURE)]},
    "schema": {
        "outputConfig": {
            "textFormat": {
                "type": "json_schema",
                "structure": {
                    "jsonSchema": {
                        "name": "verdict",
                        "schema": json.dumps(talks.SCHEMA),
                    }
                },
            }
        }
    },
    "required": tools(*BOTH, toolChoice={"any": {}}),
    "named": tools(*BOTH, toolChoice={"tool": {"name": talks.TOOL}}),
    "none": {},  # there is no such choice; who wants no tool gives none
    "effort": thinking(2048),
    "budget": thinking(talks.BUDGET),
}


def asked(name: str) -> dict[str, Any]:
    given = NATIVE[name]
    limit = {"maxTokens": talks.MAX_TOKENS}
    return {
        "modelId": MODEL,
        "system": [{"text": talks.SYSTEM}],
        "messages": [PROMPT],
        **given,
        "inferenceConfig": {**limit, **given.get("inferenceConfig", {})},
    }


def normal(body: dict[str, Any]) -> dict[str, Any]:
    if "outputConfig" in body:
        schema = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
        schema["schema"] = json.loads(schema["schema"])
        if schema["name"] == SCHEMA_NAME:  # Anthropic's clients give none
            schema["name"] = "verdict"
    return body


@pytest.mark.parametrize(("name", "form"), sayable(*NO_WORDS))
async def test_a_request_is_what_the_sdk_sends(name, form):
    request = TALKS[name].request(form, MODEL)
    ours = await sent_by_us(SIGNED, request, BEDROCK.text)
    theirs = await sent_by_sdk(
        BEDROCK.text, using(lambda sdk: sdk.converse(**asked(name)))
    )
    assert not differences(ours, theirs, normal)


async def test_what_the_sdk_has_no_words_for_is_refused_by_name():
    request = TALKS["penalties"].request("openai", MODEL)
    with pytest.raises(ExceptionGroup) as raised:
        await sent_by_us(SIGNED, request, BEDROCK.text)
    assert raised.group_contains(InvalidRequest, match="seed")


async def test_a_request_for_a_stream_is_what_the_sdk_sends():
    request = TALKS["greeting"].request("openai", MODEL)
    ours = await sent_by_us(SIGNED, request, BEDROCK.text_stream, stream=True)
    theirs = await sent_by_sdk(
        BEDROCK.text_stream,
        using(lambda sdk: list(sdk.converse_stream(**asked("greeting"))["stream"])),
    )
    assert not differences(ours, theirs, normal)


async def test_a_request_for_an_embedding_is_what_the_sdk_sends():
    model = "amazon.titan-embed-text-v2:0"
    body = json.dumps({"model": model, "input": "sun", "dimensions": 256})
    request = decode_embedding(body.encode()).request
    ours = await sent_by_us(SIGNED, request, VECTOR)
    native = json.dumps({"inputText": "sun", "dimensions": 256})
    theirs = await sent_by_sdk(
        VECTOR, using(lambda sdk: sdk.invoke_model(modelId=model, body=native))
    )
    assert not differences(ours, theirs, normal)
