"""A client of one format, an upstream of the other: the daemon translates.

What has no words in the other format is refused by naming the field, and nothing
reaches the upstream.
"""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import asynccontextmanager

import anthropic
import openai
import pytest

from duckservice.config import RetryConfig
from tests.e2e.running import (
    CLIENT_KEY,
    KEY,
    anthropic_message,
    anthropic_stream,
    json_answer,
    open_duck,
    openai_chat,
    openai_stream,
    provider,
    sse_answer,
)
from tests.upstream import open_upstream

HELLO = [{"role": "user", "content": "hello"}]
PIXEL = b64encode(b"\x89PNG\r\n").decode()
SCHEMA = {
    "type": "object",
    "properties": {"town": {"type": "string"}},
    "required": ["town"],
}
OPENAI_TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Sun?", "parameters": SCHEMA},
}
ANTHROPIC_TOOL = {"name": "weather", "description": "Sun?", "input_schema": SCHEMA}


@asynccontextmanager
async def upstream_and_duck(adapter: str, *answers: bytes):
    async with open_upstream([[a] for a in answers] or [[]], limit=30) as upstream:
        once = RetryConfig(max_attempts=1)
        async with open_duck(provider("up", adapter, upstream), retry=once) as duck:
            yield upstream, duck


def sent(upstream, number: int = -1):
    return json.loads(upstream.requests[number].body)


def ask_anthropic(sdk, **more):
    its = {"model": "m", "max_tokens": 50, "messages": HELLO, **more}
    return sdk.messages.create(**its)


def ask_openai(sdk, **more):
    return sdk.chat.completions.create(**{"model": "m", "messages": HELLO, **more})


# An Anthropic client on an OpenAI upstream.


async def test_an_anthropic_client_chats_with_an_openai_upstream():
    answer = openai_chat()
    answer["usage"] = {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    asked = {
        "system": [{"type": "text", "text": "Be kind."}],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
    }
    body = {"model": "m", "max_tokens": 50, "messages": HELLO, **asked}
    async with upstream_and_duck("openai", json_answer(answer)) as (upstream, duck):
        reply = await duck.anthropic(
            lambda sdk: sdk.post(
                "/v1/messages", body=body, cast_to=anthropic.types.Message
            )
        )
    assert (reply.type, reply.role) == ("message", "assistant")
    assert [block.text for block in reply.content] == ["Hello!"]
    assert reply.stop_reason == "end_turn"
    assert reply.usage.input_tokens == 36, "cached tokens are no input tokens here"
    assert reply.usage.cache_read_input_tokens == 64
    assert reply.usage.output_tokens == 30
    (request,) = upstream.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.header("authorization") == f"Bearer {KEY}"
    assert request.header("x-api-key") is None
    assert request.header("anthropic-version") is None
    assert CLIENT_KEY.encode() not in request.head
    assert sent(upstream) == {
        "model": "m",
        "max_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END"],
        "user": "u-1",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "hello"},
        ],
    }


async def test_an_anthropic_client_streams_from_an_openai_upstream():
    events = openai_stream(
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm."},
        {"content": "Hel"},
        {"content": "lo!"},
        finish="length",
    )

    def use(sdk):
        with sdk.messages.stream(model="m", max_tokens=50, messages=HELLO) as stream:
            return list(stream.text_stream), stream.get_final_message()

    async with upstream_and_duck("openai", sse_answer(*events)) as (upstream, duck):
        pieces, message = await duck.anthropic(use)
    assert sent(upstream)["stream_options"] == {"include_usage": True}
    assert pieces == ["Hel", "lo!"]
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking == "Hm."
    assert message.stop_reason == "max_tokens"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (9, 3)


def openai_call(number: int, arguments: str) -> dict:
    function = {"name": "weather", "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": function}


async def test_an_anthropic_client_uses_tools_of_an_openai_upstream():
    calls = [openai_call(1, '{"town":"Bonn"}'), openai_call(2, "")]
    image = {"type": "url", "url": "https://x.org/a.png"}

    def use(sdk):
        choice = {"type": "any", "disable_parallel_tool_use": True}
        first = ask_anthropic(sdk, tools=[ANTHROPIC_TOOL], tool_choice=choice)
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "sun"}
            for block in first.content
            if block.type == "tool_use"
        ]
        user = [*results, {"type": "image", "source": image}]
        turns = [
            *HELLO,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": user},
        ]
        one = {"type": "tool", "name": "weather"}
        ask_anthropic(sdk, tools=[ANTHROPIC_TOOL], tool_choice=one, messages=turns)
        return first

    answers = (
        json_answer(openai_chat("Let me see.", tool_calls=calls)),
        json_answer(openai_chat()),
    )
    async with upstream_and_duck("openai", *answers) as (upstream, duck):
        first = await duck.anthropic(use)
    assert first.stop_reason == "tool_use"
    assert [block.type for block in first.content] == ["text", "tool_use", "tool_use"]
    assert [block.input for block in first.content[1:]] == [{"town": "Bonn"}, {}]
    assert sent(upstream, 0)["tools"] == [OPENAI_TOOL]
    assert sent(upstream, 0)["tool_choice"] == "required"
    assert sent(upstream, 0)["parallel_tool_calls"] is False
    again = sent(upstream, 1)
    named = {"type": "function", "function": {"name": "weather"}}
    assert again["tool_choice"] == named
    assistant, *rest = again["messages"][1:]
    assert assistant["content"] == "Let me see."
    assert [call["id"] for call in assistant["tool_calls"]] == ["call_1", "call_2"]
    arguments = [c["function"]["arguments"] for c in assistant["tool_calls"]]
    assert [json.loads(its) for its in arguments] == [{"town": "Bonn"}, {}]
    assert rest == [
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        {"role": "tool", "tool_call_id": "call_2", "content": "sun"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": image["url"]}}],
        },
    ]


async def test_an_anthropic_client_gets_streamed_calls_of_an_openai_upstream():
    def piece(index: int, arguments: str, **more) -> dict:
        function = {"arguments": arguments, **more.pop("function", {})}
        return {"tool_calls": [{"index": index, "function": function, **more}]}

    def begin(index: int) -> dict:
        its = {"id": f"call_{index}", "type": "function"}
        return piece(index, "", function={"name": "weather"}, **its)

    events = openai_stream(
        {"content": "So:"},
        begin(0),
        piece(0, '{"town":'),
        piece(0, '"Bonn"}'),
        begin(1),
        piece(1, '{"town":"Köln"}'),
        finish="tool_calls",
    )

    def use(sdk):
        its = {"model": "m", "max_tokens": 50, "messages": HELLO}
        with sdk.messages.stream(**its, tools=[ANTHROPIC_TOOL]) as stream:
            return stream.get_final_message()

    async with upstream_and_duck("openai", sse_answer(*events)) as (_, duck):
        message = await duck.anthropic(use)
    assert message.stop_reason == "tool_use"
    assert message.content[0].text == "So:"
    assert [(block.id, block.input) for block in message.content[1:]] == [
        ("call_0", {"town": "Bonn"}),
        ("call_1", {"town": "Köln"}),
    ]


async def test_an_anthropic_client_sends_images_and_schemas_to_an_openai_upstream():
    value = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    turns = [{"role": "user", "content": [{"type": "image", "source": value}]}]
    wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = json_answer(openai_chat())
    async with upstream_and_duck("openai", answer) as (upstream, duck):
        await duck.anthropic(
            lambda sdk: ask_anthropic(sdk, messages=turns, output_config=wanted)
        )
    (part,) = sent(upstream)["messages"][0]["content"]
    assert part["image_url"] == {"url": f"data:image/png;base64,{PIXEL}"}
    schema = sent(upstream)["response_format"]["json_schema"]
    assert schema["schema"] == SCHEMA
    assert schema["strict"] is True


@pytest.mark.parametrize(
    ("native", "word"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
    ],
)
async def test_openais_finish_reasons_become_anthropics_words(native, word):
    answer = openai_chat()
    answer["choices"][0]["finish_reason"] = native
    async with upstream_and_duck("openai", json_answer(answer)) as (_, duck):
        reply = await duck.anthropic(ask_anthropic)
    assert reply.stop_reason == word


async def test_a_refusal_of_an_openai_upstream_is_anthropics_refusal():
    answer = json_answer(openai_chat(None, refusal="I cannot."))
    async with upstream_and_duck("openai", answer) as (_, duck):
        reply = await duck.anthropic(ask_anthropic)
    assert reply.stop_reason == "refusal"
    assert reply.content[0].text == "I cannot."


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_error_of_an_openai_upstream_comes_in_anthropics_shape(streaming):
    error = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
    refusal = json_answer(error, b"retry-after: 7", status=b"429 Slow")
    async with upstream_and_duck("openai", refusal) as (_, duck):
        with pytest.raises(anthropic.RateLimitError) as caught:
            await duck.anthropic(lambda sdk: ask_anthropic(sdk, stream=streaming))
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    assert caught.value.body["error"]["code"] == "rate_limited"
    assert caught.value.response.headers["retry-after"] == "7"


async def test_an_error_in_an_openai_stream_is_anthropics_error_event():
    whole = openai_stream({"content": "Hel"})
    broken = b'data: {"error":{"message":"oh no","type":"server_error"}}\n\n'

    def use(sdk):
        pieces = []
        its = {"model": "m", "max_tokens": 50, "messages": HELLO}
        with pytest.raises(anthropic.APIStatusError) as caught:  # noqa: SIM117
            with sdk.messages.stream(**its) as stream:
                pieces.extend(stream.text_stream)
        return pieces, caught.value

    async with upstream_and_duck("openai", sse_answer(whole[0], broken)) as (_, duck):
        pieces, raised = await duck.anthropic(use)
    assert pieces == ["Hel"]
    assert raised.body["error"]["code"] == "provider_error"
    assert "oh no" in raised.body["error"]["message"]


async def test_token_counts_for_an_openai_upstream_are_estimated_and_cost_nothing():
    async with upstream_and_duck("openai") as (upstream, duck):
        count = await duck.anthropic(
            lambda sdk: sdk.messages.count_tokens(model="m", messages=HELLO)
        )
    assert count.input_tokens > 0
    assert upstream.connections == 0


DOCUMENT = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "A deed."},
}
SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
RESULT_OF_IMAGES = {
    "type": "tool_result",
    "tool_use_id": "t1",
    "content": [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
        }
    ],
}


def said(role: str, *blocks) -> dict:
    return {"messages": [*HELLO, {"role": role, "content": list(blocks)}]}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"top_k": 5}, "top_k"),
        ({"service_tier": "standard_only"}, "service_tier"),
        ({"container": "c-1"}, "container"),
        (said("user", DOCUMENT), "messages[1].content[0] (document)"),
        (said("user", RESULT_OF_IMAGES), "messages[1].content[0].content"),
        (
            {"tools": [{"type": "bash_20250124", "name": "bash"}]},
            "tools[0].type",
        ),
        ({"stop_sequences": list("abcde")}, "stop_sequences"),
    ],
)
async def test_what_openai_has_no_words_for_is_refused_by_name(more, field):
    body = {"model": "m", "max_tokens": 50, "messages": HELLO, **more}
    async with upstream_and_duck("openai") as (upstream, duck):
        with pytest.raises(anthropic.BadRequestError) as caught:
            await duck.anthropic(
                lambda sdk: sdk.post("/v1/messages", body=body, cast_to=object)
            )
    error = caught.value.body["error"]
    assert error["code"] == "invalid_request"
    assert error["message"].startswith(f"{field}: ")
    assert upstream.connections == 0


# An OpenAI client on an Anthropic upstream.


async def test_an_openai_client_chats_with_an_anthropic_upstream():
    usage = {
        "input_tokens": 9,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 30,
    }
    answer = json_answer(anthropic_message(usage=usage))
    asked = {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "developer", "content": "Be brief."},
            *HELLO,
        ],
        "max_completion_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": "END",
        "user": "u-1",
        "n": 1,
        "store": False,
    }
    async with upstream_and_duck("anthropic", answer) as (upstream, duck):
        reply = await duck.openai(lambda sdk: ask_openai(sdk, **asked))
    assert reply.object == "chat.completion"
    assert reply.created > 1_700_000_000, "Anthropic does not say when"
    assert reply.choices[0].message.content == "Hello!"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.prompt_tokens == 129, "cached tokens are prompt tokens here"
    assert reply.usage.prompt_tokens_details.cached_tokens == 100
    assert reply.usage.completion_tokens == 30
    (request,) = upstream.requests
    assert request.line == "POST /v1/messages HTTP/1.1"
    assert request.header("x-api-key") == KEY
    assert request.header("authorization") is None
    assert request.header("anthropic-version") == "2023-06-01"
    assert sent(upstream) == {
        "model": "m",
        "max_tokens": 50,
        "system": [
            {"type": "text", "text": "Be kind."},
            {"type": "text", "text": "Be brief."},
        ],
        "messages": HELLO,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
    }


async def test_max_tokens_that_anthropic_demands_is_made_up_where_it_is_absent():
    answer = json_answer(anthropic_message())
    async with upstream_and_duck("anthropic", answer) as (upstream, duck):
        await duck.openai(ask_openai)
    assert sent(upstream)["max_tokens"] == 4096


TEXT = {"type": "text", "text": ""}


async def test_an_openai_client_streams_from_an_anthropic_upstream():
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    events = anthropic_stream(
        (
            thinking,
            [
                {"type": "thinking_delta", "thinking": "Hm."},
                {"type": "signature_delta", "signature": "c2ln"},
            ],
        ),
        (TEXT, [{"type": "text_delta", "text": text} for text in ("Hel", "lo!")]),
        stop="max_tokens",
    )

    def use(sdk):
        usage = {"include_usage": True}
        return list(ask_openai(sdk, stream=True, stream_options=usage))

    async with upstream_and_duck("anthropic", sse_answer(*events)) as (upstream, duck):
        chunks = await duck.openai(use)
    assert sent(upstream)["stream"] is True
    assert "stream_options" not in sent(upstream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Hello!"
    thoughts = [getattr(delta, "reasoning_content", None) for delta in deltas]
    assert [thought for thought in thoughts if thought] == ["Hm."]
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == "length"
    assert not any(reasons[:-1])
    assert chunks[-1].usage.prompt_tokens == 9
    assert chunks[-1].usage.completion_tokens == 3


def anthropic_call(number: int, town: str) -> dict:
    its = {"id": f"toolu_{number}", "name": "weather", "input": {"town": town}}
    return {"type": "tool_use", **its}


async def test_an_openai_client_uses_tools_of_an_anthropic_upstream():
    asked = anthropic_message(
        {"type": "text", "text": "Let me see."},
        anthropic_call(1, "Bonn"),
        anthropic_call(2, "Köln"),
        stop_reason="tool_use",
    )

    def use(sdk):
        its = {"tools": [OPENAI_TOOL], "parallel_tool_calls": False}
        first = ask_openai(sdk, tool_choice="required", **its)
        message = first.choices[0].message
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": "sun"}
            for call in message.tool_calls
        ]
        ask_openai(sdk, tools=[OPENAI_TOOL], messages=[*HELLO, message, *results])
        return first

    answers = json_answer(asked), json_answer(anthropic_message())
    async with upstream_and_duck("anthropic", *answers) as (upstream, duck):
        first = await duck.openai(use)
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see."
    calls = choice.message.tool_calls
    assert [call.id for call in calls] == ["toolu_1", "toolu_2"]
    assert json.loads(calls[1].function.arguments) == {"town": "Köln"}
    assert sent(upstream, 0)["tools"] == [ANTHROPIC_TOOL]
    assert sent(upstream, 0)["tool_choice"] == {
        "type": "any",
        "disable_parallel_tool_use": True,
    }
    assistant, results = sent(upstream, 1)["messages"][1:]
    assert assistant["content"] == [
        {"type": "text", "text": "Let me see."},
        anthropic_call(1, "Bonn"),
        anthropic_call(2, "Köln"),
    ]
    assert results["role"] == "user", "results of one turn are one message"
    assert [block["tool_use_id"] for block in results["content"]] == [
        "toolu_1",
        "toolu_2",
    ]


async def test_an_openai_client_gets_streamed_calls_of_an_anthropic_upstream():
    def its(number: int, *pieces: str):
        kind = "input_json_delta"
        start = anthropic_call(number, "") | {"input": {}}
        return start, [{"type": kind, "partial_json": piece} for piece in pieces]

    events = anthropic_stream(
        (TEXT, [{"type": "text_delta", "text": "So:"}]),
        its(1, "", '{"town":', '"Bonn"}'),
        its(2),
        stop="tool_use",
    )

    def use(sdk):
        with sdk.chat.completions.stream(
            model="m", messages=HELLO, tools=[OPENAI_TOOL]
        ) as stream:
            return stream.get_final_completion()

    async with upstream_and_duck("anthropic", sse_answer(*events)) as (_, duck):
        reply = await duck.openai(use)
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "So:"
    assert [
        (call.id, json.loads(call.function.arguments))
        for call in choice.message.tool_calls
    ] == [("toolu_1", {"town": "Bonn"}), ("toolu_2", {})]


async def test_an_openai_client_sends_images_and_schemas_to_an_anthropic_upstream():
    urls = ["https://x.org/a.png", f"data:image/png;base64,{PIXEL}"]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    schema = {"name": "town", "schema": SCHEMA, "strict": True}
    wanted = {"type": "json_schema", "json_schema": schema}
    turns = [{"role": "user", "content": parts}]
    answer = json_answer(anthropic_message())
    async with upstream_and_duck("anthropic", answer) as (upstream, duck):
        await duck.openai(
            lambda sdk: ask_openai(sdk, messages=turns, response_format=wanted)
        )
    sources = [block["source"] for block in sent(upstream)["messages"][0]["content"]]
    assert sources == [
        {"type": "url", "url": urls[0]},
        {"type": "base64", "media_type": "image/png", "data": PIXEL},
    ]
    its = {"type": "json_schema", "schema": SCHEMA}
    assert sent(upstream)["output_config"] == {"format": its}


@pytest.mark.parametrize(
    ("model", "thinking", "effort"),
    [
        ("claude-3-7-sonnet-latest", {"type": "enabled", "budget_tokens": 8192}, None),
        ("claude-next", {"type": "adaptive"}, "medium"),
    ],
)
async def test_an_effort_becomes_what_the_model_knows(model, thinking, effort):
    answer = json_answer(anthropic_message())
    async with upstream_and_duck("anthropic", answer) as (upstream, duck):
        await duck.openai(
            lambda sdk: ask_openai(sdk, model=model, reasoning_effort="medium")
        )
    body = sent(upstream)
    assert body["thinking"] == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert body["max_tokens"] > thinking.get("budget_tokens", 0)


@pytest.mark.parametrize(
    ("native", "word"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ],
)
async def test_anthropics_stop_reasons_become_openais_words(native, word):
    answer = json_answer(anthropic_message(stop_reason=native))
    async with upstream_and_duck("anthropic", answer) as (_, duck):
        reply = await duck.openai(ask_openai)
    assert reply.choices[0].finish_reason == word


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_error_of_an_anthropic_upstream_comes_in_openais_shape(streaming):
    error = {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "slow down"},
    }
    refusal = json_answer(error, b"retry-after: 7", status=b"429 Slow")
    async with upstream_and_duck("anthropic", refusal) as (_, duck):
        with pytest.raises(openai.RateLimitError) as caught:
            await duck.openai(lambda sdk: ask_openai(sdk, stream=streaming))
    assert caught.value.code == "rate_limited"
    assert caught.value.type == "rate_limit_error"
    assert caught.value.response.headers["retry-after"] == "7"


async def test_an_error_in_an_anthropic_stream_is_raised_by_openais_sdk():
    deltas = [{"type": "text_delta", "text": "Hel"}]
    begun = anthropic_stream((TEXT, deltas))[:4]
    broken = (
        b'event: error\ndata: {"type":"error","error":'
        b'{"type":"overloaded_error","message":"oh no"}}\n\n'
    )

    def use(sdk):
        chunks = []
        with pytest.raises(openai.APIError) as caught:
            chunks.extend(ask_openai(sdk, stream=True))
        return caught.value

    answer = sse_answer(*begun, broken)
    async with upstream_and_duck("anthropic", answer) as (_, duck):
        raised = await duck.openai(use)
    assert raised.code == "provider_error"
    assert "oh no" in raised.message


AUDIO = {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}}
NO_OBJECT = openai_call(1, "not json")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"verbosity": "low"}, "verbosity"),
        (
            {"messages": [{"role": "user", "content": "x", "name": "ann"}]},
            "messages[0].name",
        ),
        (
            {"messages": [{"role": "user", "content": [AUDIO]}]},
            "messages[0].content[0] (input_audio)",
        ),
        (
            {"messages": [*HELLO, {"role": "assistant", "tool_calls": [NO_OBJECT]}]},
            "messages[1].content[0].function.arguments",
        ),
    ],
)
async def test_what_anthropic_has_no_words_for_is_refused_by_name(more, field):
    async with upstream_and_duck("anthropic") as (upstream, duck):
        with pytest.raises(openai.BadRequestError) as caught:
            await duck.openai(lambda sdk: ask_openai(sdk, **more))
    assert caught.value.code == "invalid_request"
    assert caught.value.param == field
    assert caught.value.body["message"].startswith(f"{field}: ")
    assert upstream.connections == 0


async def test_embeddings_that_anthropic_has_not_are_refused():
    async with upstream_and_duck("anthropic") as (upstream, duck):
        with pytest.raises(openai.BadRequestError) as caught:
            await duck.openai(lambda sdk: sdk.embeddings.create(model="m", input="x"))
    assert caught.value.code == "invalid_request"
    assert upstream.connections == 0


async def test_a_provider_that_can_say_it_is_asked_where_another_cannot():
    async with (
        open_upstream([[json_answer(openai_chat())]], limit=30) as able,
        open_upstream([[json_answer(anthropic_message())]], limit=30) as unable,
    ):
        first = provider("first", "anthropic", unable, priority=1)
        second = provider("second", "openai", able, priority=2)
        async with open_duck(first, second) as duck:
            await duck.openai(lambda sdk: ask_openai(sdk, seed=1))
            await duck.openai(ask_openai)
    assert len(able.requests) == 1
    assert len(unable.requests) == 1
