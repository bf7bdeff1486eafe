"""The official OpenAI SDK talks to an OpenAI upstream through the daemon."""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from contextlib import asynccontextmanager

import openai
import pytest
from pydantic import BaseModel

from duckservice.config import BreakerConfig, RetryConfig
from tests.e2e.running import (
    CLIENT_KEY,
    KEY,
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
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}},
            "required": ["town"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


@asynccontextmanager
async def upstream_and_duck(*answers: bytes, **more):
    """Run an OpenAI upstream that answers so, and a daemon in front of it."""
    async with open_upstream([[a] for a in answers], limit=30) as upstream:
        config = provider("up", "openai", upstream, **more)
        async with open_duck(config) as duck:
            yield upstream, duck


def sent(upstream, number: int = -1):
    """Return the body of a request as the upstream got it."""
    return json.loads(upstream.requests[number].body)


def call(number: int, town: str) -> dict:
    arguments = json.dumps({"town": town})
    function = {"name": "weather", "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": function}


async def test_a_chat_comes_back_whole_and_is_sent_with_the_daemons_own_key():
    async with upstream_and_duck(json_answer(openai_chat())) as (upstream, duck):
        reply = await duck.openai(
            lambda sdk: sdk.chat.completions.create(
                model="gpt-4o",
                messages=[{"role": "system", "content": "Be kind."}, *HELLO],
                max_tokens=50,
                temperature=0.5,
                top_p=0.9,
                n=1,
                stop=["\n\n"],
                seed=7,
                presence_penalty=0.1,
                frequency_penalty=0.2,
                logit_bias={"50256": -100},
                user="u-1",
                metadata={"a": "b"},
                service_tier="flex",
            )
        )
    assert reply.choices[0].message.content == "Hello!"
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.id, reply.created) == ("chatcmpl-1", 1_700_000_000)
    assert reply.model == "gpt-4o-2024-08-06"
    assert reply.usage.prompt_tokens == 9
    assert reply.usage.completion_tokens == 3
    assert reply.usage.total_tokens == 12
    (request,) = upstream.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.header("authorization") == f"Bearer {KEY}"
    assert request.header("content-type") == "application/json"
    assert CLIENT_KEY.encode() not in request.head + request.body
    assert request.header("x-stainless-lang") is None, "the client's own headers stay"
    assert sent(upstream) == {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "hello"},
        ],
        "max_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 1,
        "stop": ["\n\n"],
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logit_bias": {"50256": -100},
        "user": "u-1",
        "metadata": {"a": "b"},
        "service_tier": "flex",
    }


async def test_several_choices_and_logprobs_come_back():
    logprobs = {
        "content": [
            {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}
        ],
        "refusal": None,
    }
    answer = openai_chat()
    first = answer["choices"][0]
    answer["choices"] = [
        first | {"logprobs": logprobs},
        first | {"index": 1, "finish_reason": "length"},
    ]
    async with upstream_and_duck(json_answer(answer)) as (upstream, duck):
        reply = await duck.openai(
            lambda sdk: sdk.chat.completions.create(
                model="gpt-4o", messages=HELLO, n=2, logprobs=True
            )
        )
    assert [choice.finish_reason for choice in reply.choices] == ["stop", "length"]
    assert reply.choices[0].logprobs.content[0].token == "Hi"
    assert sent(upstream)["logprobs"] is True
    assert sent(upstream)["n"] == 2


async def test_a_stream_comes_piece_by_piece_with_its_usage_at_the_end():
    events = openai_stream(
        {"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo!"}
    )

    def use(sdk):
        return list(
            sdk.chat.completions.create(
                model="gpt-4o",
                messages=HELLO,
                stream=True,
                stream_options={"include_usage": True},
            )
        )

    async with upstream_and_duck(sse_answer(*events)) as (upstream, duck):
        chunks = await duck.openai(use)
        assert sent(upstream)["stream"] is True
        assert sent(upstream)["stream_options"] == {"include_usage": True}
    said = [c.choices[0].delta.content for c in chunks if c.choices]
    assert "".join(piece or "" for piece in said) == "Hello!"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 12
    assert all(c.usage is None for c in chunks[:-1])
    assert {c.id for c in chunks} == {"chatcmpl-2"}


async def test_a_stream_has_no_usage_that_was_not_asked_for_but_is_counted():
    events = openai_stream({"content": "Hello!"})

    def use(sdk):
        return list(
            sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        )

    async with upstream_and_duck(sse_answer(*events)) as (_, duck):
        chunks = await duck.openai(use)
        costs = await duck.get("/v1/costs?by=total")
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert costs["total"]["input_tokens"] == 9
    assert costs["total"]["output_tokens"] == 3


async def test_tools_go_out_calls_come_back_and_results_go_out_again():
    asked = openai_chat(None, tool_calls=[call(1, "Bonn"), call(2, "Köln")])

    def use(sdk):
        first = sdk.chat.completions.create(
            model="gpt-4o",
            messages=HELLO,
            tools=[WEATHER],
            tool_choice="required",
            parallel_tool_calls=True,
        )
        message = first.choices[0].message
        results = [
            {"role": "tool", "tool_call_id": its.id, "content": f"sun {its.id}"}
            for its in message.tool_calls
        ]
        second = sdk.chat.completions.create(
            model="gpt-4o",
            messages=[*HELLO, message, *results],
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "weather"}},
        )
        return first, second

    answers = json_answer(asked), json_answer(openai_chat("Sunny."))
    async with upstream_and_duck(*answers) as (upstream, duck):
        first, second = await duck.openai(use)
    assert first.choices[0].finish_reason == "tool_calls"
    calls = first.choices[0].message.tool_calls
    assert [its.model_dump() for its in calls] == [call(1, "Bonn"), call(2, "Köln")]
    assert second.choices[0].message.content == "Sunny."
    assert sent(upstream, 0)["tools"] == [WEATHER]
    assert sent(upstream, 0)["tool_choice"] == "required"
    assert sent(upstream, 0)["parallel_tool_calls"] is True
    again = sent(upstream, 1)
    assert again["tool_choice"]["function"] == {"name": "weather"}
    assert again["messages"][1]["tool_calls"] == [call(1, "Bonn"), call(2, "Köln")]
    assert again["messages"][2:] == [
        {"role": "tool", "tool_call_id": "call_1", "content": "sun call_1"},
        {"role": "tool", "tool_call_id": "call_2", "content": "sun call_2"},
    ]


async def test_streamed_calls_come_in_their_pieces_and_keep_apart():
    def piece(index: int, arguments: str, **more) -> dict:
        function = {"arguments": arguments, **more.pop("function", {})}
        return {"tool_calls": [{"index": index, "function": function, **more}]}

    def begin(index: int) -> dict:
        its = {"id": f"call_{index}", "type": "function"}
        return piece(index, "", function={"name": "weather"}, **its)

    events = openai_stream(
        {"role": "assistant", "content": None},
        begin(0),
        piece(0, '{"town":'),
        piece(0, '"Bonn"}'),
        begin(1),
        piece(1, '{"town":"Köln"}'),
        finish="tool_calls",
    )

    def use(sdk):
        with sdk.chat.completions.stream(
            model="gpt-4o", messages=HELLO, tools=[WEATHER]
        ) as stream:
            return stream.get_final_completion()

    async with upstream_and_duck(sse_answer(*events)) as (_, duck):
        reply = await duck.openai(use)
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    made = [(its.id, json.loads(its.function.arguments)) for its in _calls(choice)]
    assert made == [("call_0", {"town": "Bonn"}), ("call_1", {"town": "Köln"})]


def _calls(choice):
    assert all(its.function.name == "weather" for its in choice.message.tool_calls)
    return choice.message.tool_calls


async def test_images_reach_the_upstream_by_url_and_by_value():
    parts = [
        {"type": "text", "text": "What is it?"},
        {
            "type": "image_url",
            "image_url": {"url": "https://example.org/a.png", "detail": "low"},
        },
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{PIXEL}"},
        },
    ]
    async with upstream_and_duck(json_answer(openai_chat())) as (upstream, duck):
        await duck.openai(
            lambda sdk: sdk.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": parts}]
            )
        )
    assert sent(upstream)["messages"] == [{"role": "user", "content": parts}]


class Town(BaseModel):
    name: str
    people: int


async def test_a_json_schema_goes_out_and_the_reply_is_parsed():
    answer = json_answer(openai_chat('{"name":"Bonn","people":330000}'))
    async with upstream_and_duck(answer) as (upstream, duck):
        reply = await duck.openai(
            lambda sdk: sdk.chat.completions.parse(
                model="gpt-4o", messages=HELLO, response_format=Town
            )
        )
    assert reply.choices[0].message.parsed == Town(name="Bonn", people=330000)
    wanted = sent(upstream)["response_format"]
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["name"] == "Town"
    assert wanted["json_schema"]["strict"] is True
    assert set(wanted["json_schema"]["schema"]["properties"]) == {"name", "people"}


async def test_a_json_object_can_be_asked_for():
    async with upstream_and_duck(json_answer(openai_chat("{}"))) as (upstream, duck):
        await duck.openai(
            lambda sdk: sdk.chat.completions.create(
                model="gpt-4o",
                messages=HELLO,
                response_format={"type": "json_object"},
            )
        )
    assert sent(upstream)["response_format"] == {"type": "json_object"}


async def test_reasoning_is_asked_for_shown_and_counted():
    answer = openai_chat("42", reasoning_content="Six times seven.")
    answer["usage"] = {
        "prompt_tokens": 90,
        "completion_tokens": 30,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    async with upstream_and_duck(json_answer(answer)) as (upstream, duck):
        reply = await duck.openai(
            lambda sdk: sdk.chat.completions.create(
                model="o3-mini",
                messages=[{"role": "developer", "content": "Think."}, *HELLO],
                reasoning_effort="high",
                max_completion_tokens=100,
            )
        )
        costs = await duck.get("/v1/costs?by=total")
    assert reply.choices[0].message.content == "42"
    assert reply.choices[0].message.reasoning_content == "Six times seven."
    assert reply.usage.completion_tokens_details.reasoning_tokens == 20
    assert reply.usage.prompt_tokens_details.cached_tokens == 64
    assert costs["total"]["cached_tokens"] == 64
    body = sent(upstream)
    assert body["reasoning_effort"] == "high"
    assert body["max_completion_tokens"] == 100
    assert body["messages"][0]["role"] == "developer"


async def test_a_refusal_comes_back_as_one():
    answer = json_answer(openai_chat(None, refusal="I cannot."))
    async with upstream_and_duck(answer) as (_, duck):
        reply = await duck.openai(
            lambda sdk: sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
        )
    assert reply.choices[0].message.refusal == "I cannot."
    assert reply.choices[0].message.content is None


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings_come_back_in_the_order_of_their_inputs(encoding):
    vectors = [[0.5, -0.25], [1.0, 2.0]]
    answer = {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in reversed(list(enumerate(vectors)))
        ],
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    async with upstream_and_duck(json_answer(answer)) as (upstream, duck):
        reply = await duck.openai(
            lambda sdk: sdk.embeddings.create(
                model="text-embedding-3-small",
                input=["one", "two"],
                dimensions=2,
                user="u-1",
                encoding_format=encoding,
            )
        )
    assert [_floats(item.embedding) for item in reply.data] == vectors
    assert [item.index for item in reply.data] == [0, 1]
    assert reply.usage.prompt_tokens == 4
    assert upstream.requests[0].line == "POST /v1/embeddings HTTP/1.1"
    body = sent(upstream)
    assert body["input"] == ["one", "two"]
    assert (body["dimensions"], body["user"]) == (2, "u-1")
    assert body["encoding_format"] == "float", "whatever the client wants to read"


def _floats(embedding):
    if isinstance(embedding, list):
        return embedding
    data = b64decode(embedding)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


async def test_the_configured_models_are_listed_and_found():
    more = {"models": ("gpt-4o", "gpt-4o-*"), "model_map": {"fast": "gpt-4o-mini"}}
    async with upstream_and_duck(json_answer(openai_chat()), **more) as (up, duck):
        listed = await duck.openai(lambda sdk: list(sdk.models.list()))
        one = await duck.openai(lambda sdk: sdk.models.retrieve("fast"))
        with pytest.raises(openai.NotFoundError) as caught:
            await duck.openai(lambda sdk: sdk.models.retrieve("nope"))
        await duck.openai(
            lambda sdk: sdk.chat.completions.create(model="fast", messages=HELLO)
        )
    assert {model.id for model in listed} == {"fast", "gpt-4o"}
    assert one.id == "fast"
    assert caught.value.code == "model_not_found"
    assert sent(up)["model"] == "gpt-4o-mini"


# Errors.

STATUSES = [
    (b"400 Bad Request", {}, openai.BadRequestError, 400, "invalid_request"),
    (
        b"400 Bad Request",
        {"code": "context_length_exceeded"},
        openai.BadRequestError,
        400,
        "context_length_exceeded",
    ),
    (
        b"400 Bad Request",
        {"code": "content_filter"},
        openai.BadRequestError,
        400,
        "content_filtered",
    ),
    (
        b"401 Unauthorized",
        {"code": "invalid_api_key"},
        openai.AuthenticationError,
        401,
        "provider_auth_error",
    ),
    (b"403 Forbidden", {}, openai.AuthenticationError, 401, "provider_auth_error"),
    (
        b"404 Not Found",
        {"code": "model_not_found"},
        openai.NotFoundError,
        404,
        "model_not_found",
    ),
    (b"408 Request Timeout", {}, openai.InternalServerError, 504, "timeout"),
    (b"409 Conflict", {}, openai.InternalServerError, 502, "provider_error"),
    (b"413 Too Large", {}, openai.APIStatusError, 413, "request_too_large"),
    (b"422 No", {}, openai.UnprocessableEntityError, 422, "unprocessable"),
    (b"429 Slow", {}, openai.RateLimitError, 429, "rate_limited"),
    (
        b"429 Slow",
        {"code": "insufficient_quota"},
        openai.RateLimitError,
        429,
        "quota_exceeded",
    ),
    (b"500 Oh", {}, openai.InternalServerError, 502, "provider_error"),
    (b"503 Oh", {}, openai.InternalServerError, 502, "provider_error"),
    (b"504 Oh", {}, openai.InternalServerError, 504, "timeout"),
]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("status", "more", "kind", "shown", "code"), STATUSES)
async def test_a_refusal_of_the_provider_is_the_sdks_own_exception(
    status, more, kind, shown, code, streaming
):
    error = {"error": {"message": "no such luck", "type": "t", "param": None, **more}}
    refusal = json_answer(error, b"retry-after: 7", status=status)
    async with open_upstream([[refusal]], limit=30) as upstream:
        its = provider("up", "openai", upstream)
        once = RetryConfig(max_attempts=1)
        async with open_duck(its, retry=once) as duck:
            with pytest.raises(kind) as caught:
                await duck.openai(
                    lambda sdk: sdk.chat.completions.create(
                        model="gpt-4o", messages=HELLO, stream=streaming
                    )
                )
            await duck.at_rest()
    raised = caught.value
    assert type(raised) is kind
    assert (raised.status_code, raised.code) == (shown, code)
    assert "no such luck" in raised.body["message"]
    assert raised.response.headers["duck-provider"] == "up"
    assert raised.request_id
    waits = raised.response.headers.get("retry-after")
    assert waits == (None if 400 <= shown < 429 and shown != 401 else "7")
    assert len(upstream.requests) == 1


async def test_what_may_succeed_later_is_sent_again_before_the_client_hears_of_it():
    busy = json_answer({"error": {"message": "busy"}}, status=b"503 Busy")
    answers = busy, busy, json_answer(openai_chat())
    async with upstream_and_duck(*answers) as (upstream, duck):
        reply = await duck.openai(
            lambda sdk: sdk.chat.completions.with_raw_response.create(
                model="gpt-4o", messages=HELLO
            )
        )
    assert reply.headers["duck-attempts"] == "3"
    assert len(upstream.requests) == 3
    assert len({request.body for request in upstream.requests}) == 1


async def test_a_model_that_nobody_serves_is_not_found():
    async with upstream_and_duck(models=("gpt-4o",)) as (upstream, duck):
        with pytest.raises(openai.NotFoundError) as caught:
            await duck.openai(
                lambda sdk: sdk.chat.completions.create(model="gpt-9", messages=HELLO)
            )
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "gpt-9" in caught.value.message
    assert upstream.connections == 0


async def test_an_open_breaker_says_when_to_come_back():
    broken = json_answer({"error": {"message": "down"}}, status=b"500 Down")
    async with open_upstream([[broken]], limit=30) as upstream:
        breaker = BreakerConfig(failure_threshold=1, reset_timeout=40.0)
        its = provider("up", "openai", upstream, breaker=breaker)
        async with open_duck(its, retry=RetryConfig(max_attempts=1)) as duck:

            def use(sdk):
                return sdk.chat.completions.create(model="m", messages=HELLO)

            with pytest.raises(openai.InternalServerError):
                await duck.openai(use)
            with pytest.raises(openai.InternalServerError) as caught:
                await duck.openai(use)
    assert (caught.value.status_code, caught.value.code) == (503, "circuit_open")
    assert 30 < int(caught.value.response.headers["retry-after"]) <= 40
    assert len(upstream.requests) == 1


# Headers.


async def test_an_answer_says_how_it_was_made():
    headers = {
        "X-Request-Id": "mine-1",
        "Duck-Priority": "high",
        "Duck-Tags": "team=core,run=7",
        "Duck-Max-Cost-Usd": "0.5",
        "Duck-Deadline": "60",
        "Duck-Cache": "off",
        "Idempotency-Key": "key-1",
    }
    async with upstream_and_duck(json_answer(openai_chat())) as (upstream, duck):
        raw = await duck.openai(
            lambda sdk: sdk.chat.completions.with_raw_response.create(
                model="gpt-4o", messages=HELLO, max_tokens=50, extra_headers=headers
            )
        )
        attempts = duck.events("attempt")
    assert raw.parse().choices[0].message.content == "Hello!"
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.request_id == "mine-1"
    assert raw.headers["duck-provider"] == "up"
    assert raw.headers["duck-attempts"] == "1"
    assert raw.headers["duck-cache"] == "miss"
    assert raw.headers["duck-queue-ms"].isdecimal()
    assert raw.headers["duck-cost-usd"] == "0.000042"  # 9 * 2 + 3 * 8, a million
    assert raw.headers["duck-job"].startswith("job_")
    (attempt,) = attempts
    assert attempt["job"] == raw.headers["duck-job"]
    assert attempt["request_id"] == "mine-1"
    head = upstream.requests[0].head.lower()
    assert b"duck-" not in head
    assert b"idempotency-key" not in head


async def test_a_stream_says_so_too_as_far_as_it_is_known():
    events = openai_stream({"content": "Hello!"})

    def use(sdk):
        with sdk.chat.completions.with_streaming_response.create(
            model="gpt-4o", messages=HELLO, stream=True
        ) as raw:
            list(raw.parse())
            return raw.headers

    async with upstream_and_duck(sse_answer(*events)) as (_, duck):
        headers = await duck.openai(use)
    assert headers["duck-provider"] == "up"
    assert headers["content-type"].startswith("text/event-stream")
    assert "duck-cost-usd" not in headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Duck-Priority", "urgent"),
        ("Duck-Priority", ""),
        ("Duck-Tags", "team"),
        ("Duck-Tags", "a=1,a=2"),
        ("Duck-Max-Cost-Usd", "-1"),
        ("Duck-Max-Cost-Usd", "nan"),
        ("Duck-Max-Cost-Usd", "1e3"),
        ("Duck-Deadline", "tomorrow"),
        ("Duck-Deadline", "-5"),
        ("Duck-Deadline", "2026-01-01T00:00:00"),
        ("Duck-Cache", "on"),
        ("X-Request-Id", "two words"),
        ("X-Request-Id", "x" * 129),
        ("Idempotency-Key", "x" * 256),
        ("Content-Encoding", "gzip"),
        ("Content-Type", "text/plain"),
    ],
)
async def test_a_bad_header_is_refused_by_its_name(name, value):
    async with upstream_and_duck(json_answer(openai_chat())) as (upstream, duck):
        with pytest.raises(openai.BadRequestError) as caught:
            await duck.openai(
                lambda sdk: sdk.chat.completions.create(
                    model="gpt-4o", messages=HELLO, extra_headers={name: value}
                )
            )
    assert caught.value.code == "invalid_request"
    assert caught.value.param == name
    assert upstream.connections == 0


async def test_a_request_that_could_cost_too_much_is_not_sent():
    async with upstream_and_duck(json_answer(openai_chat())) as (upstream, duck):
        with pytest.raises(openai.APIStatusError) as caught:
            await duck.openai(
                lambda sdk: sdk.chat.completions.create(
                    model="gpt-4o",
                    messages=HELLO,
                    max_tokens=1000,
                    extra_headers={"Duck-Max-Cost-Usd": "0.001"},
                )
            )
    assert (caught.value.status_code, caught.value.code) == (402, "budget_exceeded")
    assert upstream.connections == 0


async def test_a_deadline_that_has_passed_is_not_waited_for():
    async with upstream_and_duck(json_answer(openai_chat())) as (upstream, duck):
        with pytest.raises(openai.InternalServerError) as caught:
            await duck.openai(
                lambda sdk: sdk.chat.completions.create(
                    model="gpt-4o",
                    messages=HELLO,
                    extra_headers={"Duck-Deadline": "2020-01-01T00:00:00Z"},
                )
            )
        await duck.at_rest()
    assert (caught.value.status_code, caught.value.code) == (504, "deadline_exceeded")
    assert upstream.requests == []
