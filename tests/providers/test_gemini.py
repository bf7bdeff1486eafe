from __future__ import annotations

import json
from typing import Any

import pytest

from duckservice.completion import (
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
from duckservice.errors import ModelNotFound
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers.gemini.signatures import SKIPPED, signed
from tests.providers.gemini import (
    GEMINI,
    HELLO,
    HELLO_TURN,
    ask,
    contents,
    refused,
    said,
    sent,
)
from tests.recordings import load, needs_recordings

# Requests


def test_the_smallest_request_is_one_turn():
    assert sent(ask()) == {"contents": [HELLO_TURN]}


def test_the_options_go_under_geminis_names():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tool = Tool(name="f", description="d", parameters=schema)
    body = sent(
        ask(
            max_tokens=5,
            temperature=0.5,
            top_p=0.9,
            top_k=7,
            n=2,
            stop=("a", "b"),
            seed=42,
            presence_penalty=0.25,
            frequency_penalty=-0.5,
            tools=(tool, Tool(name="g")),
            tool_choice=ToolChoice(mode="auto"),
            parallel_tool_calls=True,
            user="me",
            extra={"logprobs": False, "store": None},
        )
    )
    assert body == {
        "contents": [HELLO_TURN],
        "generationConfig": {
            "maxOutputTokens": 5,
            "temperature": 0.5,
            "topP": 0.9,
            "topK": 7,
            "candidateCount": 2,
            "stopSequences": ["a", "b"],
            "seed": 42,
            "presencePenalty": 0.25,
            "frequencyPenalty": -0.5,
        },
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "f", "description": "d", "parametersJsonSchema": schema},
                    {"name": "g"},
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
    }


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        (ToolChoice(mode="auto"), {"mode": "AUTO"}),
        (ToolChoice(mode="none"), {"mode": "NONE"}),
        (ToolChoice(mode="required"), {"mode": "ANY"}),
        (
            ToolChoice(mode="tool", name="f"),
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_the_choice_of_tools_is_a_mode(choice, calling):
    body = sent(ask(tools=(Tool(name="f"),), tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": calling}


@pytest.mark.parametrize("choice", [None, ToolChoice(mode="auto")])
def test_calls_of_a_strict_tool_are_validated(choice):
    tools = (Tool(name="f"), Tool(name="g", strict=True))
    body = sent(ask(tools=tools, tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert "toolConfig" not in sent(ask(tools=(Tool(name="f", strict=False),)))


def test_a_schema_for_the_reply_goes_as_it_is():
    schema = {"type": "object", "additionalProperties": False}
    wanted = ResponseFormat(type="json_schema", name="n", schema=schema, strict=True)
    assert sent(ask(response_format=wanted))["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }
    described = ResponseFormat(type="json_schema", schema=schema, description="d")
    options = sent(ask(response_format=described))["generationConfig"]
    assert options["responseJsonSchema"] == {**schema, "description": "d"}
    plain = sent(ask(response_format=ResponseFormat(type="json_object")))
    assert plain["generationConfig"] == {"responseMimeType": "application/json"}
    assert sent(ask(response_format=ResponseFormat(type="text"))) == sent(ask())


def test_all_that_the_system_says_stands_beside_the_turns():
    body = sent(
        ask(
            messages=(
                Message.of("system", "a"),
                Message.of("developer", "b"),
                *HELLO,
                Message.of("system", "later"),
            )
        )
    )
    assert body["systemInstruction"] == {
        "parts": [{"text": "a"}, {"text": "b"}, {"text": "later"}]
    }
    assert body["contents"] == [HELLO_TURN]


def test_neighbours_of_one_role_are_one_turn():
    turns = contents(
        *HELLO,
        Message.of("user", "again"),
        Message.of("assistant", "yes?"),
        Message.of("assistant", "well?"),
        *HELLO,
    )
    assert turns == [
        {"role": "user", "parts": [{"text": "hello"}, {"text": "again"}]},
        {"role": "model", "parts": [{"text": "yes?"}, {"text": "well?"}]},
        HELLO_TURN,
    ]


def test_pictures_are_data_or_urls_that_say_their_type():
    png = ImagePart(data="QUJD", media_type="image/png", detail="auto")
    url = ImagePart(url="https://x.org/a/cat.JPG?size=2")
    [turn] = contents(said("user", TextPart(text="see"), png, url))
    assert turn["parts"] == [
        {"text": "see"},
        {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
        {
            "fileData": {
                "mimeType": "image/jpeg",
                "fileUri": "https://x.org/a/cat.JPG?size=2",
            }
        },
    ]


@pytest.mark.parametrize(
    ("detail", "resolution"),
    [("low", "MEDIA_RESOLUTION_LOW"), ("high", "MEDIA_RESOLUTION_HIGH")],
)
def test_the_detail_of_all_pictures_is_an_option(detail, resolution):
    picture = ImagePart(data="QUJD", media_type="image/png", detail=detail)
    body = sent(ask(messages=(said("user", picture),)))
    assert body["generationConfig"] == {"mediaResolution": resolution}


def test_documents_and_sounds_of_any_client_go_as_data():
    pdf = {"inlineData": {"mimeType": "application/pdf", "data": "QUJD"}}
    file = {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"}
    source = {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}
    text = {"type": "text", "media_type": "text/plain", "data": "words"}
    url = {"type": "url", "url": "https://x/y"}
    sound = {"data": "QUJD", "format": "wav"}
    for form, value, part in (
        ("openai", {"type": "file", "file": file}, pdf),
        ("responses", {"type": "input_file", **file}, pdf),
        ("anthropic", {"type": "document", "source": source}, pdf),
        ("anthropic", {"type": "document", "source": text}, {"text": "words"}),
        (
            "anthropic",
            {"type": "document", "source": url},
            {
                "fileData": {
                    "mimeType": "application/pdf",
                    "fileUri": "https://x/y",
                }
            },
        ),
        (
            "openai",
            {"type": "input_audio", "input_audio": sound},
            {"inlineData": {"mimeType": "audio/wav", "data": "QUJD"}},
        ),
    ):
        message = said("user", OpaquePart(format=form, value=value))
        assert contents(message, format=form)[0]["parts"] == [part]


# Calls and their results


CALL = ToolCall(id="t1", name="f", arguments='{"a": 1.50}')
ASKED = said("assistant", CALL)


def result(content="", call="t1", **fields) -> ToolResult:
    parts = (TextPart(text=content),) if isinstance(content, str) else content
    return ToolResult(tool_call_id=call, content=parts, **fields)


def response_to(*results: ToolResult, model="gemini-2.5-flash", **fields) -> list:
    answer = said("tool", *results, **fields)
    return contents(*HELLO, ASKED, answer, model=model)[-1]["parts"]


def test_calls_and_results_of_a_turn_stand_in_two_turns():
    turns = contents(
        *HELLO,
        said(
            "assistant",
            TextPart(text=""),
            CALL,
            ToolCall(id="t2", name="g", arguments=""),
        ),
        said("tool", result("22 C")),
        said("tool", result('{"b": [2.0]}', call="t2")),
        Message.of("user", "and?"),
    )
    assert turns == [
        HELLO_TURN,
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "t1", "name": "f", "args": {"a": 1.5}}},
                {"functionCall": {"id": "t2", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "id": "t1",
                        "name": "f",
                        "response": {"output": "22 C"},
                    }
                },
                {
                    "functionResponse": {
                        "id": "t2",
                        "name": "g",
                        "response": {"b": [2.0]},
                    }
                },
                {"text": "and?"},
            ],
        },
    ]


def test_arguments_go_back_as_the_model_wrote_them():
    GEMINI.check(request := ask(messages=(*HELLO, ASKED)))
    assert b'"args":{"a": 1.50}' in GEMINI.encode(request, stream=False)


@pytest.mark.parametrize("content", ["[1]", "3", '"a"', "", '{"a":', "{'a': 1}"])
def test_a_result_that_is_no_json_object_is_an_output(content):
    [part] = response_to(result(content))
    assert part["functionResponse"]["response"] == {"output": content}


def test_a_failed_call_is_an_error():
    [part] = response_to(result('{"a": 1}', is_error=True))
    assert part["functionResponse"]["response"] == {"error": '{"a": 1}'}


def test_a_picture_in_a_result_stands_behind_it_before_gemini_3():
    content = (
        TextPart(text="see"),
        ImagePart(data="QUJD", media_type="image/png"),
    )
    inline = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
    answer: dict[str, Any] = {
        "id": "t1",
        "name": "f",
        "response": {"output": "see"},
    }
    assert response_to(result(content)) == [{"functionResponse": answer}, inline]
    [part] = response_to(result(content), model="gemini-3-flash-preview")
    assert part == {"functionResponse": {**answer, "parts": [inline]}}


def test_a_document_in_a_result_stands_where_a_picture_does():
    source = {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}
    words = {"type": "text", "media_type": "text/plain", "data": "words"}
    content = tuple(
        OpaquePart(format="anthropic", value={"type": "document", "source": its})
        for its in (source, words)
    )
    pdf = {"inlineData": {"mimeType": "application/pdf", "data": "QUJD"}}
    for model, inside, behind in (
        ("gemini-2.5-flash", None, [pdf, {"text": "words"}]),
        ("gemini-3-flash-preview", [pdf], [{"text": "words"}]),
    ):
        [part, *rest] = response_to(result(content), model=model)
        assert part["functionResponse"].get("parts") == inside
        assert rest == behind


def test_a_turn_without_anything_is_none():
    silent = said("assistant", ReasoningPart(signature="c2ln"))
    assert contents(*HELLO, silent) == [HELLO_TURN]


def test_a_result_may_name_its_function_itself():
    alone = said("tool", result("x", call="t9"), name="h")
    [turn] = contents(alone)
    assert turn["parts"][0]["functionResponse"]["name"] == "h"


# Signatures


@pytest.mark.parametrize("model", ["gemini-3-pro-preview", "gemini-2.5-flash"])
def test_a_signature_of_an_openai_client_goes_back_with_its_call(model):
    call = ToolCall(id="t1", name="f", arguments="{}", extra=signed("c2ln"))
    other = ToolCall(id="t2", name="g", arguments="{}")
    [_, turn] = contents(*HELLO, said("assistant", call, other), model=model)
    assert turn["parts"][0]["thoughtSignature"] == "c2ln"
    assert "thoughtSignature" not in turn["parts"][1]


def test_a_signature_of_an_anthropic_client_goes_back_with_the_call_behind_it():
    thought = ReasoningPart(text="hm", signature="c2ln")
    silent = ReasoningPart(signature="c2ln")
    for parts, first in (
        ((thought, CALL), [{"text": "hm", "thought": True}]),
        ((silent, CALL), []),
    ):
        [_, turn] = contents(*HELLO, said("assistant", *parts), format="anthropic")
        *before, call = turn["parts"]
        assert before == first
        assert call["thoughtSignature"] == "c2ln"
    [_, turn] = contents(*HELLO, said("assistant", TextPart(text="a"), thought))
    assert turn["parts"][-1]["thoughtSignature"] == "c2ln"


def test_a_signature_of_a_message_belongs_to_its_last_text():
    message = said(
        "assistant", TextPart(text="a"), TextPart(text="b"), extra=signed("c2ln")
    )
    [_, turn] = contents(*HELLO, message)
    assert turn["parts"] == [{"text": "a"}, {"text": "b", "thoughtSignature": "c2ln"}]


def test_since_gemini_3_a_call_that_nobody_signed_says_so():
    turn = said("assistant", CALL, ToolCall(id="t2", name="g", arguments="{}"))
    for model in ("gemini-3-pro-preview", "gemini-3.5-flash", "gemini-flash-latest"):
        [_, model_turn] = contents(*HELLO, turn, model=model)
        first, second = model_turn["parts"]
        assert first["thoughtSignature"] == SKIPPED
        assert "thoughtSignature" not in second
    for model in ("gemini-2.5-pro", "gemini-2.0-flash", "gemma-3-27b-it"):
        [_, model_turn] = contents(*HELLO, turn, model=model)
        assert not any("thoughtSignature" in part for part in model_turn["parts"])


def test_thoughts_that_nobody_signed_stay_thoughts():
    thought = ReasoningPart(text="hm", signature="")
    [_, turn] = contents(*HELLO, said("assistant", thought, TextPart(text="a")))
    assert turn["parts"] == [{"text": "hm", "thought": True}, {"text": "a"}]


# Thinking


@pytest.mark.parametrize(
    ("model", "reasoning", "config"),
    [
        ("gemini-2.5-flash", {"effort": "none"}, {"thinkingBudget": 0}),
        ("gemini-2.5-flash", {"mode": "disabled"}, {"thinkingBudget": 0}),
        ("gemini-2.5-pro", {"effort": "none"}, {"thinkingBudget": 128}),
        ("gemini-2.5-flash", {"effort": "minimal"}, 1024),
        ("gemini-2.5-flash", {"effort": "low"}, 1024),
        ("gemini-2.5-pro", {"effort": "medium"}, 8192),
        ("gemini-2.5-pro", {"effort": "high"}, 24576),
        ("gemini-2.5-pro", {"effort": "xhigh"}, 24576),
        ("gemini-2.5-pro", {"mode": "enabled", "budget_tokens": 5000}, 5000),
        ("gemini-2.5-pro", {"mode": "adaptive"}, -1),
        ("gemini-3-flash-preview", {"effort": "none"}, {"thinkingLevel": "minimal"}),
        ("gemini-3-pro-preview", {"effort": "none"}, {"thinkingLevel": "low"}),
        ("gemini-3-flash-preview", {"effort": "minimal"}, "minimal"),
        ("gemini-3-flash-preview", {"effort": "medium"}, "medium"),
        ("gemini-3-flash-preview", {"effort": "xhigh"}, "high"),
        ("gemini-3-pro-preview", {"effort": "minimal"}, "low"),
        ("gemini-3-pro-preview", {"effort": "medium"}, "high"),
        ("gemini-3.1-pro-preview", {"effort": "medium"}, "medium"),
        ("gemini-3.5-flash", {"budget_tokens": 1024, "mode": "enabled"}, "low"),
        ("gemini-3.5-flash", {"budget_tokens": 8192, "mode": "enabled"}, "medium"),
        ("gemini-3.5-flash", {"budget_tokens": 30000, "mode": "enabled"}, "high"),
        ("gemini-3.5-flash", {"mode": "adaptive"}, {"includeThoughts": True}),
    ],
)
def test_effort_and_budget_are_tokens_up_to_2_5_and_levels_since_3(
    model, reasoning, config
):
    if isinstance(config, int):
        config = {"thinkingBudget": config, "includeThoughts": True}
    elif isinstance(config, str):
        config = {"thinkingLevel": config, "includeThoughts": True}
    body = sent(ask(model=model, reasoning=Reasoning(**reasoning)))
    assert body["generationConfig"] == {"thinkingConfig": config}


def test_who_says_nothing_of_thinking_gets_what_google_does():
    assert sent(ask(reasoning=Reasoning())) == sent(ask())


# What only Gemini knows


@pytest.mark.parametrize("wrapped", [False, True])
def test_geminis_own_fields_go_as_they_are(wrapped):
    google = {
        "thinking_config": {"thinking_budget": 7},
        "safety_settings": [{"category": "c"}],
        "cachedContent": "cachedContents/x",
        "tools": [{"googleSearch": {}}],
        "generationConfig": {"topK": 3},
    }
    extra = {"extra_body": {"google": google}} if wrapped else {"google": google}
    body = sent(ask(tools=(Tool(name="f"),), temperature=1.0, extra=extra))
    assert body == {
        "contents": [HELLO_TURN],
        "generationConfig": {
            "temperature": 1.0,
            "topK": 3,
            "thinkingConfig": {"thinking_budget": 7},
        },
        "tools": [{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}],
        "safetySettings": [{"category": "c"}],
        "cachedContent": "cachedContents/x",
    }


# What cannot be said


def opaque(value, form="openai") -> Message:
    return said("user", OpaquePart(format=form, value=value))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"extra": {"logit_bias": {"1": 2}}}, "logit_bias"),
        ({"extra": {"google": "x"}}, "google"),
        ({"extra": {"extra_body": {"other": {}}}}, "extra_body.other"),
        ({"extra": {"extra_body": {"google": 1}}}, "extra_body.google"),
        ({"n": 9}, "n"),
        ({"stop": ("a", "b", "c", "d", "e", "f")}, "stop"),
        ({"temperature": 2.5}, "temperature"),
        (
            {"tools": (Tool(name="f"),), "parallel_tool_calls": False},
            "parallel_tool_calls",
        ),
        (
            {
                "tools": (Tool(name="f"),),
                "parallel_tool_calls": False,
                "format": "anthropic",
            },
            "tool_choice.disable_parallel_tool_use",
        ),
        (
            {"tools": (Tool(name="f", extra={"type": "bash_2"}),)},
            "tools[0].type",
        ),
        ({"messages": (Message.of("system", "a"),)}, "messages"),
        (
            {"messages": (said("user", TextPart(text="a"), name="me"),)},
            "messages[0].name",
        ),
        (
            {"messages": (said("user", ImagePart(url="https://x/y")),)},
            "messages[0].content[0]",
        ),
        (
            {"messages": (said("assistant", ReasoningPart(redacted="x")),)},
            "messages[0].content[0]",
        ),
        (
            {
                "messages": (
                    said("assistant", ToolCall(id="a", name="f", arguments="[1]")),
                )
            },
            "messages[0].content[0].function.arguments",
        ),
        ({"messages": (said("tool", result("x")),)}, "messages[0].content[0]"),
        (
            {"messages": (*HELLO, said("assistant", extra={"images": [{"a": 1}]}))},
            "messages[1].images",
        ),
        (
            {"messages": (*HELLO, said("assistant", extra={"images": "a"}))},
            "messages[1].images",
        ),
        (
            {"messages": (opaque({"type": "file", "file": {"file_id": "f"}}),)},
            "messages[0].content[0] (file)",
        ),
        (
            {"messages": (opaque({"type": "video_url"}),)},
            "messages[0].content[0] (video_url)",
        ),
        (
            {
                "messages": (
                    said("user", TextPart(text="a", extra={"cache_control": {}})),
                ),
                "format": "anthropic",
            },
            "messages[0].content[0].cache_control",
        ),
        (
            {
                "messages": (
                    said(
                        "user",
                        ImagePart(data="a", media_type="image/png", detail="low"),
                        ImagePart(data="a", media_type="image/png", detail="high"),
                    ),
                )
            },
            "messages[].content[].image_url.detail",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(fields, field):
    assert refused(ask(**fields)) == field


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("openai", "function.arguments"),
        ("responses", "arguments"),
        ("anthropic", "input"),
    ],
)
def test_arguments_are_refused_under_the_clients_own_name(form, name):
    call = ToolCall(id="a", name="f", arguments="[1]")
    field = refused(ask(messages=(said("assistant", call),), format=form))
    assert field == f"messages[0].content[0].{name}"


@pytest.mark.parametrize(
    "model",
    ["../files", "a/../b", "gemini?x", "gemini#x", "", "a//b", "gemini:predict"],
)
def test_a_name_that_leads_elsewhere_is_no_model(model):
    with pytest.raises(ModelNotFound):
        GEMINI.chat_path(ask(model=model), stream=False)


def test_a_chat_is_sent_to_its_model():
    assert (
        GEMINI.chat_path(ask(), stream=False)
        == "/models/gemini-2.5-flash:generateContent"
    )
    tuned = ask(model="tunedModels/my-one")
    assert (
        GEMINI.chat_path(tuned, stream=True)
        == "/tunedModels/my-one:streamGenerateContent?alt=sse"
    )
    assert GEMINI.headers(ask()) is None


# From a client's own words


def test_a_request_of_an_openai_client_becomes_geminis():
    body = {
        "model": "gemini-2.5-flash",
        "max_completion_tokens": 9,
        "reasoning_effort": "low",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "weather?"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,QUJD"},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "t1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"q":1}'},
                        **signed("c2ln"),
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "sun"},
        ],
    }
    assert sent(decode_chat(json.dumps(body).encode()).request) == {
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "weather?"},
                    {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {
                        "functionCall": {"id": "t1", "name": "f", "args": {"q": 1}},
                        "thoughtSignature": "c2ln",
                    }
                ],
            },
            {
                "role": "user",
                "parts": [
                    {
                        "functionResponse": {
                            "id": "t1",
                            "name": "f",
                            "response": {"output": "sun"},
                        }
                    }
                ],
            },
        ],
        "generationConfig": {
            "maxOutputTokens": 9,
            "thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True},
        },
    }


def test_a_request_of_an_anthropic_client_becomes_geminis():
    body = {
        "model": "gemini-2.5-pro",
        "max_tokens": 9000,
        "system": "be brief",
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "metadata": {"user_id": "me"},
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "messages": [
            {"role": "user", "content": "weather?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"q": 1}},
                    {"type": "tool_use", "id": "t2", "name": "f", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "sun"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "t2",
                        "content": "no",
                        "is_error": True,
                    },
                    {"type": "text", "text": "so?"},
                ],
            },
        ],
    }
    got = sent(decode_messages(json.dumps(body).encode()).request)
    assert got["systemInstruction"] == {"parts": [{"text": "be brief"}]}
    assert got["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    assert got["generationConfig"] == {
        "maxOutputTokens": 9000,
        "thinkingConfig": {"thinkingBudget": 2000, "includeThoughts": True},
    }
    assert [turn["role"] for turn in got["contents"]] == ["user", "model", "user"]
    thought, call, _ = got["contents"][1]["parts"]
    assert thought == {"text": "hm", "thought": True}
    assert call["thoughtSignature"] == "c2ln"
    one, two, text = got["contents"][2]["parts"]
    assert one["functionResponse"]["response"] == {"output": "sun"}
    assert two["functionResponse"]["response"] == {"error": "no"}
    assert text == {"text": "so?"}


# The recorded requests are the truth for the shape of ours


def fields_in(value: object, path: str = "") -> set[str]:
    """Return the paths of all fields, in the wire's own names, schemas aside."""
    found: set[str] = set()
    match value:
        case dict():
            for key, inner in value.items():
                head, *rest = key.split("_")
                name = f"{path}.{head}{''.join(map(str.title, rest))}"
                found.add(name)
                if not name.endswith(("Schema", ".args", ".response", "parameters")):
                    found |= fields_in(inner, name)
        case list():
            for inner in value:
                found |= fields_in(inner, path)
    return found


@needs_recordings
def test_every_field_that_we_send_has_been_accepted():
    accepted = {
        name
        for provider in ("gemini", "vertex")
        for record in load(provider)
        if record.api == "gemini.generateContent" and record.response["status"] == 200
        for name in fields_in(record.request.get("body"))
    }
    assert len(accepted) > 40
    body = sent(
        ask(
            model="gemini-3-flash-preview",
            messages=(
                Message.of("system", "s"),
                said(
                    "user",
                    TextPart(text="a"),
                    ImagePart(data="QUJD", media_type="image/png"),
                    ImagePart(url="https://x/y.png"),
                ),
                said("assistant", RefusalPart(text="no"), CALL),
                said(
                    "tool",
                    result((ImagePart(data="QUJD", media_type="image/png"),)),
                ),
            ),
            max_tokens=5,
            temperature=0.5,
            n=1,
            stop=("a",),
            seed=1,
            tools=(Tool(name="f", description="d", parameters={"type": "object"}),),
            tool_choice=ToolChoice(mode="tool", name="f"),
            response_format=ResponseFormat(type="json_schema", schema={}),
            reasoning=Reasoning(effort="low"),
        )
    )
    assert fields_in(body) - accepted == set()


def test_a_result_answers_the_last_call_of_its_id_before_it():
    def call(name: str) -> Message:
        part = ToolCall(id="a", name=name, arguments="{}")
        return Message(role="assistant", parts=(part,))

    result = ToolResult(tool_call_id="a", content=(TextPart(text="x"),))
    answer = Message(role="tool", parts=(result,))
    turns = (Message.of("user", "go"), call("f"), answer, call("g"), answer)
    contents = sent(ask(messages=turns))["contents"]
    names = [
        p["functionResponse"]["name"]
        for t in contents
        for p in t["parts"]
        if "functionResponse" in p
    ]
    assert names == ["f", "g"]


@pytest.mark.parametrize("field", ["secret_instruction)", "x.images"])
def test_an_unknown_field_is_refused_whatever_its_name_looks_like(field):
    assert refused(ask(extra={field: "be nice"})) == field
