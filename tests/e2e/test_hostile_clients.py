"""Clients that send what no SDK would: each gets a typed 4xx, the daemon goes on."""

from __future__ import annotations

import contextlib
import json
import os

import psutil
import pytest
import trio
import trio.testing

from duckservice.config import RetryConfig
from duckservice.gateway.server import ServerLimits
from duckservice.gateway.wire.fields import DEPTH_MAX
from tests.e2e.running import (
    CHAT,
    MESSAGES,
    Duck,
    anthropic_message,
    json_answer,
    open_duck,
    openai_chat,
    openai_stream,
    post,
    provider,
)
from tests.gateway.serving import RawClient
from tests.upstream import (
    HANG,
    Action,
    Repeat,
    Upstream,
    chunked,
    head,
    open_upstream,
)

EMBEDDINGS = "/v1/embeddings"
MIB = 1024 * 1024
SSE = head(b"content-type: text/event-stream", b"transfer-encoding: chunked")

ASKED = {
    CHAT: {"model": "gpt", "messages": [{"role": "user", "content": "hello"}]},
    MESSAGES: {
        "model": "claude",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}],
    },
    EMBEDDINGS: {"model": "gpt", "input": "hello"},
}
"""What each endpoint is asked, in order."""


@contextlib.asynccontextmanager
async def upstream_and_duck(*actions: Action, limits: ServerLimits | None = None):
    """Run a daemon with a provider for each format, both at one upstream.

    The upstream does *actions*, or answers chats.
    """
    script = [list(actions) or [json_answer(openai_chat())]]
    async with open_upstream(script, limit=60) as upstream:
        its = (
            provider("o", "openai", upstream, models=("gpt*",)),
            provider("a", "anthropic", upstream, models=("claude*",)),
        )
        once = RetryConfig(max_attempts=1)
        async with open_duck(*its, limits=limits, retry=once) as duck:
            yield upstream, duck


async def is_unmoved(duck: Duck, upstream: Upstream) -> None:
    """Assert that the daemon answers a proper request as ever, and is at rest."""
    upstream.script = [[json_answer(openai_chat())]]
    reply = await duck.post(CHAT, ASKED[CHAT])
    assert reply.status == 200, reply
    upstream.script = [[json_answer(anthropic_message())]]
    assert (await duck.post(MESSAGES, ASKED[MESSAGES])).status == 200
    await duck.at_rest()
    restarts = [node["restarts"] for node in nodes(await duck.get("/v1/tree"))]
    assert not any(restarts)


def nodes(node: dict):
    yield node
    for child in node.get("children", ()):
        yield from nodes(child)


def is_in_shape(path: str, reply) -> bool:
    """Say whether an error is written as the endpoint's family writes it."""
    body = reply.json()
    if path.startswith(MESSAGES):
        return body["type"] == "error" and set(body) == {
            "type",
            "error",
            "request_id",
        }
    if path.startswith("/v1/tree"):
        return set(body["error"]) <= {"code", "message", "retry_after", "job"}
    return set(body["error"]) == {"message", "type", "param", "code"}


DEEP = 100_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no json": b"hello",
    "half of it": b'{"model": "gpt", "messages": [',
    "an array": b"[]",
    "a null": b"null",
    "a text": b'"hello"',
    "NaN": b'{"model": "gpt", "temperature": NaN}',
    "Infinity": b'{"model": "gpt", "temperature": -Infinity}',
    "a huge float": b'{"model": "gpt", "temperature": 1e999}',
    "a huge integer": b'{"model": "gpt", "max_tokens": 1' + b"0" * 5000 + b"}",
    "not utf-8": b'{"model": "gpt", "messages": "\xff\xfe"}',
    "overlong utf-8": b'{"model": "gpt", "messages": "\xc0\xaf"}',
    "a null byte": b'{"model": "gpt\x00"}',
    "deep arrays": b'{"messages": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep and not closed": b'{"messages": ' + b"[" * DEEP,
    "two values": b"{}{}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "utf-16": '{"model": "gpt"}'.encode("utf-16"),
}


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("what", BODIES)
async def test_a_body_that_is_no_request_is_a_typed_400(what, path):
    async with upstream_and_duck() as (upstream, duck):
        reply = await duck.post(path, BODIES[what])
        assert reply.status == 400
        assert reply.code == "invalid_request"
        assert is_in_shape(path, reply)
        assert reply.headers["content-type"] == "application/json"
        assert upstream.connections == 0
        await is_unmoved(duck, upstream)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize(
    ("levels", "status"),
    [(DEPTH_MAX - 10, 200), (DEPTH_MAX + 1, 400), (2 * DEPTH_MAX - 50, 400)],
)
async def test_a_schema_is_sent_on_or_refused_by_its_depth(levels, status, path):
    schema = "a schema"
    function = {"name": "f", "parameters": schema}
    tools: list[dict] = [{"type": "function", "function": function}]
    answer = json_answer(openai_chat())
    if path == MESSAGES:
        tools = [{"name": "f", "input_schema": schema}]
        answer = json_answer(anthropic_message())
    async with upstream_and_duck(answer) as (upstream, duck):
        deep = b'{"a":' * levels + b"1" + b"}" * levels
        body = json.dumps({**ASKED[path], "tools": tools})
        reply = await duck.post(path, body.encode().replace(b'"a schema"', deep))
        assert reply.status == status
        if status == 200:
            assert deep in upstream.requests[0].body
        else:
            assert reply.code == "invalid_request"
            assert "nested" in reply.json()["error"]["message"]
            assert upstream.connections == 0
        await is_unmoved(duck, upstream)


WRONG = (None, 5, -1, 1.5, True, "", "x", [], [1], {}, {"a": 1}, 2**63, 2**64, -(2**70))


@pytest.mark.parametrize("path", ASKED)
async def test_a_field_of_any_wrong_type_is_never_more_than_a_400(path):
    """Whatever a field is set to, the daemon answers it, or refuses it typed."""
    names = {
        *ASKED[path],
        *("stream", "tools", "tool_choice", "stop", "n", "system", "thinking"),
        *("response_format", "stream_options", "metadata", "user", "seed", "logprobs"),
        *("temperature", "functions", "output_config", "dimensions", "max_tokens"),
        *("encoding_format", "reasoning_effort", "stop_sequences", "logit_bias"),
    }
    answers = {
        CHAT: json_answer(openai_chat()),
        MESSAGES: json_answer(anthropic_message()),
        EMBEDDINGS: json_answer({"data": [{"index": 0, "embedding": [0.5]}]}),
    }
    seen = []
    async with upstream_and_duck(answers[path]) as (upstream, duck):
        async with duck.connection() as client:
            for name in sorted(names):
                for value in WRONG:
                    body = {**ASKED[path], name: value}
                    reply = await client.ask(post(path, body))
                    seen.append(reply.status)
                    may_be = {200, 400, 404, 502}  # 502: a stream was asked for
                    assert reply.status in may_be, (name, value, reply)
                    if reply.status == 502:
                        assert name == "stream"
        assert not duck.crashes()
        await is_unmoved(duck, upstream)
    assert seen.count(400) > 50


@pytest.mark.parametrize("path", ASKED)
async def test_an_unknown_model_is_a_typed_404(path):
    async with upstream_and_duck() as (upstream, duck):
        for model in ("nope", "x" * 100_000, "../../etc", "\u202e\x00é"):
            reply = await duck.post(path, {**ASKED[path], "model": model})
            assert reply.status == 404
            assert reply.code == "model_not_found"
            assert is_in_shape(path, reply)
            assert len(reply.body) < 250_000
        assert upstream.connections == 0
        await is_unmoved(duck, upstream)


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("how", ["said", "chunked"])
async def test_a_body_of_40_mb_is_a_typed_413_and_is_not_kept(path, how):
    body = b'{"model":"' + b"x" * (40 * MIB) + b'"}'
    if how == "said":
        data = post(path, body)
    else:
        data = post(path).replace(
            b"content-length: 0", b"transfer-encoding: chunked"
        ) + chunked(*(body[at : at + MIB] for at in range(0, len(body), MIB)))
    async with upstream_and_duck() as (upstream, duck):
        async with duck.connection() as client, trio.open_nursery() as nursery:
            nursery.start_soon(_send_whole, client, data)
            reply = await client.response()
            assert reply.status == 413
            error = json.loads(reply.body)["error"]
            assert error["code"] == "request_too_large"
            assert await client.at_end()
        assert upstream.connections == 0
        await is_unmoved(duck, upstream)


async def _send_whole(client: RawClient, data: bytes) -> None:
    with contextlib.suppress(trio.BrokenResourceError):  # it need not read it all
        await client.send(data)


async def test_what_is_just_below_the_cap_goes_through_whole():
    text = "x" * (31 * MIB)
    body = {"model": "gpt", "messages": [{"role": "user", "content": text}]}
    async with upstream_and_duck() as (upstream, duck):
        reply = await duck.post(CHAT, body)
        assert reply.status == 200
        assert len(upstream.requests[0].body) > 31 * MIB
        await is_unmoved(duck, upstream)


# Text that is almost none.

LONE = r"\ud83d"
SURROGATES = {
    "alone": LONE,
    "the wrong way round": r"\ude00\ud83d",
    "in a fine prompt": f"hello {LONE} world",
}


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("what", SURROGATES)
async def test_half_a_surrogate_pair_is_refused_and_sent_to_nobody(what, path):
    body = json.dumps(ASKED[path]).replace("hello", SURROGATES[what])
    async with upstream_and_duck() as (upstream, duck):
        reply = await duck.post(path, body.encode())
        assert (reply.status, reply.code) == (400, "invalid_request")
        assert is_in_shape(path, reply)
        assert upstream.connections == 0
        await is_unmoved(duck, upstream)


STRANGE = '😀 \u0000 \u2028 \ufeff \u202e é̂ \U0010ffff \\ " / \r\n\t'


@pytest.mark.parametrize("escaped", [False, True], ids=["plain", "escaped"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_strange_text_reaches_the_upstream_character_by_character(path, escaped):
    turns = [{"role": "user", "content": STRANGE}]
    asked = {**ASKED[path], "messages": turns}
    body = json.dumps(asked, ensure_ascii=escaped).encode()
    reply = openai_chat(STRANGE)
    if path == MESSAGES:
        reply = anthropic_message({"type": "text", "text": STRANGE})
    async with upstream_and_duck(json_answer(reply)) as (upstream, duck):
        got = (await duck.post(path, body)).json()
    assert json.loads(upstream.requests[0].body)["messages"] == turns
    if path == MESSAGES:
        assert got["content"][0]["text"] == STRANGE
    else:
        assert got["choices"][0]["message"]["content"] == STRANGE


# Heads.

HEADS: dict[str, tuple[bytes, int]] = {
    "not http": (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    "no such path": (b"GET /v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n", 404),
    "no such method": (b"DELETE /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", 405),
    "a get of a chat": (b"GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n", 405),
    "two lengths": (
        post(MESSAGES, b"x", b"content-length: 2"),
        400,
    ),
    "a length that is none": (
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        400,
    ),
    "length and chunks": (
        post(MESSAGES, b"0\r\n\r\n", b"transfer-encoding: chunked"),
        400,
    ),
    "a huge head": (
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
        431,
    ),
    "another http": (b"GET / HTTP/9.9\r\nhost: x\r\n\r\n", 400),
}


@pytest.mark.parametrize("what", HEADS)
async def test_a_head_that_makes_no_sense_is_a_typed_4xx(what):
    data, status = HEADS[what]
    async with upstream_and_duck() as (upstream, duck):
        reply = await duck.send(data)
        assert reply.status == status
        assert isinstance(reply.json()["error"]["message"], str)
        assert upstream.connections == 0
        await is_unmoved(duck, upstream)


@pytest.mark.parametrize("path", ASKED)
async def test_a_request_without_a_content_type_is_taken_for_json(path):
    answers = {
        CHAT: json_answer(openai_chat()),
        MESSAGES: json_answer(anthropic_message()),
        EMBEDDINGS: json_answer({"data": [{"index": 0, "embedding": [0.5]}]}),
    }
    async with upstream_and_duck(answers[path]) as (_, duck):
        reply = await duck.post(path, ASKED[path])
        other = await duck.post(path, ASKED[path], b"content-type: text/html")
    assert reply.status == 200
    assert (other.status, other.code) == (400, "invalid_request")
    assert is_in_shape(path, other)


# Clients that stop.

SHORT = ServerLimits(head_time=0.15, body_silence=0.15)


@pytest.mark.parametrize("path", ASKED)
async def test_half_a_request_and_then_silence_is_a_408(path):
    whole = post(path, ASKED[path])
    async with upstream_and_duck(limits=SHORT) as (upstream, duck):
        for cut in (20, len(whole) - 5):
            async with duck.connection() as client:
                await client.send(whole[:cut])
                reply = await client.response()
                assert reply.status == 408
                assert isinstance(json.loads(reply.body)["error"]["message"], str)
                assert await client.at_end()
        assert upstream.connections == 0
        await is_unmoved(duck, upstream)


async def _hang_up_and_measure(path: str, body: dict, *actions: Action) -> float:
    """Return the seconds from the hang-up until the upstream sees it."""
    async with upstream_and_duck(*actions) as (upstream, duck):
        async with duck.connection() as client:
            await client.send(post(path, body))
            await upstream.wait_for_requests(1)
            if body.get("stream"):
                await client.head()
                await client.chunk()
        since = trio.current_time()
        with trio.fail_after(5):
            await upstream.wait_all_closed()
        took = trio.current_time() - since
        await duck.at_rest()
        (attempt,) = duck.events("attempt")
        assert attempt["outcome"] == "cancelled"
        await is_unmoved(duck, upstream)
        return took


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_hang_up_while_the_upstream_works_reaches_it(path):
    took = await _hang_up_and_measure(path, ASKED[path], HANG)
    print(f"\nthe upstream saw the hang-up after {took * 1000:.1f} ms")


async def test_a_hang_up_in_mid_stream_reaches_the_upstream():
    begun = SSE + chunked(openai_stream({"content": "Hel"})[0], end=False)
    body = {**ASKED[CHAT], "stream": True}
    took = await _hang_up_and_measure(CHAT, body, begun, HANG)
    print(f"\nthe upstream saw the hang-up after {took * 1000:.1f} ms")


async def test_a_stream_that_nobody_reads_stops_its_upstream_and_nobody_else():
    piece = chunked(openai_stream({"content": "x" * 50_000})[0], end=False)
    body = {**ASKED[CHAT], "stream": True}
    before = _rss()
    async with upstream_and_duck(SSE, Repeat(piece)) as (upstream, duck):
        async with duck.connection() as client:
            await client.send(post(CHAT, body))
            await upstream.wait_for_requests(1)
            # When nothing moves any more, it is because the upstream must wait.
            await trio.testing.wait_all_tasks_blocked()
            grown = _rss() - before
            assert upstream.open_connections == 1
            assert duck.events("attempt") == []
            assert (await duck.get("/healthz"))["status"] == "ok"
        await duck.at_rest()
        await is_unmoved(duck, upstream)
    print(f"\n{grown / MIB:.1f} MiB more for an endless stream that nobody reads")
    assert grown < 16 * MIB


async def test_300_idle_connections_keep_nobody_out():
    async with upstream_and_duck() as (upstream, duck):
        streams = [await trio.open_unix_socket(duck.socket) for _ in range(300)]
        await is_unmoved(duck, upstream)
        for stream in streams[::2]:
            await stream.send_all(b"POST /v1/chat")
        await is_unmoved(duck, upstream)
        for stream in streams:
            await stream.aclose()
        await is_unmoved(duck, upstream)


async def test_more_connections_than_allowed_are_told_so():
    limits = ServerLimits(connections_max=5)
    async with upstream_and_duck(limits=limits) as (_, duck):
        streams = [await trio.open_unix_socket(duck.socket) for _ in range(5)]
        async with duck.connection() as client:
            reply = await client.response()
            assert reply.status == 503
            assert await client.at_end()
        for stream in streams:
            await stream.aclose()
        with trio.fail_after(5):
            while True:  # until the daemon has seen that they are gone
                reply = await duck.post(CHAT, ASKED[CHAT])
                if reply.status == 200:
                    break
                assert reply.status == 503


@pytest.mark.slow
async def test_all_of_it_in_one_daemon_leaves_no_memory_behind():
    async with upstream_and_duck() as (upstream, duck):
        await _everything_hostile(duck)
        before = _rss()
        for _ in range(3):
            await _everything_hostile(duck)
        grown = _rss() - before
        assert upstream.connections == 0
        await is_unmoved(duck, upstream)
        assert not duck.crashes()
    print(f"\n{grown / MIB:.1f} MiB more after {3 * len(BODIES)} hostile bodies")
    assert grown < 32 * MIB


async def _everything_hostile(duck: Duck) -> None:
    for path in ASKED:
        for body in BODIES.values():
            assert (await duck.post(path, body)).status == 400
        big = post(path, b'"' + b"x" * (40 * MIB) + b'"')
        async with duck.connection() as client, trio.open_nursery() as nursery:
            nursery.start_soon(_send_whole, client, big)
            assert (await client.response()).status == 413
            nursery.cancel_scope.cancel()


def _rss() -> int:
    return psutil.Process(os.getpid()).memory_info().rss
