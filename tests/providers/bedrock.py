"""Bedrock's dialect as its tests use it: requests sent, answers read."""

from __future__ import annotations

import functools
import json

import pytest

from duckservice.completion import (
    ChatRequest,
    Message,
    Tool,
)
from duckservice.providers.bedrock import failures
from duckservice.providers.bedrock.dialect import BedrockDialect
from duckservice.providers.capabilities import check_capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import Origin

ERRORS = Classifier("duck", reader=failures.read, rules=failures.RULES)
BEDROCK = BedrockDialect(provider="duck", errors=ERRORS)
ORIGIN = Origin("m", "duck-1")

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NEW_CLAUDE = "global.anthropic.claude-opus-4-6-v1"
NOVA = "amazon.nova-lite-v1:0"
NOVA_2 = "us.amazon.nova-2-lite-v1:0"
LLAMA = "us.meta.llama4-maverick-17b-instruct-v1:0"
PNG = "iVBORw0KGgo="

HELLO = (Message.of("user", "hello"),)
WEATHER = Tool(name="weather", parameters={"type": "object"})


def ask(**fields) -> ChatRequest:
    return ChatRequest(**{"model": CLAUDE, "messages": HELLO} | fields)


def sent(request: ChatRequest) -> dict:
    check_capabilities(request, BEDROCK.capabilities, provider="duck")
    BEDROCK.check(request)
    body = json.loads(BEDROCK.encode(request, stream=False))
    assert_valid("Converse", {"modelId": request.model} | body)
    assert BEDROCK.encode(request, stream=True) == BEDROCK.encode(request, stream=False)
    return body


@functools.cache
def service():
    session = pytest.importorskip("botocore.session")
    model = session.get_session().get_service_model("bedrock-runtime")
    if "outputConfig" not in model.operation_model("Converse").input_shape.members:
        pytest.skip("this botocore is from before Converse's outputConfig")
    return model


def assert_valid(operation: str, body: dict) -> None:
    """Assert that AWS's own description of the operation allows *body*."""
    try:
        shape = service().operation_model(operation).input_shape
    except pytest.skip.Exception:
        return  # without botocore there is nobody to ask
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(body, shape)
    assert not report.has_errors(), report.generate_report()
    for block in (b for turn in body.get("messages", ()) for b in turn["content"]):
        assert len(block) == 1  # a union, which the validator does not look at


def answer(*blocks, **fields) -> bytes:
    return json.dumps(
        {
            "output": {"message": {"role": "assistant", "content": list(blocks)}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
            "metrics": {"latencyMs": 9},
        }
        | fields
    ).encode()


def stream():
    return BEDROCK.open_stream(ORIGIN)


def chunks_of(*pieces: bytes) -> list:
    reader = stream()
    chunks = [chunk for piece in pieces for chunk in reader.feed(piece)]
    return chunks + reader.close()
