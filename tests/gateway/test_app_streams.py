from __future__ import annotations

import json

import pytest

from duckservice.completion import Started, TextDelta, UsageReport
from duckservice.errors import BadProviderResponse, CircuitOpen
from duckservice.gateway.app import make_app
from tests.gateway.fake_service import USAGE, FakeService, ask

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
MESSAGES = CHAT | {"max_tokens": 5}
STREAMS = {"/v1/chat/completions": CHAT, "/v1/messages": MESSAGES}
both = pytest.mark.parametrize(("path", "body"), STREAMS.items())


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def app(service):
    return make_app(service)


@both
async def test_each_batch_leaves_as_one_piece(app, service, path, body):
    reply = await ask(app, "POST", path, body)
    assert reply.status == 200
    assert len(reply.pieces) == len(service.batches) + 1
    assert b"qu" in reply.pieces[0]
    assert b"ack" in reply.pieces[1]
    assert service.closed
    assert service.left


@both
async def test_the_head_of_a_stream_tells_all_but_the_cost(app, path, body):
    reply = await ask(app, "POST", path, body, [("X-Request-Id", "r-1")])
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["x-request-id"] == "r-1"
    assert reply.headers["duck-job"] == "job-1"
    assert "duck-cost-usd" not in reply.headers
    assert "content-length" not in reply.headers


async def test_usage_is_streamed_only_if_asked_for(app):
    reply = await ask(app, "POST", "/v1/chat/completions", CHAT)
    assert b"total_tokens" not in reply.body
    body = CHAT | {"stream_options": {"include_usage": True}}
    reply = await ask(app, "POST", "/v1/chat/completions", body)
    usage, done = reply.pieces[-1].decode().split("\n\n")[:2]
    assert json.loads(usage.removeprefix("data: "))["choices"] == []
    assert done == "data: [DONE]"


@both
async def test_what_fails_before_the_stream_has_its_own_status(
    app, service, path, body
):
    service.error = CircuitOpen("resting", retry_after=7)
    reply = await ask(app, "POST", path, body)
    assert reply.status == 503
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["retry-after"] == "7"
    assert reply.json()["error"]["code"] == "circuit_open"


@both
async def test_what_fails_in_mid_stream_is_its_last_event(app, service, path, body):
    service.batches = service.batches[:1]
    service.stream_error = BadProviderResponse("cut off")
    reply = await ask(app, "POST", path, body)
    assert reply.status == 200
    assert b"qu" in reply.pieces[0]
    last = reply.pieces[-1].decode()
    data = json.loads(last.partition("data: ")[2])
    assert data["error"]["code"] == "bad_provider_response"
    assert last.startswith("event: error\n") == (path == "/v1/messages")
    assert b"[DONE]" not in reply.body
    assert b"message_stop" not in reply.body
    assert service.closed
    assert service.left


@both
async def test_a_bug_in_mid_stream_is_its_last_event_too(app, service, path, body):
    service.batches = service.batches[:1]
    service.stream_error = ZeroDivisionError("the secret of the bug")

    async def catching(scope, receive, send):
        with pytest.raises(ZeroDivisionError):
            await app(scope, receive, send)

    reply = await ask(catching, "POST", path, body)
    assert b"internal_error" in reply.pieces[-1]
    assert b"secret" not in reply.body
    assert service.closed


@both
async def test_a_client_that_cannot_be_written_to_closes_the_stream(
    app, service, path, body
):
    async def broken(scope, receive, send):
        async def fail_on_body(message):
            if message["type"] == "http.response.body":
                raise ConnectionResetError
            await send(message)

        with pytest.raises(ConnectionResetError):
            await app(scope, receive, fail_on_body)
        await send({"type": "http.response.body", "body": b""})

    await ask(broken, "POST", path, body)
    assert service.closed
    assert service.left


async def test_a_batch_without_words_is_no_piece(app, service):
    first = (Started(id="c", model="m"),)
    usage = (UsageReport(usage=USAGE),)
    service.batches = (first, usage, (TextDelta(text="a"),), *service.batches[2:])
    reply = await ask(app, "POST", "/v1/chat/completions", CHAT)
    assert all(reply.pieces)
