"""Requests to Gemini and answers of it, for its tests."""

from __future__ import annotations

import json

import pytest

from duckservice.completion import ChatRequest, Message
from duckservice.errors import InvalidRequest
from duckservice.providers.capabilities import check_capabilities
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini.dialect import GeminiDialect
from duckservice.providers.gemini.failures import RULES, read_status
from duckservice.providers.origin import Origin

ERRORS = Classifier("duck", reader=read_status, rules=RULES)
GEMINI = GeminiDialect(provider="duck", errors=ERRORS)
ORIGIN = Origin("asked-model", "duck-0123456789abcdef0123456789abcdef")

HELLO = (Message.of("user", "hello"),)
HELLO_TURN = {"role": "user", "parts": [{"text": "hello"}]}


def ask(**fields) -> ChatRequest:
    return ChatRequest(**{"model": "gemini-2.5-flash", "messages": HELLO} | fields)


def sent(request: ChatRequest) -> dict:
    check_capabilities(request, GEMINI.capabilities, provider="duck")
    GEMINI.check(request)
    return json.loads(GEMINI.encode(request, stream=False))


def contents(*messages: Message, **fields) -> list:
    return sent(ask(messages=messages, **fields))["contents"]


def said(role, *parts, **fields) -> Message:
    return Message(role=role, parts=parts, **fields)


def refused(request: ChatRequest) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        sent(request)
    assert caught.value.provider == "duck"
    assert caught.value.param is not None
    assert caught.value.param in str(caught.value)
    return caught.value.param


def answer(*parts, finish="STOP", **fields) -> dict:
    candidate = {"content": {"role": "model", "parts": list(parts)}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2},
        "modelVersion": "m-1",
        "responseId": "r1",
        **fields,
    }


def decoded(body: object):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return GEMINI.decode(raw, ORIGIN)


def streamed(*bodies: object, size: int | None = None, newline=b"\r\n") -> list:
    raw = b"".join(
        b"data: " + json.dumps(body).encode() + newline * 2 for body in bodies
    )
    return fed(raw, size or len(raw))


def fed(raw: bytes, size: int) -> list:
    stream = GEMINI.open_stream(ORIGIN)
    chunks = []
    for at in range(0, len(raw), size):
        chunks += stream.feed(raw[at : at + size])
    return chunks + stream.close()


TWO_CALLS = (
    {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
    {"functionCall": {"name": "f"}},
)


BLOCKED = {
    "promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "Reasons"},
    "usageMetadata": {"promptTokenCount": 3},
}
