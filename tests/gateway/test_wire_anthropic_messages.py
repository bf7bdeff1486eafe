from __future__ import annotations

import json

import pytest
from hypothesis import given, reject, settings, strategies as st

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Reasoning,
    ReasoningPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from duckservice.errors import DuckError, InvalidRequest
from duckservice.gateway.wire.anthropic_messages import (
    decode_count_tokens,
    decode_messages,
)
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers import anthropic_request, openai_request
from tests.gateway import strategies as values

CACHED = {"cache_control": {"type": "ephemeral"}}


def read(**fields):
    body = {
        "model": "claude",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "hi"}],
    }
    return decode_messages(json.dumps(body | fields).encode())


def read_parts(*blocks):
    return (
        read(messages=[{"role": "user", "content": blocks}]).request.messages[0].parts
    )


def test_every_option_is_read():
    wire = read(
        system="be brief",
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        stop_sequences=["x"],
        stream=True,
        metadata={"user_id": "u"},
        thinking={"type": "enabled", "budget_tokens": 1024},
        output_config={"effort": "low"},
    )
    assert wire.stream
    assert wire.request == ChatRequest(
        model="claude",
        messages=(Message.of("system", "be brief"), Message.of("user", "hi")),
        max_tokens=64,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        stop=("x",),
        user="u",
        reasoning=Reasoning(effort="low", budget_tokens=1024, mode="enabled"),
        format="anthropic",
    )


def test_max_tokens_is_required_but_not_to_count():
    body = b'{"model": "claude", "messages": [{"role": "user", "content": "hi"}]}'
    with pytest.raises(InvalidRequest, match="max_tokens"):
        decode_messages(body)
    assert decode_count_tokens(body).max_tokens is None


def test_what_only_anthropic_knows_is_kept_as_it_was_written():
    extra = {"service_tier": "auto", "container": "c", "mcp_servers": [{"url": "x"}]}
    assert read(**extra).request.extra == extra


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("thinking", {"type": "adaptive", "display": "omitted"}),
        ("metadata", {"user_id": "u", "org": "o"}),
        ("output_config", {"effort": "low", "task_budget": {}}),
        ("tool_choice", {"type": "auto", "weight": 1}),
    ],
)
def test_a_field_that_is_understood_in_part_is_kept_whole_too(field, value):
    assert read(**{field: value}).request.extra == {field: value}


def test_the_system_prompt_may_be_blocks():
    blocks = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", **CACHED}]
    system = read(system=blocks).request.messages[0]
    assert system.role == "system"
    assert system.parts == (TextPart(text="a"), TextPart(text="b", extra=CACHED))
    with pytest.raises(InvalidRequest, match=r"system\[0\]\.type"):
        read(system=[{"type": "image", "source": {}}])


def test_blocks_keep_their_order_and_fields():
    image = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
    assert read_parts(
        {"type": "text", "text": "t", "citations": None, **CACHED},
        {"type": "image", "source": image},
        {"type": "image", "source": {"type": "url", "url": "https://h/x"}, **CACHED},
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1]}, **CACHED},
        {
            "type": "tool_result",
            "tool_use_id": "t1",
            "is_error": True,
            "content": [
                {"type": "text", "text": "r"},
                {"type": "image", "source": image},
            ],
            **CACHED,
        },
        {"type": "tool_result", "tool_use_id": "t2", "content": "s"},
        {"type": "tool_result", "tool_use_id": "t3"},
    ) == (
        TextPart(text="t", extra=CACHED),
        ImagePart(data="QUJD", media_type="image/png"),
        ImagePart(url="https://h/x", extra=CACHED),
        ReasoningPart(text="hm", signature="sig"),
        ReasoningPart(redacted="xyz"),
        ToolCall(id="t1", name="f", arguments='{"a":[1]}', extra=CACHED),
        ToolResult(
            tool_call_id="t1",
            is_error=True,
            content=(
                TextPart(text="r"),
                ImagePart(data="QUJD", media_type="image/png"),
            ),
            extra=CACHED,
        ),
        ToolResult(tool_call_id="t2", content=(TextPart(text="s"),)),
        ToolResult(tool_call_id="t3", content=()),
    )


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": {"type": "text", "data": "x"}, **CACHED},
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "search_result", "source": "s", "title": "t", "content": []},
        {"type": "thinking", "thinking": "x", "signature": "s", "new": 1},
    ],
)
def test_a_block_that_only_anthropic_knows_stays_whole(block):
    assert read_parts(block) == (OpaquePart(format="anthropic", value=block),)


@pytest.mark.parametrize(
    ("block", "param"),
    [
        ({"type": "text"}, "text"),
        ({"type": "image", "source": {"type": "base64"}}, "source.data"),
        (
            {"type": "image", "source": {"type": "url", "url": "file:///x"}},
            "source.url",
        ),
        ({"type": "tool_use", "id": "x", "name": "f", "input": "{}"}, "input"),
        ({"type": "tool_result"}, "tool_use_id"),
        (
            {
                "type": "tool_result",
                "tool_use_id": "x",
                "content": [{"type": "text"}],
            },
            "content[0].text",
        ),
    ],
)
def test_a_complaint_says_in_which_block(block, param):
    with pytest.raises(InvalidRequest) as caught:
        read_parts(block)
    assert caught.value.param == f"messages[0].content[0].{param}"


def test_tools_are_read():
    schema = {"type": "object"}
    bash = {"type": "bash_20250124", "name": "bash"}
    request = read(
        tools=[
            {"name": "f", "description": "d", "input_schema": schema, **CACHED},
            {"type": "custom", "name": "g", "input_schema": schema, "strict": True},
            bash,
        ]
    ).request
    assert request.tools == (
        Tool(name="f", description="d", parameters=schema, extra=CACHED),
        Tool(name="g", parameters=schema, strict=True),
        Tool(name="bash", extra=bash),
    )


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
        {"type": "code_execution_20250825", "name": "code_execution"},
        {"type": "mcp_toolset", "mcp_server_name": "files"},
    ],
)
def test_tools_that_run_at_anthropic_are_kept_as_they_were_written(tool):
    [read_tool] = read(tools=[tool]).request.tools
    assert read_tool.extra == tool
    assert read_tool.name == tool.get("name", tool["type"])


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, ToolChoice(mode="auto"), None),
        ({"type": "none"}, ToolChoice(mode="none"), None),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            ToolChoice(mode="required"),
            False,
        ),
        (
            {"type": "tool", "name": "f", "disable_parallel_tool_use": False},
            ToolChoice(mode="tool", name="f"),
            True,
        ),
    ],
)
def test_tool_choices_are_read(choice, expected, parallel):
    request = read(tool_choice=choice).request
    assert request.tool_choice == expected
    assert request.parallel_tool_calls is parallel


def test_a_schema_for_the_reply_is_read():
    schema = {"type": "object"}
    config = {"format": {"type": "json_schema", "schema": schema}}
    request = read(output_config=config).request
    assert request.response_format == ResponseFormat(type="json_schema", schema=schema)
    assert request.extra == {}


@given(
    request=st.builds(
        ChatRequest,
        model=st.just("claude-sonnet-4-5"),
        messages=values.conversations(),
        max_tokens=st.integers(1, 2**31),
        temperature=st.none() | st.floats(0, 1),
        stop=st.lists(values.names, max_size=4).map(tuple),
        tools=st.lists(values.tools, min_size=1, max_size=2).map(tuple),
        tool_choice=st.none() | values.tool_choices,
        response_format=st.none() | values.response_formats,
        reasoning=st.none() | values.efforts,
    )
)
@settings(max_examples=100, deadline=None)
def test_what_the_anthropic_provider_writes_is_read(request):
    try:
        anthropic_request.check(request, provider="anthropic")
    except DuckError:
        reject()
    body = anthropic_request.encode(request, stream=True, provider="anthropic")
    wire = decode_messages(body)
    assert wire.stream
    assert wire.request.max_tokens == request.max_tokens
    assert wire.request.stop == request.stop
    assert [tool.name for tool in wire.request.tools] == [t.name for t in request.tools]

    def said(messages):
        # Anthropic's format has no tool role, and joins turns of one role.
        return [
            part.content if isinstance(part, ToolResult) else part
            for message in messages
            for part in message.parts
            if not isinstance(part, ToolCall)
        ]

    assert said(wire.request.messages) == said(request.messages)


@given(messages=values.conversations(), choice=st.none() | values.tool_choices)
@settings(max_examples=100, deadline=None)
def test_a_request_crosses_both_formats_or_is_refused(messages, choice):
    request = ChatRequest(
        model="m",
        messages=messages,
        max_tokens=5,
        tools=(Tool(name="f", parameters={"type": "object"}),),
        tool_choice=choice,
    )
    try:
        anthropic_request.check(request, provider="anthropic")
    except DuckError:
        reject()
    body = anthropic_request.encode(request, stream=False, provider="anthropic")
    there = decode_messages(body).request
    try:
        openai_request.check(there, provider="openai")
    except DuckError:
        reject()
    back = openai_request.encode(there, stream=False, provider="openai")
    again = decode_chat(back).request
    assert again.model == request.model
    assert again.tools[0].name == "f"
    assert again.messages[-1].role == request.messages[-1].role
