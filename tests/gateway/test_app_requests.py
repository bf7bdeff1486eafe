from __future__ import annotations

import json

import pytest
import trio

from duckservice.completion import Choice, Completion, Message, ToolCall
from duckservice.errors import ModelNotFound, QueueFull, RateLimited
from duckservice.gateway.app import make_app
from tests.gateway.fake_service import OWNER, USAGE, FakeService, ask

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = CHAT | {"max_tokens": 5}
EMBEDDING = {"model": "e", "input": ["a", "b"]}
REQUESTS = {
    "/v1/chat/completions": CHAT,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": CHAT,
    "/v1/embeddings": EMBEDDING,
}


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def app(service):
    return make_app(service, wall_clock=lambda: 1_700_000_000.0, owner_uid=4711)


async def test_a_chat_request_reaches_the_service_and_its_reply_the_client(
    app, service, mock_clock
):
    reply = await ask(
        app,
        "POST",
        "/v1/chat/completions",
        CHAT,
        [("X-Request-Id", "r-1"), ("Duck-Deadline", "5"), ("Duck-Tags", "a=b")],
    )
    ((request, options),) = service.asked
    assert request.messages == (Message.of("user", "hi"),)
    assert options.submitter == OWNER
    assert options.tags == {"a": "b"}
    assert options.deadline == trio.current_time() + 5
    assert reply.status == 200
    assert reply.headers == {
        "content-type": "application/json",
        "content-length": str(len(reply.body)),
        "x-request-id": "r-1",
        "duck-job": "job-1",
        "duck-provider": "openai",
        "duck-cache": "miss",
        "duck-attempts": "2",
        "duck-queue-ms": "12",
        "duck-cost-usd": "0.0012345",
    }
    body = reply.json()
    assert body["model"] == "gpt-4o-2024-08-06"
    assert body["choices"][0]["message"]["content"] == "quack"
    assert body["usage"]["total_tokens"] == USAGE.total_tokens


async def test_a_messages_request_is_answered_in_anthropics_words(app, service):
    reply = await ask(app, "POST", "/v1/messages", MESSAGES | {"system": "s"})
    ((request, _),) = service.asked
    assert request.format == "anthropic"
    assert request.messages[0] == Message.of("system", "s")
    assert reply.json()["content"] == [{"type": "text", "text": "quack"}]
    assert reply.headers["request-id"] == reply.headers["x-request-id"] == "made-1"


async def test_tokens_are_counted(app):
    reply = await ask(app, "POST", "/v1/messages/count_tokens", CHAT)
    assert reply.json() == {"input_tokens": 42}
    assert reply.headers["x-request-id"] == "made-1"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_an_anthropic_clients_features_reach_the_service(app, service, path):
    headers = [("anthropic-beta", "a-1, b-2")]
    assert (await ask(app, "POST", path, MESSAGES, headers)).status == 200
    assert service.asked[0][0].betas == ("a-1", "b-2")
    reply = await ask(app, "POST", path, MESSAGES, [("anthropic-beta", "a b")])
    assert reply.status == 400
    assert "Anthropic-Beta" in reply.json()["error"]["message"]


async def test_embeddings_are_answered(app, service):
    reply = await ask(app, "POST", "/v1/embeddings", EMBEDDING)
    ((request, _),) = service.asked
    assert request.input == ("a", "b")
    vectors = [item["embedding"] for item in reply.json()["data"]]
    assert vectors == [[0.5, -0.25, 1.0]] * 2
    assert reply.headers["duck-job"] == "job-1"


async def test_models_have_their_offers_where_they_are_asked_for(app, service):
    plain = (await ask(app, "GET", "/v1/models")).json()
    assert "price_list" not in plain
    assert "offers" not in plain["data"][0]
    reply = await ask(app, "GET", "/v1/models", query=b"details=true")
    detailed = reply.json()
    assert detailed["price_list"]["as_of"] == "2026-11-09"
    assert detailed["silent_providers"] == {"local": "cannot be reached"}
    known, unknown = detailed["data"]
    assert known["offers"][0]["provider"] == "openai"
    assert unknown["offers"] == []
    assert {k: v for k, v in known.items() if k != "offers"} == plain["data"][0]
    one = (await ask(app, "GET", "/v1/models/gpt-4o", query=b"details=true")).json()
    assert one == known
    reply = await ask(app, "GET", "/v1/models", query=b"details=yes")
    assert (reply.status, reply.json()["error"]["param"]) == (400, "details")


async def test_old_functions_are_answered_as_they_were_asked(app, service):
    call = ToolCall(id="t", name="f", arguments="{}")
    choice = Choice(parts=(call,), finish_reason="tool_calls")
    service.completion = Completion(id="c", model="m", choices=(choice,), usage=USAGE)
    body = CHAT | {"functions": [{"name": "f"}]}
    reply = await ask(app, "POST", "/v1/chat/completions", body)
    message = reply.json()["choices"][0]["message"]
    assert message["function_call"] == {"name": "f", "arguments": "{}"}


async def test_a_body_may_come_in_pieces(app, service):
    raw = json.dumps(CHAT).encode()
    pieces = [raw[:10], b"", raw[10:40], raw[40:]]
    reply = await ask(app, "POST", "/v1/chat/completions", pieces=pieces)
    assert reply.status == 200


async def test_a_client_that_leaves_in_mid_body_is_not_answered(app, service):
    messages = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent = []

    async def receive():
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/messages", "headers": []}
    await app(scope, receive, send)
    assert sent == []
    assert service.asked == []


@pytest.mark.parametrize(("path", "body"), REQUESTS.items())
async def test_an_error_of_the_service_is_answered_in_the_familys_shape(
    app, service, path, body
):
    service.error = RateLimited("slow down", retry_after=1.5, provider="openai")
    service.error.job = "job-9"
    reply = await ask(app, "POST", path, body, [("X-Request-Id", "r-1")])
    assert reply.status == 429
    assert reply.headers["retry-after"] == "2"
    assert reply.headers["duck-job"] == "job-9"
    assert reply.headers["x-request-id"] == "r-1"
    error = reply.json()["error"]
    assert error["code"] == "rate_limited"
    assert ("param" in error) == (not path.startswith("/v1/messages"))


@pytest.mark.parametrize(("path", "body"), REQUESTS.items())
async def test_bad_input_never_reaches_the_service(app, service, path, body):
    for raw in (b"", b"{", b"[" * 100_000, b"\xff", b"[]"):
        reply = await ask(app, "POST", path, raw)
        assert reply.status == 400
        assert reply.json()["error"]["code"] == "invalid_request"
        assert reply.headers["x-request-id"]
    reply = await ask(app, "POST", path, body, [("Duck-Priority", "now")])
    assert reply.status == 400
    assert "Duck-Priority" in reply.json()["error"]["message"]
    assert service.asked == []


@pytest.mark.parametrize(("path", "body"), REQUESTS.items())
async def test_a_bug_is_answered_and_told_to_the_server(app, service, path, body):
    service.error = ZeroDivisionError("the secret of the bug")
    replies = []

    async def catching(scope, receive, send):
        with pytest.raises(ZeroDivisionError):
            await app(scope, receive, send)

    replies.append(await ask(catching, "POST", path, body))
    (reply,) = replies
    assert reply.status == 500
    assert reply.json()["error"]["code"] == "internal_error"
    assert b"secret" not in reply.body


async def test_models_are_listed_and_shown(app):
    reply = await ask(app, "GET", "/v1/models")
    assert [model["id"] for model in reply.json()["data"]] == ["gpt-4o", "meta/llama-3"]
    reply = await ask(app, "GET", "/v1/models/meta/llama-3")
    assert reply.json()["id"] == "meta/llama-3"
    for unknown in ("/v1/models/nope", "/v1/models/"):
        reply = await ask(app, "GET", unknown)
        assert reply.status == 404
        assert reply.json()["error"]["code"] == ModelNotFound.code


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/chat/nothing", "openai"),
        ("/v1/messages/nothing", "anthropic"),
        ("/v1/nothing", "duck"),
        ("/", "duck"),
        ("/v1/status/", "duck"),
    ],
)
async def test_an_unknown_path_is_not_found_in_the_familys_shape(app, path, shape):
    reply = await ask(app, "POST", path)
    assert reply.status == 404
    body = reply.json()
    assert body["error"]["code"] == "not_found"
    assert (body.get("type") == "error") == (shape == "anthropic")
    assert ("param" in body["error"]) == (shape == "openai")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/messages", "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("POST", "/v1/status", "GET, HEAD"),
        ("GET", "/v1/drain", "POST"),
    ],
)
async def test_a_wrong_method_is_told_which_are_right(app, method, path, allowed):
    reply = await ask(app, method, path)
    assert reply.status == 405
    assert reply.headers["allow"] == allowed
    assert reply.json()["error"]["code"] == "invalid_request"


async def test_an_error_keeps_the_id_that_the_service_gave(app, service):
    service.error = QueueFull("full")
    service.error.request_id = "its-own"
    reply = await ask(app, "POST", "/v1/embeddings", EMBEDDING)
    assert reply.headers["x-request-id"] == "its-own"
