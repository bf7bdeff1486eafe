"""Marks for a provider's cache go to whom they mean something, and bar nobody else."""

from __future__ import annotations

import json

import pytest

from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers.hints import without_cache_control, without_hints
from tests.e2e.makers import MAKERS, PICTURE_SOURCE
from tests.providers.asking import asked_of, made

CACHED = {"cache_control": {"type": "ephemeral"}}

#: A request as coding agents send it: marks everywhere.
AGENT = {
    "model": "m",
    "max_tokens": 100,
    "cache_control": {"type": "ephemeral"},
    "system": [{"type": "text", "text": "You are a tool.", **CACHED}],
    "tools": [
        {
            "name": "f",
            "input_schema": {"type": "object"},
            "eager_input_streaming": True,
            **CACHED,
        }
    ],
    "metadata": {"user_id": '{"device_id":"a","session_id":"b"}'},
    "context_management": {
        "edits": [{"type": "clear_thinking_20251015", "keep": "all"}]
    },
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "go", **CACHED},
                {"type": "image", "source": PICTURE_SOURCE, **CACHED},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c", "name": "f", "input": {}, **CACHED}
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c",
                    "content": [{"type": "text", "text": "no such file"}],
                    "is_error": True,
                    **CACHED,
                }
            ],
        },
    ],
}


@pytest.mark.parametrize("name", MAKERS)
async def test_an_agents_marks_and_failed_tools_bar_no_provider(name):
    request = decode_messages(json.dumps(AGENT).encode()).request
    sent = await asked_of(MAKERS[name], request)
    marked = {"anthropic": "cache_control", "openrouter": "cache_control"}
    marked["bedrock"] = "cachePoint"
    for mark in ("cache_control", "cachePoint"):
        assert (mark in json.dumps(sent)) == (marked.get(name) == mark)
    assert "no such file" in MAKERS[name].result_of(sent)
    if name not in ("anthropic", "bedrock"):
        assert '"error"' in json.dumps(json.loads(MAKERS[name].result_of(sent)))


async def test_openais_clients_may_mark_for_claude():
    content = [{"type": "text", "text": "go", **CACHED}]
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    request = decode_chat(json.dumps(body).encode()).request
    sent = await asked_of(MAKERS["anthropic"], request)
    assert sent["messages"][0]["content"] == content


def test_a_request_without_marks_is_left_as_it_is():
    body = {**AGENT, "messages": [{"role": "user", "content": "go"}]}
    for key in ("cache_control", "system", "tools", "context_management"):
        body.pop(key)
    request = decode_messages(json.dumps(body).encode()).request
    assert without_cache_control(request) is request
    assert without_hints(request, cached=False) is request


@pytest.mark.parametrize(
    ("field", "value", "is_kept"),
    [
        ("thinking", {"type": "adaptive", "display": "omitted"}, False),
        ("thinking", {"type": "adaptive", "other": 1}, True),
        ("context_management", {"edits": [{"type": "clear_tool_uses_20250919"}]}, True),
        ("context_management", {"edits": "x"}, True),
        ("container", "c-1", True),
    ],
)
def test_what_changes_the_answer_is_no_hint(field, value, is_kept):
    body = {**AGENT, field: value}
    request = decode_messages(json.dumps(body).encode()).request
    assert (field in without_hints(request, cached=True).extra) == is_kept


async def test_a_document_with_a_mark_goes_to_who_takes_documents():
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    document = {"type": "document", "source": source, **CACHED}
    body = {**AGENT, "messages": [{"role": "user", "content": [document]}]}
    request = decode_messages(json.dumps(body).encode()).request
    assert "JVBERi0=" in json.dumps(await asked_of(MAKERS["gemini"], request))
    assert (await asked_of(MAKERS["anthropic"], request))["messages"][0]["content"] == [
        document
    ]


def test_a_field_of_the_request_is_no_mark_whatever_its_name_ends_in():
    body = {"model": "m", "messages": [{"role": "user", "content": "go"}]}
    body["foo.cache_control"] = 1
    request = decode_chat(json.dumps(body).encode()).request
    provider = made(MAKERS["anthropic"], "http://127.0.0.1:9")
    with pytest.raises(InvalidRequest, match=r"foo\.cache_control"):
        provider.check(request)
