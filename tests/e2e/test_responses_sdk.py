"""The official OpenAI SDK speaks Responses, over upstreams of every format."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import asynccontextmanager

import openai
import pytest
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel

from tests.e2e.running import (
    anthropic_message,
    anthropic_stream,
    json_answer,
    open_duck,
    openai_chat,
    openai_stream,
    provider,
    sse_answer,
)
from tests.upstream import FIN, open_upstream

PIXEL = b64encode(b"\x89PNG\r\n").decode()
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a town.",
    "parameters": {
        "type": "object",
        "properties": {"town": {"type": "string"}},
        "required": ["town"],
        "additionalProperties": False,
    },
    "strict": True,
}
CHAT_WEATHER = {
    "type": "function",
    "function": {key: WEATHER[key] for key in WEATHER if key != "type"},
}
TEXT = {"type": "text", "text": ""}
THOUGHTS = [
    {"type": "thinking", "thinking": "Six times seven.", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "ZGF0YQ=="},
    {"type": "text", "text": "42"},
]


class Town(BaseModel):
    name: str
    people: int


@asynccontextmanager
async def upstream_and_duck(*answers: bytes, adapter="openai", **more):
    """Run an upstream that answers so, and a daemon in front of it."""
    async with open_upstream([[a] for a in answers], limit=30) as upstream:
        config = provider("up", adapter, upstream, **more)
        async with open_duck(config) as duck:
            yield upstream, duck


def sent(upstream, number: int = -1):
    """Return the body of a request as the upstream got it."""
    return json.loads(upstream.requests[number].body)


def create(sdk, **more):
    return sdk.responses.create(**{"model": "m", "input": "hello", **more})


def final(sdk, **more):
    """Return the response that a stream amounts to, and its events."""
    with sdk.responses.stream(**{"model": "m", "input": "hello", **more}) as stream:
        events = list(stream)
        return stream.get_final_response(), events


def chat_call(number: int, town: str) -> dict:
    function = {"name": "weather", "arguments": json.dumps({"town": town})}
    return {"id": f"call_{number}", "type": "function", "function": function}


def use_of(number: int, town: str) -> dict:
    its = {"id": f"toolu_{number}", "name": "weather", "input": {"town": town}}
    return {"type": "tool_use", **its}


def calls_of(response) -> list[tuple[str, str, dict]]:
    return [
        (item.call_id, item.name, json.loads(item.arguments))
        for item in response.output
        if isinstance(item, ResponseFunctionToolCall)
    ]


# Over chat completions.


async def test_a_response_comes_back_whole_from_a_chat():
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    answer = json_answer(openai_chat() | {"usage": usage, "service_tier": "default"})
    async with upstream_and_duck(answer) as (upstream, duck):
        reply = await duck.openai(
            lambda sdk: create(
                sdk,
                instructions="Be kind.",
                max_output_tokens=50,
                temperature=0.5,
                top_p=0.9,
                user="u-1",
                metadata={"team": "core"},
                store=False,
                include=["reasoning.encrypted_content"],
            )
        )
    assert reply.output_text == "Hello!"
    assert (reply.id, reply.status) == ("resp_chatcmpl-1", "completed")
    assert reply.model == "gpt-4o-2024-08-06"
    assert reply.created_at == 1_700_000_000
    assert reply.completed_at
    assert reply.metadata == {"team": "core"}
    assert (reply.instructions, reply.max_output_tokens) == ("Be kind.", 50)
    assert reply.service_tier == "default"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (9, 3)
    assert reply.usage.input_tokens_details.cached_tokens == 4
    assert reply.usage.output_tokens_details.reasoning_tokens == 2
    assert reply._request_id
    (request,) = upstream.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert sent(upstream) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "hello"},
        ],
        "max_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "user": "u-1",
    }


async def test_a_stream_comes_piece_by_piece_from_a_chat():
    deltas = [{"role": "assistant", "content": ""}, {"content": "Hel"}]
    deltas.append({"content": "lo!"})
    async with upstream_and_duck(sse_answer(*openai_stream(*deltas))) as (up, duck):
        reply, events = await duck.openai(final)
        costs = await duck.get("/v1/costs?by=total")
        assert sent(up)["stream"] is True
    pieces = [e for e in events if e.type == "response.output_text.delta"]
    assert [e.delta for e in pieces] == ["Hel", "lo!"]
    assert [e.snapshot for e in pieces] == ["Hel", "Hello!"]
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert reply.output_text == "Hello!"
    assert reply.status == "completed"
    assert reply.usage.total_tokens == 12
    assert costs["total"]["output_tokens"] == 3


async def test_an_unwrapped_stream_ends_with_the_response():
    def use(sdk):
        with create(sdk, stream=True) as stream:
            return list(stream)

    events = openai_stream({"content": "Hello!"})
    async with upstream_and_duck(sse_answer(*events)) as (_, duck):
        found = await duck.openai(use)
    assert found[0].type == "response.created"
    assert found[-1].type == "response.completed"
    assert found[-1].response.output_text == "Hello!"


async def test_calls_go_out_and_come_back_and_their_results_go_out_again():
    first_answer = openai_chat(
        None, tool_calls=[chat_call(1, "Bonn"), chat_call(2, "Ulm")]
    )
    picture = {
        "type": "input_text",
        "text": "rain",
    }

    def use(sdk):
        asked = {"role": "user", "content": "The weather of Bonn and Ulm?"}
        first = create(
            sdk,
            input=[asked],
            tools=[WEATHER],
            tool_choice="required",
            parallel_tool_calls=True,
        )
        results = [
            {"type": "function_call_output", "call_id": "call_1", "output": "sun"},
            {"type": "function_call_output", "call_id": "call_2", "output": [picture]},
        ]
        one = {"type": "function", "name": "weather"}
        turns = [asked, *first.output, *results]
        return first, create(sdk, input=turns, tools=[WEATHER], tool_choice=one)

    answers = json_answer(first_answer), json_answer(openai_chat())
    async with upstream_and_duck(*answers) as (upstream, duck):
        first, second = await duck.openai(use)
    assert calls_of(first) == [
        ("call_1", "weather", {"town": "Bonn"}),
        ("call_2", "weather", {"town": "Ulm"}),
    ]
    assert first.output_text == ""
    assert second.output_text == "Hello!"
    body = sent(upstream, 0)
    assert body["tools"] == [CHAT_WEATHER]
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", True)
    body = sent(upstream, 1)
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [chat_call(1, "Bonn"), chat_call(2, "Ulm")],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        {"role": "tool", "tool_call_id": "call_2", "content": "rain"},
    ]


async def test_streamed_calls_come_in_their_pieces_and_are_parsed():
    def its(index: int, **more):
        return {"tool_calls": [{"index": index, **more}]}

    def begin(index: int):
        function = {"name": "Town", "arguments": ""}
        return its(index, id=f"call_{index}", type="function", function=function)

    events = openai_stream(
        begin(0),
        its(0, function={"arguments": '{"name":"Bonn",'}),
        begin(1),
        its(1, function={"arguments": '{"name":"Ulm","people":2}'}),
        its(0, function={"arguments": '"people":1}'}),
        finish="tool_calls",
    )

    def use(sdk):
        return final(sdk, tools=[openai.pydantic_function_tool(Town)])

    async with upstream_and_duck(sse_answer(*events)) as (upstream, duck):
        reply, seen = await duck.openai(use)
    assert [item.parsed_arguments for item in reply.output] == [
        Town(name="Bonn", people=1),
        Town(name="Ulm", people=2),
    ]
    deltas = [e for e in seen if e.type == "response.function_call_arguments.delta"]
    assert deltas[-1].snapshot == '{"name":"Bonn","people":1}'
    assert sent(upstream)["tools"][0]["function"]["name"] == "Town"


async def test_a_schema_goes_out_and_the_reply_is_parsed_whole_and_streamed():
    text = '{"name":"Bonn","people":330000}'
    whole = json_answer(openai_chat(text))
    stream = sse_answer(*openai_stream({"content": text[:9]}, {"content": text[9:]}))

    def use(sdk):
        parsed = sdk.responses.parse(model="m", input="Bonn?", text_format=Town)
        return parsed, final(sdk, text_format=Town)[0]

    async with upstream_and_duck(whole, stream) as (upstream, duck):
        parsed, streamed = await duck.openai(use)
    bonn = Town(name="Bonn", people=330000)
    assert parsed.output_parsed == streamed.output_parsed == bonn
    for number in (0, 1):
        wanted = sent(upstream, number)["response_format"]["json_schema"]
        assert (wanted["name"], wanted["strict"]) == ("Town", True)
        assert set(wanted["schema"]["properties"]) == {"name", "people"}


async def test_images_reach_a_chat_by_url_and_by_value():
    content = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": "https://x.org/a.png", "detail": "low"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
    ]
    turns = [{"role": "user", "content": content}]
    async with upstream_and_duck(json_answer(openai_chat())) as (upstream, duck):
        await duck.openai(lambda sdk: create(sdk, input=turns))
    assert sent(upstream)["messages"][0]["content"] == [
        {"type": "text", "text": "What is it?"},
        {
            "type": "image_url",
            "image_url": {"url": "https://x.org/a.png", "detail": "low"},
        },
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{PIXEL}"},
        },
    ]


async def test_a_refusal_is_a_part_of_its_own_whole_and_streamed():
    whole = json_answer(openai_chat(None, refusal="No."))
    stream = sse_answer(*openai_stream({"refusal": "N"}, {"refusal": "o."}))

    def use(sdk):
        return create(sdk), final(sdk)[0]

    async with upstream_and_duck(whole, stream) as (_, duck):
        replies = await duck.openai(use)
    for reply in replies:
        (part,) = reply.output[0].content
        assert (part.type, part.refusal) == ("refusal", "No.")


async def test_a_reply_that_was_cut_is_incomplete_whole_and_streamed():
    cut = openai_chat("Hel")
    cut["choices"][0]["finish_reason"] = "length"
    stream = sse_answer(*openai_stream({"content": "Hel"}, finish="length"))

    def use(sdk):
        with create(sdk, stream=True) as events:
            return create(sdk), list(events)[-1]

    async with upstream_and_duck(stream, json_answer(cut)) as (_, duck):
        whole, last = await duck.openai(use)
    assert last.type == "response.incomplete"
    for reply in (whole, last.response):
        assert reply.status == "incomplete"
        assert reply.incomplete_details.reason == "max_output_tokens"
        assert (reply.output_text, reply.output[0].status) == ("Hel", "incomplete")
        assert reply.usage.total_tokens == 12


async def test_thoughts_of_a_server_that_tells_them_come_as_summaries():
    deltas = [{"reasoning_content": "Six times "}, {"reasoning_content": "seven."}]
    stream = sse_answer(*openai_stream(*deltas, {"content": "42"}))
    more = {"adapter": "openai-compatible"}

    def use(sdk):
        first, events = final(sdk, reasoning={"effort": "low", "summary": "auto"})
        asked = {"role": "user", "content": "and?"}
        final(sdk, input=[asked, *first.output, asked])
        return first, events

    async with upstream_and_duck(stream, stream, **more) as (upstream, duck):
        reply, events = await duck.openai(use)
    thought, said = reply.output
    assert [part.text for part in thought.summary] == ["Six times seven."]
    assert said.content[0].text == "42"
    kind = "response.reasoning_summary_text.delta"
    assert [e.delta for e in events if e.type == kind] == ["Six times ", "seven."]
    assert sent(upstream, 0)["reasoning_effort"] == "low"
    assert sent(upstream, 1)["messages"][1] == {
        "role": "assistant",
        "content": "42",
        "reasoning_content": "Six times seven.",
    }


# Over Anthropic's messages.


async def test_a_response_comes_back_whole_from_claude():
    usage = {
        "input_tokens": 9,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 3,
    }
    answer = json_answer(anthropic_message(usage=usage))
    async with upstream_and_duck(answer, adapter="anthropic") as (upstream, duck):
        reply = await duck.openai(
            lambda sdk: create(
                sdk,
                instructions="Be kind.",
                max_output_tokens=50,
                store=False,
                metadata={"a": "b"},
                include=["reasoning.encrypted_content"],
                prompt_cache_key="k",
                safety_identifier="u-1",
                text={"format": {"type": "text"}},
            )
        )
    assert reply.output_text == "Hello!"
    assert reply.id == "resp_msg_1"
    assert reply.usage.input_tokens == 129
    assert reply.usage.input_tokens_details.cached_tokens == 100
    assert reply.usage.input_tokens_details.cache_write_tokens == 20
    assert sent(upstream) == {
        "model": "m",
        "system": "Be kind.",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 50,
        "metadata": {"user_id": "u-1"},
    }


async def test_claudes_calls_come_back_and_their_results_go_out_again():
    asked = anthropic_message(
        {"type": "text", "text": "Let me see."},
        use_of(1, "Bonn"),
        use_of(2, "Ulm"),
        stop_reason="tool_use",
    )
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}

    def use(sdk):
        turn = {"role": "user", "content": "The weather?"}
        first = create(sdk, input=[turn], tools=[WEATHER], parallel_tool_calls=False)
        results = [
            {"type": "function_call_output", "call_id": "toolu_1", "output": "sun"},
            {"type": "function_call_output", "call_id": "toolu_2", "output": [image]},
        ]
        turns = [turn, *first.output, *results]
        return first, create(sdk, input=turns, tools=[WEATHER])

    answers = json_answer(asked), json_answer(anthropic_message())
    async with upstream_and_duck(*answers, adapter="anthropic") as (upstream, duck):
        first, second = await duck.openai(use)
    assert first.output_text == "Let me see."
    assert calls_of(first) == [
        ("toolu_1", "weather", {"town": "Bonn"}),
        ("toolu_2", "weather", {"town": "Ulm"}),
    ]
    assert second.output_text == "Hello!"
    assert sent(upstream, 0)["tools"][0]["input_schema"] == WEATHER["parameters"]
    assert sent(upstream, 0)["tool_choice"] == {
        "type": "auto",
        "disable_parallel_tool_use": True,
    }
    _, said, shown = sent(upstream, 1)["messages"]
    assert said["content"] == [
        {"type": "text", "text": "Let me see."},
        use_of(1, "Bonn"),
        use_of(2, "Ulm"),
    ]
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    assert [(block["tool_use_id"], block["content"]) for block in shown["content"]] == [
        ("toolu_1", "sun"),
        ("toolu_2", [{"type": "image", "source": source}]),
    ]


async def test_claudes_stream_adds_up_with_text_thoughts_and_calls():
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    events = anthropic_stream(
        (
            thinking,
            [
                {"type": "thinking_delta", "thinking": "Six times "},
                {"type": "thinking_delta", "thinking": "seven."},
                {"type": "signature_delta", "signature": "c2ln"},
            ],
        ),
        (THOUGHTS[1], []),
        (TEXT, [{"type": "text_delta", "text": text} for text in "42"]),
        (
            use_of(1, "") | {"input": {}},
            [
                {"type": "input_json_delta", "partial_json": piece}
                for piece in ("", '{"town":', '"Bonn"}')
            ],
        ),
        stop="tool_use",
    )
    more = {"adapter": "anthropic"}
    async with upstream_and_duck(sse_answer(*events), **more) as (_, duck):
        reply, _ = await duck.openai(lambda sdk: final(sdk, tools=[WEATHER]))
    kinds = [item.type for item in reply.output]
    assert kinds == ["reasoning", "reasoning", "message", "function_call"]
    assert reply.output[0].summary[0].text == "Six times seven."
    assert reply.output[0].encrypted_content == "duck:anthropic:c2ln"
    assert reply.output_text == "42"
    assert calls_of(reply) == [("toolu_1", "weather", {"town": "Bonn"})]
    assert reply.usage.output_tokens == 3


async def test_claudes_thoughts_come_back_sealed_and_go_out_again_as_they_were():
    def use(sdk):
        turn = {"role": "user", "content": "What is it?"}
        first = create(sdk, reasoning={"effort": "high", "summary": "auto"})
        create(sdk, input=[turn, *first.output, turn])
        return first

    answer = json_answer(anthropic_message(*THOUGHTS))
    more = {"adapter": "anthropic"}
    async with upstream_and_duck(answer, answer, **more) as (upstream, duck):
        reply = await duck.openai(use)
    assert reply.output_text == "42"
    assert sent(upstream, 0)["output_config"] == {"effort": "high"}
    assert sent(upstream, 1)["messages"][1]["content"] == THOUGHTS


async def test_claude_keeps_to_a_schema_and_the_reply_is_parsed():
    text = {"type": "text", "text": '{"name":"Bonn","people":330000}'}
    answer = json_answer(anthropic_message(text))

    def use(sdk):
        return sdk.responses.parse(model="m", input="Bonn?", text_format=Town)

    async with upstream_and_duck(answer, adapter="anthropic") as (upstream, duck):
        reply = await duck.openai(use)
    assert reply.output_parsed == Town(name="Bonn", people=330000)
    wanted = sent(upstream)["output_config"]["format"]
    assert set(wanted["schema"]["properties"]) == {"name", "people"}


async def test_claude_is_cut_and_refuses_in_openais_words():
    cut = json_answer(anthropic_message(stop_reason="max_tokens"))
    stopped = json_answer(anthropic_message(stop_reason="refusal"))

    def use(sdk):
        return create(sdk), create(sdk)

    more = {"adapter": "anthropic"}
    async with upstream_and_duck(cut, stopped, **more) as (_, duck):
        replies = await duck.openai(use)
    assert [reply.status for reply in replies] == ["incomplete", "incomplete"]
    assert [reply.incomplete_details.reason for reply in replies] == [
        "max_output_tokens",
        "content_filter",
    ]


# Errors.


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
        (
            {
                "instructions": "Be kind.",
                "input": [
                    {"role": "user", "content": "x"},
                    {
                        "role": "user",
                        "content": [{"type": "input_file", "file_id": "file-1"}],
                    },
                ],
            },
            "input[1].content[0] (input_file)",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name_and_nothing_is_sent(
    fields, param
):
    def use(sdk):
        with pytest.raises(openai.BadRequestError) as caught:
            create(sdk, **fields)
        return caught.value

    for adapter in ("openai", "anthropic"):
        async with upstream_and_duck(b"", adapter=adapter) as (upstream, duck):
            error = await duck.openai(use)
            assert upstream.requests == []
        assert error.param == param
        assert (error.code, error.type) == ("invalid_request", "invalid_request_error")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (b"400 Bad Request", openai.BadRequestError),
        (b"401 Unauthorized", openai.AuthenticationError),
        (b"429 Too Many Requests", openai.RateLimitError),
        (b"500 Internal Server Error", openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("call", [create, final])
async def test_an_upstreams_error_is_the_sdks_own_exception(status, kind, call):
    error = {"error": {"message": "No.", "type": "t", "param": None, "code": None}}

    def use(sdk):
        with pytest.raises(kind):
            call(sdk)

    answer = json_answer(error, status=status)
    async with upstream_and_duck(answer) as (_, duck):
        await duck.openai(use)


async def test_a_stream_that_is_cut_off_raises_what_happened():
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    started = openai_stream({"content": "Hel"})[0]

    def use(sdk):
        seen = []
        with (
            pytest.raises(openai.APIError) as caught,
            sdk.responses.stream(model="m", input="hello") as stream,
        ):
            seen.extend(event.type for event in stream)
        return seen, caught.value

    async with (
        open_upstream([[head, started, FIN]], limit=30) as upstream,
        open_duck(provider("up", "openai", upstream)) as duck,
    ):
        seen, error = await duck.openai(use)
    assert seen[-1] == "response.output_text.delta"
    assert error.code == "bad_provider_response"
    assert error.type == "api_error"


# Over Responses.


async def test_a_provider_that_speaks_responses_gets_what_the_client_wrote():
    output = [
        {
            "id": "rs_1",
            "type": "reasoning",
            "summary": [],
            "encrypted_content": "gAAAAAB",
        },
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "42", "annotations": []}],
        },
    ]
    answer = json_answer(
        {
            "id": "resp_1",
            "object": "response",
            "created_at": 1_700_000_000,
            "status": "completed",
            "model": "gpt-5",
            "output": output,
            "usage": {
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 3,
                "output_tokens_details": {"reasoning_tokens": 1},
                "total_tokens": 12,
            },
        }
    )
    asked = {"role": "user", "content": "What is it?"}
    fields = {
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "metadata": {"team": "core"},
        "include": ["reasoning.encrypted_content"],
        "instructions": "Be kind.",
        "tools": [WEATHER],
    }

    def use(sdk):
        first = create(sdk, input=[asked], **fields)
        create(sdk, input=[asked, *first.output, asked])
        return first

    async with upstream_and_duck(answer, answer, api="responses") as (up, duck):
        reply = await duck.openai(use)
    assert (reply.id, reply.output_text) == ("resp_1", "42")
    assert reply.output[0].encrypted_content == "duck:openai:gAAAAAB"
    assert up.requests[0].line == "POST /v1/responses HTTP/1.1"
    body = sent(up, 0)
    assert {key: body[key] for key in fields} == fields
    assert body["store"] is False
    thought, said = sent(up, 1)["input"][1:3]
    assert thought["encrypted_content"] == "gAAAAAB"
    assert "id" not in thought
    assert said["role"] == "assistant"
