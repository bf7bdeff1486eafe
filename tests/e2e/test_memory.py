"""What a request had in hand is freed with its end, and not when somebody collects it.

Objects that hold each other stay until the garbage collector looks for them, which may be
minutes later; until then a request of 32 MiB is 32 MiB. So the collector is switched off
here, and nothing may be left.
"""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from duckservice.completion import TextPart
from duckservice.config import RetryConfig, RoutingConfig
from duckservice.gateway.exchange import Exchange
from duckservice.providers.http1_answer import AnswerParser
from tests.e2e.running import CHAT, Duck, open_duck, post, provider
from tests.gateway.serving import until
from tests.upstream import FIN, HANG, Pause, Script, Upstream, answer, open_upstream

pytestmark = pytest.mark.slow

PROMPT = "what nobody else in these tests asks"

REPLY = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "yes"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
CHUNKS = (
    b"".join(
        b"data: %b\n\n" % json.dumps(its).encode()
        for its in [
            {"id": "1", "choices": [{"index": 0, "delta": {"content": "yes"}}]},
            {
                "id": "1",
                "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            },
        ]
    )
    + b"data: [DONE]\n\n"
)

WHOLE = answer(REPLY, b"content-type: application/json")
STREAM = answer(CHUNKS, b"content-type: text/event-stream")
BROKEN = answer(b'{"error": {"message": "no"}}', status=b"500 No")
CUT_OFF = answer(REPLY, b"content-type: application/json", length=2 * len(REPLY))


def body(**more: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": PROMPT}], **more}


def left(*more: type) -> list[str]:
    """Return the types of what is still there of a request, and of answers to it."""
    return [
        type(its).__name__
        for its in gc.get_objects()
        if isinstance(its, (AnswerParser, *more))
        # A request has its text in it. Other tests keep requests of their own.
        or (isinstance(its, TextPart) and its.text == PROMPT)
    ]


@pytest.fixture
def nobody_collects():
    gc.collect()
    gc.freeze()  # what other tests have left is not seen here
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@asynccontextmanager
async def open_site(script: Script) -> AsyncGenerator[tuple[Duck, Upstream]]:
    async with (
        open_upstream(script, limit=60) as upstream,
        open_duck(provider("up", "openai", upstream), limit=60) as duck,
    ):
        yield duck, upstream


async def is_gone(duck: Duck, *more: type) -> None:
    await duck.at_rest()
    with trio.move_on_after(2):
        # What is closed is let go by tasks that are just ending.
        await until(lambda: not left(*more))
    assert not left(*more)


@pytest.mark.parametrize(
    ("script", "more", "status"),
    [
        ([[WHOLE]], {}, 200),
        ([[STREAM]], {"stream": True}, 200),
        ([[BROKEN], [WHOLE]], {}, 200),
        ([[BROKEN]], {}, 502),
        ([[BROKEN]], {"stream": True}, 502),
        ([[CUT_OFF, FIN]], {}, 502),
    ],
    ids=["reply", "stream", "retried", "failed", "failed-stream", "cut-off"],
)
async def test_nothing_of_a_request_stays_while_its_connection_does(
    nobody_collects, script, more, status
) -> None:
    async with open_site(script) as (duck, _):
        async with duck.connection() as client:
            reply = await client.ask(post(CHAT, body(**more)))
            assert reply.status == status
            await is_gone(duck)
            await client.ask(post(CHAT, body(**more), b"connection: close"))
        # They know their last request, and it knows them.
        await is_gone(duck, Exchange)


@pytest.mark.parametrize(
    ("second", "status"), [(WHOLE, 200), (BROKEN, 503)], ids=["won", "failed"]
)
async def test_nothing_of_a_request_that_two_were_asked_stays(
    nobody_collects, second, status
) -> None:
    asked = trio.Event()
    async with (
        open_upstream([[asked, BROKEN]], limit=60) as one,
        open_upstream([[Pause(0.2), second]], limit=60) as other,
        open_duck(
            provider("one", "openai", one, priority=1),
            provider("other", "openai", other, priority=2),
            routing=RoutingConfig(hedge_after=0.01),
            retry=RetryConfig(max_attempts=2),
            limit=60,
        ) as duck,
        duck.connection() as client,
        trio.open_nursery() as nursery,
    ):

        async def fail_one() -> None:
            await other.wait_for_requests(1)
            asked.set()

        nursery.start_soon(fail_one)
        reply = await client.ask(post(CHAT, body()))
        assert reply.status == status
        await is_gone(duck)


async def test_nothing_of_a_client_that_hangs_up_stays(nobody_collects) -> None:
    async with open_site([[HANG]]) as (duck, upstream):
        async with duck.connection() as client:
            await client.send(post(CHAT, body()))
            await upstream.wait_for_requests(1)
        await is_gone(duck, Exchange)


@pytest.mark.parametrize("script", [[[STREAM]], [[BROKEN]]], ids=["done", "discarded"])
async def test_nothing_of_a_job_stays(nobody_collects, script) -> None:
    async with open_site(script) as (duck, _):
        job = {"request": body(), "max_attempts": 1}
        reply = await duck.post("/v1/jobs", job, b"prefer: wait=20")
        assert reply.json()["state"] in {"completed", "discarded"}
        await is_gone(duck, Exchange)
