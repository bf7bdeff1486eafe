from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)
from duckservice.core.input_bound import input_tokens_bound


def bound(*parts, **fields) -> int | None:
    message = Message(role="user", parts=parts)
    return input_tokens_bound(ChatRequest(model="m", messages=(message,), **fields))


EMPTY = bound()


@given(st.text())
def test_every_byte_may_be_a_token(text):
    size = len(text.encode())
    assert bound(TextPart(text=text)) >= EMPTY + size
    assert bound(TextPart(text=text)) <= EMPTY + size + 20


@pytest.mark.parametrize(
    "part",
    [
        TextPart(text="x" * 1000),
        ReasoningPart(text="x" * 1000),
        ReasoningPart(signature="x" * 1000),
        ReasoningPart(redacted="x" * 1000),
        RefusalPart(text="x" * 1000),
        ToolCall(id="x" * 1000, name="f", arguments=""),
        ToolCall(id="1", name="x" * 1000, arguments=""),
        ToolCall(id="1", name="f", arguments="x" * 1000),
        ToolResult(tool_call_id="x" * 1000, content=()),
        ToolResult(tool_call_id="1", content=(TextPart(text="x" * 1000),)),
    ],
)
def test_all_that_a_part_says_counts(part):
    assert EMPTY + 1000 <= bound(part) <= EMPTY + 1100


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": (Tool(name="x" * 1000),)},
        {"tools": (Tool(name="f", description="x" * 1000),)},
        {"tools": (Tool(name="f", parameters={"type": "x" * 1000}),)},
        {
            "response_format": ResponseFormat(
                type="json_schema", schema={"a": "x" * 1000}
            )
        },
        {"response_format": ResponseFormat(type="json_schema", description="x" * 1000)},
    ],
)
def test_all_that_a_request_says_beside_its_messages_counts(fields):
    assert bound(**fields) >= EMPTY + 1000


def test_names_count():
    named = Message(role="user", parts=(), name="x" * 1000)
    assert input_tokens_bound(ChatRequest(model="m", messages=(named,))) == EMPTY + 1000


def test_a_schema_may_be_any_kind_of_mapping():
    class Schema(dict):
        pass

    assert bound(tools=(Tool(name="f", parameters=Schema(a=Schema(b=1))),)) > EMPTY


def test_each_image_counts_as_the_dearest_known():
    assert bound(ImagePart(url="https://x/y")) >= EMPTY + 48_169
    assert bound(ImagePart(url="https://x/y", detail="high")) >= EMPTY + 48_169
    assert (
        EMPTY + 2_833
        <= bound(ImagePart(url="https://x/y", detail="low"))
        < EMPTY + 9_999
    )
    inside = ToolResult(tool_call_id="1", content=(ImagePart(data="aGk="),))
    assert bound(inside) >= EMPTY + 48_169


@pytest.mark.parametrize(
    "part",
    [
        OpaquePart(format="openai", value={"type": "file"}),
        TextPart(text="", extra={"anything": 1}),
        ImagePart(url="u", extra={"anything": 1}),
        ToolCall(id="1", name="f", arguments="", extra={"anything": 1}),
        ToolResult(tool_call_id="1", content=(), extra={"anything": 1}),
    ],
)
def test_a_part_that_only_one_format_knows_has_no_bound(part):
    assert bound(part) is None


def test_a_field_that_only_one_format_knows_has_no_bound():
    assert bound(extra={"web_search_options": {}}) is None
    assert bound(tools=(Tool(name="web", extra={"type": "web_search"}),)) is None
    strange = Message(role="assistant", parts=(), extra={"audio": {"id": "1"}})
    assert input_tokens_bound(ChatRequest(model="m", messages=(strange,))) is None


def test_fields_that_only_say_how_to_serve_change_nothing():
    assert bound(extra={"service_tier": "flex", "metadata": {"a": "b"}}) == EMPTY
    cached = TextPart(text="", extra={"cache_control": {"type": "ephemeral"}})
    assert bound(cached) == bound(TextPart(text=""))


def test_a_lone_surrogate_does_not_crash_it():
    assert bound(TextPart(text="\ud800")) >= EMPTY + 3
