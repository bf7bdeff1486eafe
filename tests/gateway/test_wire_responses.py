"""A request of the Responses API is read without loss, or refused by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.completion import (
    ChatRequest,
    ImagePart,
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
from duckservice.gateway.wire.openai_responses import decode_responses
from duckservice.gateway.wire.responses_reply import encode_completion
from duckservice.placed_message import PlacedMessage
from duckservice.providers import anthropic_request, openai_request
from duckservice.providers.translation import (
    foreign_fields,
    message_path,
    part_path,
)
from tests.gateway import strategies as values

FUNCTION = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a town.",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    "strict": True,
}
PIXEL = "data:image/png;base64,QUJD"


def read(**fields):
    body = {"model": "m", "input": "hi"} | fields
    return decode_responses(json.dumps(body).encode())


def messages(*items, **fields):
    return read(input=list(items), **fields).request.messages


def parts(*content, role="user"):
    (message,) = messages({"role": role, "content": list(content)})
    return message.parts


def refused(**fields) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.message.startswith(caught.value.param)
    return caught.value


def call(number: int) -> dict:
    its = {"call_id": f"call_{number}", "name": "weather", "arguments": '{"a": 1}'}
    return {"type": "function_call", **its}


def result(number: int, output="sun") -> dict:
    its = {"call_id": f"call_{number}", "output": output}
    return {"type": "function_call_output", **its}


# What is asked for.


def test_every_option_is_read():
    wire = read(
        instructions="be kind",
        max_output_tokens=64,
        temperature=0.5,
        top_p=0.9,
        tools=[FUNCTION],
        tool_choice="required",
        parallel_tool_calls=False,
        text={"format": {"type": "json_object"}},
        reasoning={"effort": "low"},
        user="u",
        stream=True,
        stream_options={"include_obfuscation": False},
        truncation="disabled",
        background=False,
    )
    assert wire.stream
    assert wire.request == ChatRequest(
        model="m",
        messages=(
            PlacedMessage(
                role="system",
                parts=(TextPart(text="be kind"),),
                place="instructions",
                places=("instructions",),
            ),
            PlacedMessage(
                role="user",
                parts=(TextPart(text="hi"),),
                place="input",
                places=("input",),
            ),
        ),
        max_tokens=64,
        temperature=0.5,
        top_p=0.9,
        tools=(
            Tool(
                name="weather",
                description="The weather of a town.",
                parameters=FUNCTION["parameters"],
                strict=True,
            ),
        ),
        tool_choice=ToolChoice(mode="required"),
        parallel_tool_calls=False,
        response_format=ResponseFormat(type="json_object"),
        reasoning=Reasoning(effort="low"),
        user="u",
        format="responses",
        extra={},
    )


def test_a_schema_is_read_whole():
    its = {
        "type": "json_schema",
        "name": "town",
        "schema": {"type": "object"},
        "strict": True,
        "description": "a town",
    }
    request = read(text={"format": its}).request
    assert request.response_format == ResponseFormat(
        type="json_schema",
        name="town",
        schema={"type": "object"},
        strict=True,
        description="a town",
    )
    assert request.extra == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text", {"format": {"type": "text"}, "verbosity": "low"}),
        ("reasoning", {"effort": "low", "summary": "auto"}),
        ("reasoning", {"summary": "detailed"}),
        ("store", False),
        ("metadata", {"team": "core"}),
        ("include", ["reasoning.encrypted_content"]),
        ("service_tier", "flex"),
        ("prompt_cache_key", "k"),
        ("safety_identifier", "s"),
        ("max_tool_calls", 3),
        ("top_logprobs", 5),
        ("moderation", {"model": "m"}),
        (
            "tool_choice",
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "weather"}],
            },
        ),
    ],
)
def test_what_is_not_understood_whole_is_kept_as_it_was_written(field, value):
    request = read(**{field: value}).request
    assert request.extra == {field: value}


def test_a_null_says_nothing():
    names = [
        *["instructions", "store", "previous_response_id", "conversation", "prompt"],
        *["background", "truncation", "include", "metadata", "tools", "tool_choice"],
        *["text", "reasoning", "max_output_tokens", "temperature", "top_p", "user"],
        *["stream", "stream_options", "service_tier", "parallel_tool_calls"],
        *["max_tool_calls", "top_logprobs", "safety_identifier", "prompt_cache_key"],
    ]
    assert read(**dict.fromkeys(names)) == read()


def test_the_newer_word_for_the_user_is_read_where_the_older_is_not_said():
    assert read(safety_identifier="s").request.user == "s"
    assert read(safety_identifier="s", user="u").request.user == "u"


def test_one_function_can_be_demanded():
    choice = {"type": "function", "name": "weather"}
    request = read(tools=[FUNCTION], tool_choice=choice).request
    assert request.tool_choice == ToolChoice(mode="tool", name="weather")


def test_a_functions_own_extras_stay_with_it():
    (tool,) = read(tools=[FUNCTION | {"defer_loading": True}]).request.tools
    assert tool.extra == {"defer_loading": True}


# Items.


def test_what_the_assistant_says_in_one_turn_is_one_message():
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    thought |= {"encrypted_content": "gAAA"}
    said = {"type": "message", "role": "assistant", "id": "msg_1"}
    said |= {
        "status": "completed",
        "content": [
            {
                "type": "output_text",
                "text": "Let me see.",
                "annotations": [],
                "logprobs": [],
            }
        ],
    }
    asked = {"role": "user", "content": "and now?"}
    found = messages(asked, thought, said, call(1), call(2), result(1), result(2))
    assert [(m.role, m.parts) for m in found] == [
        ("user", (TextPart(text="and now?"),)),
        (
            "assistant",
            (
                ReasoningPart(signature="gAAA"),
                TextPart(text="Let me see."),
                ToolCall(id="call_1", name="weather", arguments='{"a": 1}'),
                ToolCall(id="call_2", name="weather", arguments='{"a": 1}'),
            ),
        ),
        (
            "tool",
            (ToolResult(tool_call_id="call_1", content=(TextPart(text="sun"),)),),
        ),
        (
            "tool",
            (ToolResult(tool_call_id="call_2", content=(TextPart(text="sun"),)),),
        ),
    ]


def test_a_second_message_of_the_assistant_is_another_turn():
    said = {"role": "assistant", "content": "a"}
    found = messages(said, said, call(1), result(1), said)
    assert [len(message.parts) for message in found] == [1, 2, 1, 1]


def test_what_is_said_behind_an_open_call_is_of_its_turn():
    said = {"role": "assistant", "content": "a"}
    found = messages(said, call(1), said, call(2), said, result(1), result(2), said)
    assert [(m.role, len(m.parts)) for m in found] == [
        ("assistant", 5),
        ("tool", 1),
        ("tool", 1),
        ("assistant", 1),
    ]


def test_a_message_with_extras_keeps_them_to_itself():
    marked = {"role": "assistant", "content": "a", "phase": "commentary"}
    said = {"role": "assistant", "content": "b"}
    for items in ([marked, call(1), said], [said, call(1), marked]):
        found = messages(*items)
        assert [bool(m.extra) for m in found] == [m is marked for m in items[::2]]


def test_all_roles_and_kinds_of_content_are_read():
    content = [
        {"type": "input_text", "text": "t", "prompt_cache_breakpoint": {}},
        {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
        {"type": "input_image", "image_url": "https://h/x", "file_id": None},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_image", "image_url": "https://h/x", "detail": "original"},
        {"type": "input_file", "file_url": "https://h/x"},
    ]
    assert parts(*content) == (
        TextPart(text="t", extra={"prompt_cache_breakpoint": {}}),
        ImagePart(data="QUJD", media_type="image/png", detail="auto"),
        ImagePart(url="https://h/x"),
        OpaquePart(format="responses", value=content[3]),
        OpaquePart(format="responses", value=content[4]),
        OpaquePart(format="responses", value=content[5]),
    )
    assert parts({"type": "refusal", "refusal": "no"}, role="assistant") == (
        RefusalPart(text="no"),
    )
    for role in ("user", "assistant", "system", "developer"):
        (message,) = messages({"type": "message", "role": role, "content": "x"})
        assert (message.role, message.parts) == (role, (TextPart(text="x"),))
    assert parts() == (TextPart(text=""),)


def test_annotations_are_kept_and_empty_lists_are_not():
    note = {"type": "url_citation", "url": "https://h/x"}
    both = {"type": "output_text", "text": "t", "annotations": [note], "logprobs": []}
    assert parts(both, role="assistant") == (
        TextPart(text="t", extra={"annotations": [note]}),
    )


@pytest.mark.parametrize(
    ("item", "part"),
    [
        ({"encrypted_content": "e"}, ReasoningPart(signature="e")),
        (
            {"summary": [{"type": "summary_text", "text": "a"}]},
            ReasoningPart(text="a"),
        ),
        (
            {
                "summary": [
                    {"type": "summary_text", "text": "a"},
                    {"type": "summary_text", "text": "b"},
                ],
                "encrypted_content": "e",
                "status": "completed",
            },
            ReasoningPart(text="a\n\nb", signature="e"),
        ),
        (
            {
                "summary": [{"type": "summary_text", "text": "in short"}],
                "content": [{"type": "reasoning_text", "text": "at length"}],
            },
            ReasoningPart(text="at length"),
        ),
        (
            {"encrypted_content": "redacted_thinking:xyz"},
            ReasoningPart(redacted="xyz"),
        ),
    ],
)
def test_thoughts_are_read_with_what_must_go_back(item, part):
    (message,) = messages({"type": "reasoning", "summary": [], "id": "rs_1", **item})
    assert message.role == "assistant"
    assert message.parts == (part,)


def test_a_thought_of_which_nothing_is_told_is_left_out():
    nothing = {"type": "reasoning", "id": "rs_1", "summary": []}
    found = messages({"role": "user", "content": "x"}, nothing, call(1))
    assert [message.places for message in found] == [
        ("input[0].content",),
        ("input[2]",),
    ]
    assert refused(input=[nothing]).param == "input"


def test_a_thought_of_an_unknown_kind_is_kept_whole():
    odd = {"type": "reasoning", "summary": [{"type": "song", "text": "la"}]}
    more = {"type": "reasoning", "summary": [], "mood": "good"}
    assert [message.parts for message in messages(odd, result(1), more)][::2] == [
        (OpaquePart(format="responses", value=odd),),
        (OpaquePart(format="responses", value=more),),
    ]


def test_a_results_parts_are_read():
    output = [
        {"type": "input_text", "text": "t"},
        {"type": "input_image", "image_url": PIXEL},
        {"type": "input_file", "file_id": "file-1"},
    ]
    (message,) = messages(result(1, output))
    (part,) = message.parts
    assert part.content == (
        TextPart(text="t"),
        ImagePart(data="QUJD", media_type="image/png"),
        OpaquePart(format="responses", value=output[2]),
    )


def test_items_of_others_are_kept_whole_and_in_their_order():
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    shown = {"type": "computer_call_output", "call_id": "c", "output": {}}
    found = messages(search, call(1), shown, {"role": "user", "content": "x"})
    assert [(m.role, m.places) for m in found] == [
        ("assistant", ("input[0]", "input[1]")),
        ("tool", ("input[2]",)),
        ("user", ("input[3].content",)),
    ]
    assert found[0].parts[0] == OpaquePart(format="responses", value=search)


def test_what_a_call_has_beside_goes_back_with_it():
    google = {"extra_content": {"google": {"thought_signature": "s"}}}
    more = {"id": "fc_1", "status": "completed", "namespace": "n"}
    (message,) = messages(call(1) | google | more)
    assert message.parts[0].extra == google | {"namespace": "n"}


# Refusals.


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["message.output_text.logprobs"]}, "include[0]"),
        ({"include": "reasoning.encrypted_content"}, "include"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
        *[
            ({"tools": [FUNCTION, {"type": kind}]}, "tools[1].type")
            for kind in (
                "web_search",
                "web_search_preview",
                "file_search",
                "code_interpreter",
                "computer_use_preview",
                "mcp",
                "image_generation",
                "local_shell",
                "custom",
            )
        ],
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice.type"),
    ],
)
def test_what_needs_a_store_or_openais_own_servers_is_refused_by_name(fields, param):
    assert refused(**fields).param == param


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("model", "", "model"),
        ("model", None, "model"),
        ("input", None, "input"),
        ("input", [], "input"),
        ("input", {"role": "user"}, "input"),
        ("input", ["x"], "input[0]"),
        ("input", [{}], "input[0].type"),
        ("input", [{"type": 5}], "input[0].type"),
        ("input", [{"type": "message", "content": "x"}], "input[0].role"),
        ("input", [{"role": "tool", "content": "x"}], "input[0].role"),
        ("input", [{"role": "user"}], "input[0].content"),
        ("input", [{"role": "user", "content": 5}], "input[0].content"),
        ("input", [{"role": "user", "content": ["x"]}], "input[0].content[0]"),
        ("input", [{"role": "user", "content": [{}]}], "input[0].content[0].type"),
        (
            "input",
            [{"role": "user", "content": [{"type": "input_text"}]}],
            "input[0].content[0].text",
        ),
        (
            "input",
            [{"role": "user", "content": [{"type": "input_image"}]}],
            "input[0].content[0].image_url",
        ),
        (
            "input",
            [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": "file:///x"}],
                }
            ],
            "input[0].content[0].image_url",
        ),
        (
            "input",
            [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": "data:x"}],
                }
            ],
            "input[0].content[0].image_url",
        ),
        ("input", [call(1) | {"call_id": ""}], "input[0].call_id"),
        ("input", [call(1) | {"arguments": {}}], "input[0].arguments"),
        ("input", [result(1, None)], "input[0].output"),
        ("input", [result(1, 5)], "input[0].output"),
        (
            "input",
            [result(1, [{"type": "refusal", "refusal": "no"}])],
            "input[0].output[0].type",
        ),
        ("input", [{"type": "reasoning", "summary": "x"}], "input[0].summary"),
        ("instructions", ["x"], "instructions"),
        ("max_output_tokens", 0, "max_output_tokens"),
        ("max_output_tokens", 1.5, "max_output_tokens"),
        ("temperature", "hot", "temperature"),
        ("top_p", [], "top_p"),
        ("top_logprobs", 21, "top_logprobs"),
        ("max_tool_calls", 0, "max_tool_calls"),
        ("stream", "yes", "stream"),
        ("stream_options", {"include_usage": True}, "stream_options.include_usage"),
        ("metadata", {"a": 5}, "metadata.a"),
        ("service_tier", 5, "service_tier"),
        ("tools", {}, "tools"),
        ("tools", [{"type": "function"}], "tools[0].name"),
        ("tools", [FUNCTION | {"parameters": []}], "tools[0].parameters"),
        ("tool_choice", "any", "tool_choice"),
        ("tool_choice", {"type": "function"}, "tool_choice.name"),
        ("text", "json", "text"),
        ("text", {"format": "json"}, "text.format"),
        ("text", {"format": {"type": "xml"}}, "text.format.type"),
        ("text", {"format": {"type": "text", "x": 1}}, "text.format.x"),
        (
            "text",
            {"format": {"type": "json_schema", "schema": {}}},
            "text.format.name",
        ),
        (
            "text",
            {"format": {"type": "json_schema", "name": "n"}},
            "text.format.schema",
        ),
        ("reasoning", "low", "reasoning"),
        ("reasoning", {"effort": 1}, "reasoning.effort"),
        ("user", 5, "user"),
    ],
)
def test_a_field_that_cannot_be_meant_is_named(field, value, param):
    assert refused(**{field: value}).param == param


def test_a_complaint_never_quotes_a_prompt():
    secret = "my password is swordfish " * 10
    for body in (
        {"input": [{"role": secret, "content": secret}]},
        {"input": [{"role": "user", "content": {"text": secret}}]},
        {"input": {"text": secret}},
        {"instructions": [secret]},
    ):
        assert "swordfish " * 2 not in refused(**body).message


# Over other formats.


def foreign(own="openai", **fields) -> list[str]:
    return list(foreign_fields(read(**fields).request, own))


def test_what_a_client_always_sends_bars_no_provider():
    assert not foreign(
        store=False,
        include=["reasoning.encrypted_content"],
        metadata={"a": "b"},
        prompt_cache_key="k",
        prompt_cache_retention="in_memory",
        safety_identifier="s",
        service_tier="default",
        max_tool_calls=3,
        top_logprobs=0,
        truncation="disabled",
        text={"format": {"type": "text"}, "verbosity": "medium"},
        reasoning={"effort": "low", "summary": "auto", "context": "auto"},
        stream_options={"include_obfuscation": True},
        tools=[FUNCTION],
    )


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"user": "u", "safety_identifier": "s"}, "safety_identifier"),
        ({"tools": [FUNCTION | {"defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"input": [{"type": "program"}]}, "input[0] (program)"),
        ({"input": [call(1) | {"namespace": "n"}]}, "input[0].namespace"),
        (
            {"input": [call(1), result(1, [{"type": "input_file", "file_id": "f"}])]},
            "input[1].output[0] (input_file)",
        ),
        (
            {
                "instructions": "be kind",
                "input": [
                    call(1),
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "output_text", "text": "a"},
                            {"type": "output_text", "text": "b", "annotations": [5]},
                        ],
                    },
                ],
            },
            "input[1].content[1].annotations",
        ),
        (
            {"input": [{"role": "assistant", "content": "a", "phase": "commentary"}]},
            "input[0].phase",
        ),
    ],
)
def test_what_no_other_format_has_words_for_is_named_as_it_was_written(fields, name):
    for own in ("openai", "anthropic"):
        assert foreign(own, **fields) == [name]
    assert foreign("responses", **fields) == []


def test_a_turn_with_extras_is_named_after_the_item_that_has_them():
    said = {"role": "assistant", "content": "a", "phase": "commentary"}
    assert foreign(input=[call(1), said, call(2)]) == ["input[1].phase"]


def test_messages_and_parts_are_called_what_the_client_calls_them():
    request = read(
        instructions="be kind",
        input=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "input_text", "text": "t"}] * 2},
            call(1),
            call(2),
            result(1),
        ],
    ).request
    places = [
        (
            message_path(request, i),
            [part_path(request, i, j) for j, _ in enumerate(m.parts)],
        )
        for i, m in enumerate(request.messages)
    ]
    assert places == [
        ("instructions", ["instructions"]),
        ("input[0]", ["input[0].content"]),
        ("input[1]", ["input[1].content[0]", "input[1].content[1]"]),
        ("input[2]", ["input[2]", "input[3]"]),
        ("input[4]", ["input[4]"]),
    ]


ROUND_TRIP = [
    {"role": "user", "content": "hi"},
    {"type": "message", "role": "assistant", "content": "let me see"},
    call(1),
    call(2),
    result(1),
    result(2, [{"type": "input_text", "text": "rain"}]),
]


def test_a_conversation_is_what_a_chat_would_have_been():
    request = read(instructions="be kind", input=ROUND_TRIP, tools=[FUNCTION]).request
    openai_request.check(request, provider="up")
    body = json.loads(openai_request.encode(request, stream=False, provider="up"))
    function = {"name": "weather", "arguments": '{"a": 1}'}
    assert body["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "let me see",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": function},
                {"id": "call_2", "type": "function", "function": function},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        {"role": "tool", "tool_call_id": "call_2", "content": "rain"},
    ]


def test_a_conversation_is_what_anthropics_messages_would_have_been():
    request = read(instructions="be kind", input=ROUND_TRIP, tools=[FUNCTION]).request
    anthropic_request.check(request, provider="up")
    body = json.loads(anthropic_request.encode(request, stream=False, provider="up"))
    assert body["system"] == "be kind"
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    said, *calls = body["messages"][1]["content"]
    assert said == {"type": "text", "text": "let me see"}
    assert [(c["id"], c["input"]) for c in calls] == [
        ("call_1", {"a": 1}),
        ("call_2", {"a": 1}),
    ]
    assert [r["tool_use_id"] for r in body["messages"][2]["content"]] == [
        "call_1",
        "call_2",
    ]


@given(completion=values.completions(choices_max=1))
@settings(max_examples=200, deadline=None)
def test_a_reply_that_is_sent_back_is_read_as_what_it_was(completion):
    output = json.loads(encode_completion(completion, {}))["output"]
    wanted = [
        part
        for part in completion.choices[0].parts
        if not isinstance(part, (TextPart, RefusalPart)) or part.text
        if not isinstance(part, ReasoningPart) or part != ReasoningPart()
    ]
    asked = {"role": "user", "content": "and?"}
    request = read(input=[*output, asked]).request
    found = [part for message in request.messages[:-1] for part in message.parts]
    assert found == wanted


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_every_part_has_its_own_place(data):
    kinds = st.sampled_from(
        [
            {"role": "user", "content": "x"},
            {
                "role": "assistant",
                "content": [{"type": "output_text", "text": "a"}] * 2,
            },
            {"type": "reasoning", "summary": []},
            {"type": "reasoning", "summary": [], "encrypted_content": "e"},
            call(1),
            result(1),
            {"type": "odd"},
        ]
    )
    items = data.draw(st.lists(kinds, min_size=1, max_size=8))
    items.append({"role": "user", "content": "x"})
    found = messages(*items, instructions=data.draw(st.none() | st.just("be kind")))
    places = [place for message in found for place in message.places]
    assert len(places) == len(set(places))
    for message in found:
        assert len(message.places) == len(message.parts)
    numbers = [
        int(place.split("[")[1].split("]")[0])
        for place in places
        if place != "instructions"
    ]
    assert numbers == sorted(numbers)
    told = [i for i, item in enumerate(items) if item != kinds.elements[2]]
    assert sorted(set(numbers)) == told
