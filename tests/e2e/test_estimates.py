"""A cost that rests on a guess is marked as one, wherever it is shown."""

from __future__ import annotations

from contextlib import asynccontextmanager

from tests.e2e.running import (
    json_answer,
    open_duck,
    openai_chat,
    openai_stream,
    provider,
    sse_answer,
)
from tests.upstream import open_upstream

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def without_usage(events: list[bytes]) -> bytes:
    """Return the answer of a server that does not say what a stream has used."""
    told = [event for event in events if b'"usage":{' not in event.replace(b" ", b"")]
    assert len(told) == len(events) - 1
    return sse_answer(*told)


@asynccontextmanager
async def duck_before(*answers: bytes):
    """Run a server that gives each answer on a connection of its own, and a daemon."""
    async with open_upstream([[answer] for answer in answers], limit=30) as upstream:
        config = provider("up", "openai-compatible", upstream)
        async with open_duck(config) as duck:
            yield duck


async def test_a_stream_without_usage_is_told_apart_in_the_costs():
    answer = without_usage(openai_stream({"content": "Hello!"}))
    async with duck_before(answer) as duck:
        body = HELLO | {"stream": True, "stream_options": {"include_usage": True}}
        reply = await duck.post("/v1/chat/completions", body)
        assert b'"completion_tokens":' in reply.body
        total = (await duck.get("/v1/costs"))["total"]
    assert (total["requests"], total["estimated"], total["unpriced"]) == (1, 1, 0)
    assert float(total["cost_usd"]) > 0


async def test_a_whole_reply_without_usage_is_told_by_a_header():
    guessed = json_answer({**openai_chat(), "usage": None})
    async with duck_before(guessed, json_answer(openai_chat())) as duck:
        first = await duck.post("/v1/chat/completions", HELLO)
        second = await duck.post("/v1/chat/completions", HELLO)
        total = (await duck.get("/v1/costs"))["total"]
    assert first.headers["duck-cost-estimated"] == "true"
    assert float(first.headers["duck-cost-usd"]) > 0
    assert "duck-cost-estimated" not in second.headers
    assert (total["requests"], total["estimated"]) == (2, 1)


async def test_a_jobs_cost_says_that_it_is_a_guess():
    answer = without_usage(openai_stream({"content": "Hello!"}))
    async with duck_before(answer) as duck:
        body = {"request": HELLO | {"stream": True}}
        job = (await duck.post("/v1/jobs", body, b"Prefer: wait=20")).json()
        path = f"/v1/jobs/{job['id']}/attempts"
        (attempt,) = (await duck.get(path))["attempts"]
    assert job["state"] == "completed"
    assert (job["cost_known"], job["cost_estimated"]) == (True, True)
    assert attempt["estimated"] is True
    assert float(job["cost_usd"]) > 0
