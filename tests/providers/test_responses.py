from __future__ import annotations

import json

import pytest

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
from duckservice.errors import (
    BadProviderResponse,
    InvalidRequest,
    RateLimited,
)
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.placed_message import PlacedMessage
from duckservice.providers.responses import variant
from tests.providers.responses_api import (
    AZURE,
    COMPATIBLE,
    HELLO,
    OPENAI,
    XAI,
    ask,
    call_item,
    sent,
)


def chat(body: dict, dialect=OPENAI) -> dict:
    """Return what is sent for a body of Chat Completions."""
    return sent(decode_chat(json.dumps(body).encode()).request, dialect)


def claude(body: dict, dialect=OPENAI) -> dict:
    """Return what is sent for a body of Anthropic's Messages."""
    wire = decode_messages(json.dumps({"max_tokens": 99} | body).encode())
    return sent(wire.request, dialect)


def items(*given, dialect=OPENAI, **fields) -> list:
    return sent(ask(messages=given, **fields), dialect)["input"]


def refused(request, dialect=OPENAI) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        sent(request, dialect)
    assert caught.value.provider == "duck"
    return caught.value.param


# Requests


def test_the_smallest_request_says_no_more_than_it_must():
    assert OPENAI.encode(ask(), stream=False) == (
        b'{"model":"gpt-4o","input":[{"role":"user","content":"hello"}],"store":false}'
    )


def test_a_stream_is_asked_for():
    assert sent(ask(), stream=True)["stream"] is True


def test_a_chat_goes_under_the_formats_own_names():
    body = chat(
        {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "hello"}],
            "max_completion_tokens": 50,
            "temperature": 0.5,
            "top_p": 0.9,
            "n": 1,
            "user": "me",
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "description": "d",
                        "parameters": {"type": "object"},
                        "strict": True,
                    },
                },
                {"type": "function", "function": {"name": "g"}},
            ],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "parallel_tool_calls": False,
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "description": "of all",
                    "schema": {"type": "object"},
                    "strict": True,
                },
            },
            "metadata": {"a": "b"},
            "service_tier": "flex",
            "prompt_cache_key": "key",
            "verbosity": "low",
            "logprobs": True,
            "top_logprobs": 3,
            "store": False,
            "logit_bias": {},
        }
    )
    assert body == {
        "model": "gpt-4o",
        "input": [{"role": "user", "content": "hello"}],
        "store": False,
        "max_output_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "user": "me",
        "tools": [
            {
                "type": "function",
                "name": "f",
                "description": "d",
                "parameters": {"type": "object"},
                "strict": True,
            },
            # What is not said means strict in this format, and not strict in chats.
            {
                "type": "function",
                "name": "g",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            },
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "text": {
            "format": {
                "type": "json_schema",
                "name": "answer",
                "description": "of all",
                "schema": {"type": "object"},
                "strict": True,
            },
            "verbosity": "low",
        },
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "prompt_cache_key": "key",
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 3,
    }


def test_a_conversation_with_tools_is_items_in_their_order():
    body = chat(
        {
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": "Weather in Rome and Oslo?"},
                {
                    "role": "assistant",
                    "content": "I look.",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "w", "arguments": '{"c":"Rome"}'},
                        },
                        {
                            "id": "call_2",
                            "type": "function",
                            "function": {"name": "w", "arguments": '{"c":"Oslo"}'},
                        },
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "30"},
                {
                    "role": "tool",
                    "tool_call_id": "call_2",
                    "content": [{"type": "text", "text": "3"}],
                },
                {"role": "developer", "content": "In Celsius."},
                {"role": "user", "content": "So?"},
                {"role": "assistant", "content": None, "refusal": "No."},
                {"role": "user", "content": "Please."},
            ],
        }
    )
    assert body["input"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Weather in Rome and Oslo?"},
        {"role": "assistant", "content": "I look."},
        call_item("call_1", "w", '{"c":"Rome"}'),
        call_item("call_2", "w", '{"c":"Oslo"}'),
        {"type": "function_call_output", "call_id": "call_1", "output": "30"},
        {"type": "function_call_output", "call_id": "call_2", "output": "3"},
        {"role": "developer", "content": "In Celsius."},
        {"role": "user", "content": "So?"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "No."}],
        },
        {"role": "user", "content": "Please."},
    ]


def test_an_empty_text_beside_a_call_is_left_out():
    parts = (TextPart(text=""), ToolCall(id="c", name="f", arguments="{}"))
    said = items(Message(role="assistant", parts=parts))
    assert said == [call_item("c", "f", "{}")]
    assert items(Message.of("assistant", "")) == [{"role": "assistant", "content": ""}]


def test_only_openai_knows_developers():
    developer = Message.of("developer", "Be short.")
    assert items(developer)[0]["role"] == "developer"
    assert items(developer, dialect=AZURE)[0]["role"] == "developer"
    assert items(developer, dialect=COMPATIBLE)[0]["role"] == "system"


def test_pictures_go_with_their_detail():
    body = chat(
        {
            "model": "gpt-4o",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {
                            "type": "image_url",
                            "image_url": {"url": "https://a/b.png", "detail": "low"},
                        },
                        {
                            "type": "image_url",
                            "image_url": {"url": "data:image/png;base64,AAAA"},
                        },
                    ],
                }
            ],
        }
    )
    assert body["input"][0]["content"] == [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": "https://a/b.png", "detail": "low"},
        {
            "type": "input_image",
            "image_url": "data:image/png;base64,AAAA",
            "detail": "auto",
        },
    ]


@pytest.mark.parametrize("model", ["o3", "o4-mini", "gpt-5", "openai/gpt-5.6-sol"])
def test_a_model_that_reasons_is_asked_for_its_thoughts_encrypted(model):
    assert sent(ask(model=model))["include"] == ["reasoning.encrypted_content"]


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5-chat-latest", "gpt-4.1", "grok-4"])
def test_a_model_that_does_not_reason_is_not_asked_for_thoughts(model):
    assert "include" not in sent(ask(model=model))


def test_what_is_to_be_included_adds_up():
    request = ask(model="gpt-5", extra={"logprobs": True})
    assert sent(request)["include"] == [
        "reasoning.encrypted_content",
        "message.output_text.logprobs",
    ]


def test_an_effort_makes_thoughts_wanted_whatever_the_model_is_called():
    high = Reasoning(effort="high")
    body = sent(ask(model="my-deployment", reasoning=high), AZURE)
    assert body["reasoning"] == {"effort": "high"}
    assert body["include"] == ["reasoning.encrypted_content"]
    off = sent(ask(model="grok-4", reasoning=Reasoning(effort="none")), XAI)
    assert off["reasoning"] == {"effort": "none"}
    assert "include" not in off


def test_allowed_tools_of_a_chat_are_allowed_here():
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "required",
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
    }
    body = sent(ask(tools=(Tool(name="f"),), extra={"tool_choice": choice}))
    assert body["tool_choice"] == {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "f"}],
    }


def test_a_file_of_a_chat_is_a_file_here():
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}
    part = OpaquePart(format="openai", value={"type": "file", "file": file})
    (said,) = items(Message(role="user", parts=(part,)))
    assert said["content"] == [{"type": "input_file", **file}]


def test_a_sealed_thought_without_a_text_has_no_summary():
    thought = ReasoningPart(signature="gAAAAx")
    assert items(Message(role="assistant", parts=(thought,))) == [
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAAAx"}
    ]


def test_what_a_tool_says_beside_its_results_is_said_by_the_user():
    assert items(Message.of("tool", "done")) == [{"role": "user", "content": "done"}]


def test_the_modes_and_formats_that_have_no_fields():
    tools = (Tool(name="f"),)
    for mode in ("auto", "none", "required"):
        choice = ToolChoice(mode=mode)
        assert sent(ask(tools=tools, tool_choice=choice))["tool_choice"] == mode
    for kind in ("text", "json_object"):
        body = sent(ask(response_format=ResponseFormat(type=kind)))
        assert body["text"] == {"format": {"type": kind}}


def test_a_gemini_calls_signature_is_for_gemini():
    extra = {"extra_content": {"google": {"thought_signature": "s"}}}
    call = ToolCall(id="c", name="f", arguments="{}", extra=extra)
    said = items(Message(role="assistant", parts=(call,)))
    assert said == [call_item("c", "f", "{}")]


# Requests of Anthropic's clients


def test_an_anthropic_conversation_is_items_in_their_order():
    body = claude(
        {
            "model": "gpt-5.1",
            "system": "Be short.",
            "messages": [
                {"role": "user", "content": "Rome and Oslo?"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm.", "signature": "gAAAAs"},
                        {"type": "text", "text": "I look."},
                        {"type": "tool_use", "id": "t1", "name": "w", "input": {}},
                        {"type": "tool_use", "id": "t2", "name": "w", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t1", "content": "30"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "t2",
                            "content": [
                                {"type": "text", "text": "see"},
                                {
                                    "type": "image",
                                    "source": {
                                        "type": "base64",
                                        "media_type": "image/png",
                                        "data": "AAAA",
                                    },
                                },
                            ],
                        },
                        {"type": "text", "text": "So?"},
                    ],
                },
            ],
            "tools": [{"name": "w", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "thinking": {"type": "enabled", "budget_tokens": 4000},
            "metadata": {"user_id": "me"},
        }
    )
    assert body == {
        "model": "gpt-5.1",
        "input": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Rome and Oslo?"},
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "Hm."}],
                "encrypted_content": "gAAAAs",
            },
            {"role": "assistant", "content": "I look."},
            call_item("t1", "w", "{}"),
            call_item("t2", "w", "{}"),
            {"type": "function_call_output", "call_id": "t1", "output": "30"},
            {
                "type": "function_call_output",
                "call_id": "t2",
                "output": [
                    {"type": "input_text", "text": "see"},
                    {
                        "type": "input_image",
                        "image_url": "data:image/png;base64,AAAA",
                        "detail": "auto",
                    },
                ],
            },
            {"role": "user", "content": "So?"},
        ],
        "store": False,
        "max_output_tokens": 99,
        "tools": [
            {
                "type": "function",
                "name": "w",
                "parameters": {"type": "object"},
                "strict": False,
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "user": "me",
        "reasoning": {"effort": "medium", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    }


def test_a_pdf_of_anthropics_is_a_file_here():
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}
    url = {"type": "url", "url": "https://a/b.pdf"}
    content = [
        {"type": "document", "source": pdf, "title": "a.pdf"},
        {"type": "document", "source": url},
    ]
    body = claude({"model": "m", "messages": [{"role": "user", "content": content}]})
    assert body["input"][0]["content"] == [
        {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": "data:application/pdf;base64,AAAA",
        },
        {"type": "input_file", "file_url": "https://a/b.pdf"},
    ]


def test_anthropics_schema_is_kept_to_strictly():
    schema = {"type": "object", "properties": {}}
    wanted = {"format": {"type": "json_schema", "schema": schema}}
    body = claude(
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "output_config": wanted,
        }
    )
    assert body["text"]["format"] == {
        "type": "json_schema",
        "name": "response",
        "schema": schema,
        "strict": True,
    }


@pytest.mark.parametrize(
    ("dialect", "item"),
    [
        (COMPATIBLE, {"summary": [], "content": [{"type": "reasoning_text"}]}),
        (XAI, {"summary": [{"type": "summary_text"}]}),
    ],
)
def test_thoughts_that_are_open_go_back_where_the_server_tells_its_own(dialect, item):
    thought = ReasoningPart(text="Hm.")
    (said,) = items(Message(role="assistant", parts=(thought,)), dialect=dialect)
    for part in (*item["summary"], *item.get("content", ())):
        part["text"] = "Hm."
    assert said == {"type": "reasoning", **item}


# Requests of the format's own clients


def own(**fields) -> ChatRequest:
    return ask(format="responses", **fields)


def test_a_client_of_the_format_loses_nothing():
    web = {"type": "web_search", "search_context_size": "low"}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    file = {"type": "input_file", "file_id": "file_1"}
    request = own(
        model="gpt-5",
        messages=(
            PlacedMessage(
                role="system",
                parts=(TextPart(text="Be short."),),
                place="instructions",
                places=("instructions",),
            ),
            Message(role="user", parts=(OpaquePart(format="responses", value=file),)),
            Message(
                role="assistant",
                parts=(
                    OpaquePart(format="responses", value=search),
                    ReasoningPart(text="Hm.", signature="of whomever"),
                    TextPart(text="Well."),
                    ToolCall(
                        id="c", name="f", arguments="{}", extra={"namespace": "n"}
                    ),
                ),
                extra={"phase": "commentary"},
            ),
            Message(
                role="tool",
                parts=(ToolResult(tool_call_id="c", content=(TextPart(text="1"),)),),
            ),
        ),
        tools=(
            Tool(name="f", parameters={"type": "object"}),
            Tool(name="web_search", extra=web),
        ),
        user="me",
        reasoning=Reasoning(effort="low"),
        extra={
            "store": True,
            "reasoning": {"effort": "low", "summary": "detailed"},
            "text": {"verbosity": "low"},
            "safety_identifier": "me",
            "include": None,
        },
    )
    assert sent(request) == {
        "model": "gpt-5",
        "instructions": "Be short.",
        "input": [
            {"role": "user", "content": [file]},
            search,
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "Hm."}],
                "encrypted_content": "of whomever",
            },
            {
                "type": "message",
                "role": "assistant",
                "content": "Well.",
                "phase": "commentary",
            },
            call_item("c", "f", "{}") | {"namespace": "n"},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
        ],
        "tools": [
            {"type": "function", "name": "f", "parameters": {"type": "object"}},
            web,
        ],
        "store": True,
        "reasoning": {"effort": "low", "summary": "detailed"},
        "text": {"verbosity": "low"},
        "safety_identifier": "me",
    }


def test_nothing_is_stored_unless_a_client_of_the_format_says_so():
    assert sent(own())["store"] is False
    assert sent(own(extra={"store": None}))["store"] is False
    assert sent(own(extra={"store": True}))["store"] is True
    assert refused(ask(extra={"store": True})) == "store"


# Refusals


def said_by_user(part) -> dict:
    return {"messages": (Message(role="user", parts=(part,)),)}


def said_by_model(part) -> dict:
    return {"messages": (Message(role="assistant", parts=(part,)),)}


CITED = {
    "type": "document",
    "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
    "citations": {"enabled": True},
}
CUSTOM = {"type": "custom", "custom": {"name": "f"}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop": ("a",)}, "stop"),
        ({"stop": ("a",), "format": "anthropic"}, "stop_sequences"),
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"top_k": 3}, "top_k"),
        ({"max_tokens": 15}, "max_tokens"),
        ({"max_tokens": 15, "format": "responses"}, "max_output_tokens"),
        ({"extra": {"logit_bias": {"1": 2}}}, "logit_bias"),
        ({"extra": {"prediction": {}}}, "prediction"),
        ({"extra": {"web_search_options": {}}}, "web_search_options"),
        ({"extra": {"verbosity": 3}}, "verbosity"),
        (
            {
                "extra": {
                    "tool_choice": {
                        "type": "allowed_tools",
                        "allowed_tools": {"mode": "auto", "tools": [CUSTOM]},
                    }
                }
            },
            "tool_choice",
        ),
        ({"extra": {"service_tier": "auto2"}, "format": "anthropic"}, "service_tier"),
        ({"extra": {"background": True}, "format": "responses"}, "background"),
        (
            {
                "reasoning": Reasoning(mode="disabled"),
                "format": "anthropic",
                "model": "o3",
            },
            "thinking.type",
        ),
        (
            {"messages": (Message(role="user", parts=HELLO[0].parts, name="bob"),)},
            "messages[0].name",
        ),
        (
            said_by_user(OpaquePart(format="openai", value={"type": "input_audio"})),
            "messages[0].content[0] (input_audio)",
        ),
        (
            said_by_user(
                OpaquePart(
                    format="anthropic",
                    value={"type": "document", "source": {"type": "text"}},
                )
            ),
            "messages[0].content[0] (document)",
        ),
        (
            said_by_user(OpaquePart(format="anthropic", value=CITED)),
            "messages[0].content[0] (document)",
        ),
        (
            said_by_user(
                OpaquePart(
                    format="openai", value={"type": "file", "file": {"what": "x"}}
                )
            ),
            "messages[0].content[0] (file)",
        ),
        (
            said_by_user(
                ToolResult(
                    tool_call_id="t",
                    content=(OpaquePart(format="openai", value={"type": "x"}),),
                )
            ),
            "messages[0].content[0].content[0] (x)",
        ),
        (
            said_by_user(
                ToolResult(
                    tool_call_id="t",
                    content=(ImagePart(url="https://a/b.png"),),
                    is_error=True,
                )
            ),
            "messages[0].content[0].is_error",
        ),
        (
            said_by_model(ImagePart(url="https://a/b.png")),
            "messages[0].content[0]",
        ),
        (
            said_by_model(ReasoningPart(text="Hm.")),
            "messages[0].content[0] (reasoning)",
        ),
        (
            said_by_model(ReasoningPart(text="Hm.", signature="EqQBanthropic")),
            "messages[0].content[0] (reasoning)",
        ),
        (
            said_by_model(ReasoningPart(redacted="sealed")),
            "messages[0].content[0] (reasoning)",
        ),
        (
            {
                "messages": (
                    Message(
                        role="user",
                        parts=(TextPart(text="a", extra={"cache_control": {}}),),
                    ),
                ),
                "format": "anthropic",
            },
            "messages[0].content[0].cache_control",
        ),
    ],
)
def test_what_the_format_has_no_words_for_is_refused_by_name(fields, param):
    request = ask(**fields)
    with pytest.raises(InvalidRequest) as caught:
        OPENAI.check(request)
    assert caught.value.param == param
    assert refused(request) == param


def test_what_says_nothing_is_not_refused():
    extra = {"logprobs": False, "logit_bias": {}, "modalities": ["text"], "audio": None}
    request = ask(n=1, presence_penalty=0.0, frequency_penalty=0, extra=extra)
    assert sent(request) == sent(ask())


def test_the_name_of_a_tool_that_answers_is_left_out():
    result = ToolResult(tool_call_id="c", content=(TextPart(text="1"),))
    assert items(Message(role="tool", parts=(result,), name="f")) == [
        {"type": "function_call_output", "call_id": "c", "output": "1"}
    ]


def test_thoughts_sealed_by_others_go_to_no_one():
    request = ask(**said_by_model(ReasoningPart(redacted="sealed")))
    assert refused(request, COMPATIBLE) == "messages[0].content[0] (reasoning)"


# Counting


def test_tokens_are_counted_where_openai_counts_them():
    counting = OPENAI.counting
    assert counting is not None
    request = ask(
        model="gpt-5", max_tokens=99, temperature=0.5, tools=(Tool(name="f"),)
    )
    assert counting.path(request) == "/responses/input_tokens"
    body = json.loads(counting.encode(request))
    assert body.keys() == {"model", "input", "tools"}
    assert counting.decode(b'{"object":"response.input_tokens","input_tokens":7}') == 7
    for hostile in (b"", b"[]", b"{}", b'{"input_tokens":"7"}', b"<html>"):
        with pytest.raises(BadProviderResponse):
            counting.decode(hostile)
    with pytest.raises(RateLimited):
        counting.decode(b'{"error":{"code":"rate_limit_exceeded","message":"slow"}}')


def test_only_openai_counts():
    assert OPENAI.capabilities.count_tokens == "endpoint"
    for dialect in (AZURE, XAI, COMPATIBLE):
        assert dialect.counting is None
        assert dialect.capabilities.count_tokens == "estimate"


def test_all_but_chats_is_as_in_openais_other_format():
    assert OPENAI.chat_path(ask(), stream=True) == "/responses"
    assert OPENAI.models_path == OPENAI.health_path == "/models"
    assert OPENAI.headers(ask()) is None
    assert OPENAI.embeddings is not None
    models, following = OPENAI.decode_models(b'{"data":[{"id":"m"}]}')
    assert [model.id for model in models] == ["m"]
    assert following is None
    assert OPENAI.capabilities.n_max == 1
    assert variant.OPENAI.counts
