"""The official SDKs and the cache: what they get from it is what they would have got."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial

import openai
import pytest
import trio

from duckservice.config import CacheConfig
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
from tests.upstream import open_upstream

HELLO = [{"role": "user", "content": "hello"}]
CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": ""},
}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object"}},
}


@asynccontextmanager
async def upstream_and_duck(adapter: str, *answers: bytes, **cache):
    """Run an upstream that gives these answers, one each, and a daemon with a cache."""
    its = CacheConfig(**{"enabled": True, **cache})
    async with open_upstream([[a] for a in answers], limit=30) as upstream:
        config = provider("up", adapter, upstream)
        async with open_duck(config, cache=its) as duck:
            yield upstream, duck


def create(sdk, cache=None, **more):
    headers = {"Duck-Cache": cache} if cache else {}
    return sdk.chat.completions.with_raw_response.create(
        **{
            "model": "gpt-4o",
            "messages": HELLO,
            "max_tokens": 50,
            "extra_headers": headers,
            **more,
        }
    )


def read(sdk, **more):
    """Return a stream's headers and chunks."""
    raw = create(
        sdk, stream=True, **{"stream_options": {"include_usage": True}, **more}
    )
    return raw.headers, list(raw.parse())


def text_of(chunks) -> str:
    return "".join(
        choice.delta.content or "" for chunk in chunks for choice in chunk.choices
    )


async def test_the_second_of_two_equal_requests_is_a_hit_and_costs_nothing():
    answers = json_answer(openai_chat(system_fingerprint="fp"))
    async with upstream_and_duck("openai", answers) as (upstream, duck):
        first = await duck.openai(create)
        second = await duck.openai(create)
        status = await duck.get("/v1/status")
        costs = await duck.get("/v1/costs?by=total")
    assert second.parse() == first.parse()
    assert first.headers["duck-cache"] == "miss"
    said = {name: second.headers[name] for name in second.headers if "duck" in name}
    assert said.pop("duck-job") != first.headers["duck-job"]
    assert said == {
        "duck-cache": "hit",
        "duck-provider": "up",
        "duck-attempts": "0",
        "duck-queue-ms": "0",
        "duck-cost-usd": "0",
    }
    assert len(upstream.requests) == 1
    assert costs["total"]["requests"] == 1
    cache = status["cache"]
    assert (cache["entries"], cache["hits"], cache["misses"]) == (1, 1, 1)


async def test_a_stream_is_replayed_as_a_stream_with_its_usage():
    events = openai_stream({"role": "assistant"}, {"content": "Hel"}, {"content": "lo"})
    async with upstream_and_duck("openai", sse_answer(*events)) as (upstream, duck):
        head, first = await duck.openai(read)
        hit, second = await duck.openai(read)
    assert (head["duck-cache"], hit["duck-cache"]) == ("miss", "hit")
    assert hit["duck-cost-usd"] == "0"
    assert hit["content-type"].startswith("text/event-stream")
    assert text_of(second) == text_of(first) == "Hello"
    assert second[-1].usage == first[-1].usage
    assert second[0].id == first[0].id
    assert len(upstream.requests) == 1


async def test_a_whole_answer_serves_a_stream_and_the_reverse():
    events = openai_stream({"content": "streamed"})
    async with upstream_and_duck(
        "openai", json_answer(openai_chat("whole")), sse_answer(*events)
    ) as (upstream, duck):
        await duck.openai(create)
        head, chunks = await duck.openai(read)
        assert (head["duck-cache"], text_of(chunks)) == ("hit", "whole")
        assert chunks[-1].usage.total_tokens == 12
        await duck.openai(lambda sdk: read(sdk, seed=2))
        raw = await duck.openai(lambda sdk: create(sdk, seed=2))
        assert raw.headers["duck-cache"] == "hit"
        assert raw.parse().choices[0].message.content == "streamed"
        assert raw.parse().usage.total_tokens == 12
    assert len(upstream.requests) == 2


async def test_tool_calls_come_back_as_they_were_in_either_form():
    call = {**CALL, "function": {"name": "weather", "arguments": '{"at": 1}'}}
    pieces = [{"tool_calls": [CALL]}] + [
        {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        for piece in ('{"at', '": 1}')
    ]
    async with upstream_and_duck(
        "openai",
        json_answer(openai_chat("see", tool_calls=[call])),
        sse_answer(*openai_stream({"content": "see"}, *pieces, finish="tool_calls")),
    ) as (_, duck):
        got = []
        for seed in (1, 2):
            its = {"tools": [TOOL], "seed": seed}
            for ask in (create, read) if seed == 1 else (read, create):
                got += [await duck.openai(partial(ask, **its))]
    whole_miss, stream_hit, stream_miss, whole_hit = got
    assert stream_hit[0]["duck-cache"] == whole_hit.headers["duck-cache"] == "hit"
    for raw in (whole_miss, whole_hit):
        message = raw.parse().choices[0].message
        (made,) = message.tool_calls
        assert (message.content, made.id) == ("see", "call_1")
        assert json.loads(made.function.arguments) == {"at": 1}
    for _, chunks in (stream_hit, stream_miss):
        deltas = [
            piece
            for chunk in chunks
            for choice in chunk.choices
            for piece in choice.delta.tool_calls or ()
        ]
        assert {piece.index for piece in deltas} == {0}
        assert "".join(p.function.arguments for p in deltas) == '{"at": 1}'
        assert chunks[-2].choices[0].finish_reason == "tool_calls"


async def test_off_leaves_the_cache_alone_and_refresh_replaces_the_reply():
    answers = [json_answer(openai_chat(f"answer {n}")) for n in (1, 2, 3)]
    async with upstream_and_duck("openai", *answers) as (_, duck):
        got = []
        for word in (None, "off", "refresh", None):
            raw = await duck.openai(lambda sdk, word=word: create(sdk, word))
            text = raw.parse().choices[0].message.content
            got.append((text, raw.headers.get("duck-cache")))
    assert got == [
        ("answer 1", "miss"),
        ("answer 2", "miss"),
        ("answer 3", "miss"),
        ("answer 3", "hit"),
    ]


@pytest.mark.parametrize("cut", [1, 2])
async def test_a_stream_that_was_cut_off_is_never_replayed(cut):
    events = openai_stream({"content": "Hel"}, {"content": "lo"})
    answers = [sse_answer(*events[:cut]), sse_answer(*events)]
    async with upstream_and_duck("openai", *answers) as (_, duck):
        with pytest.raises(openai.APIError):
            await duck.openai(read)
        got = [await duck.openai(read) for _ in range(2)]
    assert [head["duck-cache"] for head, _ in got] == ["miss", "hit"]
    assert [text_of(chunks) for _, chunks in got] == ["Hello", "Hello"]


async def test_anthropics_sdk_gets_its_message_again_whole_and_as_a_stream():
    async with upstream_and_duck("anthropic", json_answer(anthropic_message())) as (
        upstream,
        duck,
    ):
        its = {"model": "claude", "max_tokens": 50, "messages": HELLO}
        first = await duck.anthropic(lambda sdk: sdk.messages.create(**its))
        raw = await duck.anthropic(
            lambda sdk: sdk.messages.with_raw_response.create(**its)
        )

        def stream(sdk):
            with sdk.messages.stream(**its) as events:
                return events.get_final_message(), events.response.headers

        streamed, head = await duck.anthropic(stream)
    assert raw.headers["duck-cache"] == head["duck-cache"] == "hit"
    assert raw.parse() == first
    assert streamed.content[0].text == first.content[0].text
    assert streamed.usage.output_tokens == first.usage.output_tokens
    assert streamed.stop_reason == first.stop_reason
    assert len(upstream.requests) == 1


async def test_anthropics_thoughts_are_replayed_with_their_signature():
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    thoughts = [
        {"type": "thinking_delta", "thinking": "h"},
        {"type": "thinking_delta", "thinking": "m"},
        {"type": "signature_delta", "signature": "sig"},
    ]
    said = [{"type": "text_delta", "text": "Hello!"}]
    text = {"type": "text", "text": ""}
    events = anthropic_stream((thinking, thoughts), (text, said))
    async with upstream_and_duck("anthropic", sse_answer(*events)) as (upstream, duck):
        its = {
            "model": "claude",
            "max_tokens": 2000,
            "messages": HELLO,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        }

        def stream(sdk):
            with sdk.messages.stream(**its) as got:
                return got.get_final_message()

        first = await duck.anthropic(stream)
        again = await duck.anthropic(stream)
        whole = await duck.anthropic(lambda sdk: sdk.messages.create(**its))
    assert again == first
    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert whole.content[0].signature == "sig"
    assert len(upstream.requests) == 1


async def test_equal_requests_of_many_clients_at_once_are_one_request_upstream():
    answers = json_answer(openai_chat())
    async with upstream_and_duck("openai", answers, coalesce=True) as (upstream, duck):
        got = []

        async def ask():
            got.append(await duck.openai(create))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(ask)
        await duck.at_rest()
    assert len(upstream.requests) == 1
    found = sorted(raw.headers["duck-cache"] for raw in got)
    assert found == ["hit"] * 7 + ["miss"]
    assert sum(raw.headers["duck-cost-usd"] != "0" for raw in got) == 1


async def test_embeddings_are_kept():
    vectors = {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    async with upstream_and_duck("openai", json_answer(vectors)) as (upstream, duck):

        def use(sdk):
            return sdk.embeddings.with_raw_response.create(
                model="text-embedding-3-small", input="hi", encoding_format="float"
            )

        first, second = await duck.openai(use), await duck.openai(use)
    assert second.headers["duck-cache"] == "hit"
    assert second.parse().data == first.parse().data
    assert len(upstream.requests) == 1
