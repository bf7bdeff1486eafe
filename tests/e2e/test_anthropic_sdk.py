"""The official Anthropic SDK talks to an Anthropic upstream through the daemon."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import asynccontextmanager

import anthropic
import pytest
from pydantic import BaseModel

from duckservice.config import RetryConfig
from tests.e2e.running import (
    CLIENT_KEY,
    KEY,
    anthropic_message,
    anthropic_stream,
    json_answer,
    open_duck,
    provider,
    sse_answer,
)
from tests.upstream import open_upstream

MODEL = "claude-next"
HELLO = [{"role": "user", "content": "hello"}]
PIXEL = b64encode(b"\x89PNG\r\n").decode()
WEATHER = {
    "name": "weather",
    "description": "The weather of a town.",
    "input_schema": {
        "type": "object",
        "properties": {"town": {"type": "string"}},
        "required": ["town"],
    },
}
TEXT = {"type": "text", "text": ""}


@asynccontextmanager
async def upstream_and_duck(*answers: bytes, **more):
    """Run an Anthropic upstream that answers so, and a daemon in front of it."""
    async with open_upstream([[a] for a in answers], limit=30) as upstream:
        config = provider("up", "anthropic", upstream, **more)
        async with open_duck(config) as duck:
            yield upstream, duck


def sent(upstream, number: int = -1):
    """Return the body of a request as the upstream got it."""
    return json.loads(upstream.requests[number].body)


def create(sdk, **more):
    return sdk.messages.create(
        **{"model": MODEL, "max_tokens": 50, "messages": HELLO, **more}
    )


def final(sdk, **more):
    """Return the message that a stream amounts to."""
    its = {"model": MODEL, "max_tokens": 50, "messages": HELLO, **more}
    with sdk.messages.stream(**its) as stream:
        return stream.get_final_message()


def use_of(number: int, town: str) -> dict:
    its = {"id": f"toolu_{number}", "name": "weather", "input": {"town": town}}
    return {"type": "tool_use", **its}


async def test_a_message_comes_back_whole_and_is_sent_with_the_daemons_own_key():
    asked = {
        "system": "Be kind.",
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "service_tier": "auto",
    }
    body = {"model": MODEL, "max_tokens": 50, "messages": HELLO, **asked}
    message = anthropic_message(stop_reason="stop_sequence", stop_sequence="END")
    async with upstream_and_duck(json_answer(message)) as (upstream, duck):
        reply = await duck.anthropic(
            lambda sdk: sdk.post(
                "/v1/messages", body=body, cast_to=anthropic.types.Message
            )
        )
    assert reply.content[0].text == "Hello!"
    assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", "END")
    assert (reply.id, reply.model) == ("msg_1", "claude-sonnet-4-5-20250929")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (9, 3)
    assert reply._request_id
    (request,) = upstream.requests
    assert request.line == "POST /v1/messages HTTP/1.1"
    assert request.header("x-api-key") == KEY
    assert request.header("anthropic-version") == "2023-06-01"
    assert request.header("authorization") is None
    assert CLIENT_KEY.encode() not in request.head + request.body
    assert sent(upstream) == body


async def test_a_system_prompt_in_blocks_keeps_its_cache_marks():
    mark = {"type": "ephemeral"}
    system = [
        {"type": "text", "text": "Be kind."},
        {"type": "text", "text": "Be brief.", "cache_control": mark},
    ]
    usage = {
        "input_tokens": 9,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 3,
    }
    answer = json_answer(anthropic_message(usage=usage))
    async with upstream_and_duck(answer) as (upstream, duck):
        reply = await duck.anthropic(lambda sdk: create(sdk, system=system))
        costs = await duck.get("/v1/costs?by=total")
    assert sent(upstream)["system"] == system
    assert reply.usage.input_tokens == 9
    assert reply.usage.cache_read_input_tokens == 100
    assert reply.usage.cache_creation_input_tokens == 20
    assert costs["total"]["input_tokens"] == 129
    assert costs["total"]["cached_tokens"] == 100


async def test_a_stream_comes_piece_by_piece_with_its_usage():
    deltas = [{"type": "text_delta", "text": text} for text in ("Hel", "lo!")]
    events = anthropic_stream((TEXT, deltas))

    def use(sdk):
        with sdk.messages.stream(model=MODEL, max_tokens=50, messages=HELLO) as stream:
            return list(stream.text_stream), stream.get_final_message()

    async with upstream_and_duck(sse_answer(*events)) as (upstream, duck):
        pieces, message = await duck.anthropic(use)
        costs = await duck.get("/v1/costs?by=total")
        assert sent(upstream)["stream"] is True
    assert pieces == ["Hel", "lo!"]
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (9, 3)
    assert costs["total"]["output_tokens"] == 3


async def test_tools_go_out_calls_come_back_and_results_go_out_again():
    asked = anthropic_message(
        {"type": "text", "text": "Let me see."},
        use_of(1, "Bonn"),
        use_of(2, "Köln"),
        stop_reason="tool_use",
    )
    image = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sun"},
        {
            "type": "tool_result",
            "tool_use_id": "toolu_2",
            "content": [{"type": "image", "source": image}],
            "is_error": True,
        },
    ]

    def use(sdk):
        choice = {"type": "any", "disable_parallel_tool_use": False}
        first = create(sdk, tools=[WEATHER], tool_choice=choice)
        turns = [
            *HELLO,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": results},
        ]
        one = {"type": "tool", "name": "weather"}
        return first, create(sdk, tools=[WEATHER], tool_choice=one, messages=turns)

    answers = json_answer(asked), json_answer(anthropic_message())
    async with upstream_and_duck(*answers) as (upstream, duck):
        first, second = await duck.anthropic(use)
    assert first.stop_reason == "tool_use"
    assert [(b.id, b.input) for b in first.content[1:]] == [
        ("toolu_1", {"town": "Bonn"}),
        ("toolu_2", {"town": "Köln"}),
    ]
    assert second.content[0].text == "Hello!"
    assert sent(upstream, 0)["tools"] == [WEATHER]
    assert sent(upstream, 0)["tool_choice"]["type"] == "any"
    again = sent(upstream, 1)
    assert again["tool_choice"] == {"type": "tool", "name": "weather"}
    calls = [_only(b, "type", "id", "name", "input") for b in _said(again)[1:]]
    assert calls == [use_of(1, "Bonn"), use_of(2, "Köln")]
    assert again["messages"][2] == {"role": "user", "content": results}


def _said(body):
    return body["messages"][1]["content"]


def _only(block, *names):
    return {name: block[name] for name in names}


async def test_streamed_calls_come_in_their_pieces_and_keep_apart():
    def its(number: int, *pieces: str):
        start = use_of(number, "") | {"input": {}}
        kind = "input_json_delta"
        return start, [{"type": kind, "partial_json": piece} for piece in pieces]

    events = anthropic_stream(
        its(1, "", '{"town":', '"Bonn"}'),
        its(2, '{"town":"Köln"}'),
        its(3),
        stop="tool_use",
    )
    async with upstream_and_duck(sse_answer(*events)) as (_, duck):
        message = await duck.anthropic(lambda sdk: final(sdk, tools=[WEATHER]))
    assert message.stop_reason == "tool_use"
    assert [(b.id, b.name, b.input) for b in message.content] == [
        ("toolu_1", "weather", {"town": "Bonn"}),
        ("toolu_2", "weather", {"town": "Köln"}),
        ("toolu_3", "weather", {}),
    ]


async def test_images_reach_the_upstream_by_url_and_by_value():
    value = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "source": {"type": "url", "url": "https://x.org/a.png"}},
        {"type": "image", "source": value, "cache_control": {"type": "ephemeral"}},
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "A deed."},
            "citations": {"enabled": True},
        },
    ]
    turns = [{"role": "user", "content": content}]
    async with upstream_and_duck(json_answer(anthropic_message())) as (up, duck):
        await duck.anthropic(lambda sdk: create(sdk, messages=turns))
    assert sent(up)["messages"] == turns


class Town(BaseModel):
    name: str
    people: int


async def test_a_json_schema_goes_out_and_the_reply_is_parsed():
    text = {"type": "text", "text": '{"name":"Bonn","people":330000}'}
    answer = json_answer(anthropic_message(text))

    def use(sdk):
        return sdk.messages.parse(
            model=MODEL, max_tokens=50, messages=HELLO, output_format=Town
        )

    async with upstream_and_duck(answer) as (upstream, duck):
        reply = await duck.anthropic(use)
    assert reply.parsed_output == Town(name="Bonn", people=330000)
    wanted = sent(upstream)["output_config"]["format"]
    assert wanted["type"] == "json_schema"
    assert set(wanted["schema"]["properties"]) == {"name", "people"}


THOUGHTS = [
    {"type": "thinking", "thinking": "Six times seven.", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "ZGF0YQ=="},
    {"type": "text", "text": "42"},
]


async def test_thoughts_come_back_signed_and_go_out_again_as_they_were():
    usage = {
        "input_tokens": 9,
        "output_tokens": 30,
        "output_tokens_details": {"thinking_tokens": 20},
    }
    thinking = {"type": "enabled", "budget_tokens": 2048}

    def use(sdk):
        first = create(sdk, thinking=thinking, max_tokens=4000)
        turns = [*HELLO, {"role": "assistant", "content": first.content}, *HELLO]
        create(sdk, thinking={"type": "adaptive"}, messages=turns)
        return first

    answer = json_answer(anthropic_message(*THOUGHTS, usage=usage))
    async with upstream_and_duck(answer, answer) as (upstream, duck):
        reply = await duck.anthropic(use)
    assert [b.model_dump(exclude_none=True) for b in reply.content] == THOUGHTS
    assert reply.usage.output_tokens_details.thinking_tokens == 20
    assert sent(upstream, 0)["thinking"] == thinking
    assert sent(upstream, 1)["thinking"] == {"type": "adaptive"}
    assert _without_nones(_said(sent(upstream, 1))) == THOUGHTS


def _without_nones(blocks):
    return [{k: v for k, v in block.items() if v is not None} for block in blocks]


async def test_streamed_thoughts_come_with_their_signature():
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
        (TEXT, [{"type": "text_delta", "text": "42"}]),
    )
    async with upstream_and_duck(sse_answer(*events)) as (_, duck):
        message = await duck.anthropic(final)
    assert [b.model_dump(exclude_none=True) for b in message.content] == THOUGHTS


CITATION = {
    "type": "char_location",
    "cited_text": "A deed.",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 7,
}
SERVER_TOOL = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "bonn"},
}


async def test_citations_and_blocks_of_anthropics_own_come_back():
    cited = {"type": "text", "text": "It is so.", "citations": [CITATION]}
    answer = json_answer(anthropic_message(cited, SERVER_TOOL))
    async with upstream_and_duck(answer) as (_, duck):
        reply = await duck.anthropic(create)
    assert _plain(reply) == [cited, SERVER_TOOL]


async def test_citations_and_blocks_of_anthropics_own_come_back_in_a_stream():
    events = anthropic_stream(
        (
            TEXT,
            [
                {"type": "text_delta", "text": "It is so."},
                {"type": "citations_delta", "citation": CITATION},
            ],
        ),
        (
            SERVER_TOOL | {"input": {}},
            [{"type": "input_json_delta", "partial_json": '{"query":"bonn"}'}],
        ),
    )
    cited = {"type": "text", "text": "It is so.", "citations": [CITATION]}
    async with upstream_and_duck(sse_answer(*events)) as (_, duck):
        message = await duck.anthropic(final)
    assert _plain(message) == [cited, SERVER_TOOL]


def _plain(message):
    return json.loads(message.to_json(exclude_unset=True))["content"]


async def test_tokens_are_counted_by_the_provider():
    answer = json_answer({"input_tokens": 14})

    def use(sdk):
        return sdk.messages.count_tokens(
            model=MODEL, messages=HELLO, system="Be kind.", tools=[WEATHER]
        )

    async with upstream_and_duck(answer) as (upstream, duck):
        count = await duck.anthropic(use)
    assert count.input_tokens == 14
    (request,) = upstream.requests
    assert request.line == "POST /v1/messages/count_tokens HTTP/1.1"
    assert request.header("x-api-key") == KEY
    assert sent(upstream) == {
        "model": MODEL,
        "messages": HELLO,
        "system": "Be kind.",
        "tools": [WEATHER],
    }


async def test_a_refusal_to_count_is_the_sdks_own_exception():
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}
    answer = json_answer(error, status=b"529 Overloaded")

    def use(sdk):
        return sdk.messages.count_tokens(model=MODEL, messages=HELLO)

    async with upstream_and_duck(answer) as (_, duck):
        with pytest.raises(anthropic.InternalServerError) as caught:
            await duck.anthropic(use)
    assert caught.value.status_code == 502
    assert caught.value.body["error"]["code"] == "provider_error"


# Errors.

STATUSES = [
    (400, "invalid_request_error", anthropic.BadRequestError, 400, "invalid_request"),
    (
        401,
        "authentication_error",
        anthropic.AuthenticationError,
        401,
        "provider_auth_error",
    ),
    (402, "billing_error", anthropic.RateLimitError, 429, "quota_exceeded"),
    (
        403,
        "permission_error",
        anthropic.AuthenticationError,
        401,
        "provider_auth_error",
    ),
    (413, "request_too_large", anthropic.RequestTooLargeError, 413, None),
    (429, "rate_limit_error", anthropic.RateLimitError, 429, "rate_limited"),
    (500, "api_error", anthropic.InternalServerError, 502, "provider_error"),
    (504, "timeout_error", anthropic.DeadlineExceededError, 504, "timeout"),
    (529, "overloaded_error", anthropic.InternalServerError, 502, "provider_error"),
]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("status", "word", "kind", "shown", "code"), STATUSES)
async def test_a_refusal_of_the_provider_is_the_sdks_own_exception(
    status, word, kind, shown, code, streaming
):
    error = {"type": "error", "error": {"type": word, "message": "no such luck"}}
    refusal = json_answer(error, b"retry-after: 7", status=b"%d No" % status)
    async with open_upstream([[refusal]], limit=30) as upstream:
        its = provider("up", "anthropic", upstream)
        async with open_duck(its, retry=RetryConfig(max_attempts=1)) as duck:
            with pytest.raises(kind) as caught:
                await duck.anthropic(lambda sdk: create(sdk, stream=streaming))
            await duck.at_rest()
    raised = caught.value
    assert raised.status_code == shown
    assert raised.body["type"] == "error"
    assert raised.body["error"]["code"] == code or "request_too_large"
    assert "no such luck" in raised.body["error"]["message"]
    assert raised.request_id == raised.body["request_id"]
    waits = raised.response.headers.get("retry-after")
    assert waits == ("7" if shown in (401, 429) or shown >= 500 else None)
    assert len(upstream.requests) == 1


async def test_a_model_that_the_provider_does_not_know_is_not_found():
    error = {
        "type": "error",
        "error": {"type": "not_found_error", "message": "model: claude-9"},
    }
    answer = json_answer(error, status=b"404 Not Found")
    async with upstream_and_duck(answer) as (_, duck):
        with pytest.raises(anthropic.NotFoundError) as caught:
            await duck.anthropic(lambda sdk: create(sdk, model="claude-9"))
    assert caught.value.body["error"]["code"] == "model_not_found"
    assert caught.value.body["error"]["type"] == "not_found_error"


async def test_a_model_that_nobody_serves_is_not_found():
    async with upstream_and_duck(models=("claude-*",)) as (upstream, duck):
        with pytest.raises(anthropic.NotFoundError) as caught:
            await duck.anthropic(lambda sdk: create(sdk, model="gpt-4o"))
    assert caught.value.body["error"]["code"] == "model_not_found"
    assert upstream.connections == 0


async def test_max_tokens_must_be_said():
    body = {"model": MODEL, "messages": HELLO}
    async with upstream_and_duck() as (upstream, duck):
        with pytest.raises(anthropic.BadRequestError) as caught:
            await duck.anthropic(
                lambda sdk: sdk.post("/v1/messages", body=body, cast_to=object)
            )
    assert "max_tokens" in caught.value.body["error"]["message"]
    assert upstream.connections == 0


# Headers.


async def test_an_answer_says_how_it_was_made():
    headers = {
        "X-Request-Id": "mine-1",
        "Duck-Priority": "low",
        "Duck-Tags": "team=core",
        "Duck-Max-Cost-Usd": "0.5",
        "Duck-Deadline": "60",
    }

    def use(sdk):
        return sdk.messages.with_raw_response.create(
            model=MODEL, max_tokens=50, messages=HELLO, extra_headers=headers
        )

    async with upstream_and_duck(json_answer(anthropic_message())) as (up, duck):
        raw = await duck.anthropic(use)
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["request-id"] == "mine-1"
    assert raw.headers["duck-provider"] == "up"
    assert raw.headers["duck-attempts"] == "1"
    assert raw.headers["duck-cost-usd"] == "0.000042"
    assert raw.headers["duck-job"].startswith("job_")
    assert b"duck-" not in up.requests[0].head.lower()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Duck-Priority", "urgent"),
        ("Duck-Tags", "team"),
        ("Duck-Max-Cost-Usd", "lots"),
        ("Duck-Deadline", "tomorrow"),
        ("X-Request-Id", "two words"),
    ],
)
async def test_a_bad_header_is_refused_by_its_name(name, value):
    async with upstream_and_duck() as (upstream, duck):
        with pytest.raises(anthropic.BadRequestError) as caught:
            await duck.anthropic(lambda sdk: create(sdk, extra_headers={name: value}))
    assert caught.value.body["error"]["code"] == "invalid_request"
    assert name in caught.value.body["error"]["message"]
    assert upstream.connections == 0
