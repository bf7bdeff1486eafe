from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Reasoning,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers import openai_request
from tests.gateway import strategies as values

PNG = "iVBORw0KGgo="


def read(**fields):
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    return decode_chat(json.dumps(body | fields).encode())


def read_message(**message):
    return read(messages=[message]).request.messages[0]


def test_every_option_is_read():
    wire = read(
        max_tokens=1,
        temperature=0,
        top_p=0.5,
        top_k=40,
        n=2,
        stop=["a", "b"],
        seed=-7,
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        parallel_tool_calls=False,
        reasoning_effort="high",
        user="u",
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
    )
    assert wire.stream
    assert wire.include_usage
    assert wire.request == ChatRequest(
        model="gpt-4o",
        messages=(Message.of("user", "hi"),),
        max_tokens=1,
        temperature=0,
        top_p=0.5,
        top_k=40,
        n=2,
        stop=("a", "b"),
        seed=-7,
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        parallel_tool_calls=False,
        reasoning=Reasoning(effort="high"),
        user="u",
    )


def test_null_is_as_good_as_absent():
    names = "max_tokens temperature n stop seed tools tool_choice logit_bias stream"
    assert read(**dict.fromkeys(names.split())) == read()


def test_max_completion_tokens_wins():
    assert read(max_tokens=5, max_completion_tokens=9).request.max_tokens == 9


def test_what_only_openai_knows_is_kept_as_it_was_written():
    extra = {
        "logit_bias": {"50256": -100},
        "logprobs": True,
        "service_tier": "flex",
        "store": False,
        "metadata": {"team": "core"},
        "prediction": {"type": "content", "content": "x"},
        "modalities": ["text", "audio"],
        "audio": {"voice": "ash", "format": "wav"},
        "web_search_options": {},
        "verbosity": "low",
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert read(**extra).request.extra == extra


def test_text_and_images_keep_their_order():
    message = read_message(
        role="user",
        name="ann",
        content=[
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "https://h/x", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": f"DATA:image/PNG;base64,{PNG}"}},
            {"type": "text", "text": "?", "prompt_cache_breakpoint": {"mode": "x"}},
        ],
    )
    assert message == Message(
        role="user",
        name="ann",
        parts=(
            TextPart(text="look"),
            ImagePart(url="https://h/x", detail="low"),
            ImagePart(data=PNG, media_type="image/png"),
            TextPart(text="?", extra={"prompt_cache_breakpoint": {"mode": "x"}}),
        ),
    )


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "image_url", "image_url": {"url": "https://h/x", "format": "webp"}},
        {"type": "video_url", "video_url": {"url": "https://h/x"}},
    ],
)
def test_a_part_that_only_openai_knows_stays_whole(part):
    message = read_message(role="user", content=[part])
    assert message.parts == (OpaquePart(format="openai", value=part),)


def test_a_tool_conversation_is_read():
    wire = read(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "annotations": [],
                "reasoning_content": "hm",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a": '},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "42"},
            {"role": "assistant", "refusal": "no", "content": ""},
        ],
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "d",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            },
            {"type": "function", "function": {"name": "g"}, "cache_control": {}},
        ],
        tool_choice={"type": "function", "function": {"name": "f"}},
    )
    request = wire.request
    assert request.messages == (
        Message.of("developer", "be brief"),
        Message(
            role="assistant",
            parts=(
                ReasoningPart(text="hm"),
                ToolCall(id="call_1", name="f", arguments='{"a": '),
            ),
        ),
        Message(
            role="tool",
            parts=(ToolResult(tool_call_id="call_1", content=(TextPart(text="42"),)),),
        ),
        Message(role="assistant", parts=(TextPart(text=""), RefusalPart(text="no"))),
    )
    assert request.tools == (
        Tool(name="f", description="d", parameters={"type": "object"}, strict=True),
        Tool(name="g", extra={"cache_control": {}}),
    )
    assert request.tool_choice == ToolChoice(mode="tool", name="f")


def test_an_assistant_message_may_hold_only_what_openai_knows():
    message = read_message(role="assistant", audio={"id": "audio_1"})
    assert message.parts == ()
    assert message.extra == {"audio": {"id": "audio_1"}}


def test_a_field_that_is_understood_in_part_is_kept_whole_too():
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}
    request = read(tool_choice=choice).request
    assert request.tool_choice is None
    assert request.extra == {"tool_choice": choice}

    grammar = {"type": "grammar", "grammar": "root ::= x"}
    request = read(response_format=grammar).request
    assert request.response_format is None
    assert request.extra == {"response_format": grammar}

    odd = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "x": 1}}
    request = read(response_format=odd).request
    expected = ResponseFormat(type="json_schema", name="n", schema={})
    assert request.response_format == expected
    assert request.extra == {"response_format": odd}


def test_response_formats_are_read():
    assert read(response_format={"type": "text"}).request.response_format.type == "text"
    schema = {"name": "n", "description": "d", "schema": {"a": 1}, "strict": True}
    wire = read(response_format={"type": "json_schema", "json_schema": schema})
    assert wire.request.response_format == ResponseFormat(
        type="json_schema", name="n", description="d", schema={"a": 1}, strict=True
    )
    assert wire.request.extra == {}


def test_functions_of_old_are_tools():
    wire = read(
        messages=[
            {"role": "user", "content": "weather?"},
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "f", "arguments": "{}"},
            },
            {"role": "function", "name": "f", "content": "rain"},
        ],
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
    )
    assert wire.legacy_functions
    request = wire.request
    assert request.tools == (Tool(name="f", parameters={"type": "object"}),)
    assert request.tool_choice == ToolChoice(mode="tool", name="f")
    assert request.parallel_tool_calls is False
    call, result = request.messages[1].parts[0], request.messages[2].parts[0]
    assert (call.name, call.arguments) == ("f", "{}")
    assert result.tool_call_id == call.id
    assert request.extra == {}


def test_each_call_of_an_old_function_has_its_own_id():
    turn = [
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "x"},
    ]
    wire = read(messages=turn * 3, functions=[{"name": "f"}])
    messages = wire.request.messages
    ids = [message.parts[0].id for message in messages[::2]]
    assert len(set(ids)) == 3
    assert [message.parts[0].tool_call_id for message in messages[1::2]] == ids


def test_functions_and_tools_exclude_each_other():
    with pytest.raises(InvalidRequest, match="tools"):
        read(functions=[], tools=[])


@given(
    request=st.builds(
        ChatRequest,
        model=st.sampled_from(["gpt-4o", "o3-mini"]),
        messages=values.conversations(),
        max_tokens=st.none() | st.integers(1, 2**31),
        temperature=st.none() | st.floats(0, 2),
        n=st.none() | st.integers(1, 128),
        stop=st.lists(values.names, max_size=4).map(tuple),
        seed=st.none() | values.seeds,
        tools=st.lists(values.tools, min_size=1, max_size=2).map(tuple),
        tool_choice=st.none() | values.tool_choices,
        parallel_tool_calls=st.none() | st.booleans(),
        response_format=st.none() | values.response_formats,
        reasoning=st.none() | values.efforts,
        user=st.none() | values.texts,
        extra=st.just({"logit_bias": {"1": 5}, "store": True}),
    ),
    stream=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_what_the_openai_provider_writes_reads_back_the_same(request, stream):
    body = openai_request.encode(request, stream=stream, provider="openai")
    wire = decode_chat(body)
    assert wire.request == request
    assert wire.stream == stream


def test_what_other_sdks_write_otherwise_is_read_as_what_it_means():
    function = {"name": "f", "parameters": {"type": "object"}}
    picture = {"type": "image_url", "image_url": "https://h/x"}
    request = read(
        messages=[{"role": "user", "content": [picture]}],
        tools=[{"function": function}],
        tool_choice="any",
    ).request
    assert request.messages[0].parts == (ImagePart(url="https://h/x"),)
    assert [tool.name for tool in request.tools] == ["f"]
    assert request.tool_choice == ToolChoice(mode="required")
    named = read(
        tools=[{"function": function}], tool_choice={"function": {"name": "f"}}
    )
    assert named.request.tool_choice == ToolChoice(mode="tool", name="f")
