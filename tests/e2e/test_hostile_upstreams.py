"""Upstreams that do all they can: the client gets a typed error, the daemon goes on.

Each goes through the whole daemon, for both formats, whole and streamed. After
each, everything is settled, nothing runs, and the next request is answered.
"""

from __future__ import annotations

import gzip
import json
from contextlib import asynccontextmanager

import anthropic
import openai
import pytest
import trio

from duckservice.config import BreakerConfig, ProviderConfig, RetryConfig, TimeoutConfig
from tests.e2e.running import (
    KEY,
    Duck,
    anthropic_message,
    anthropic_stream,
    json_answer,
    open_duck,
    openai_chat,
    openai_stream,
    provider,
    sse_answer,
)
from tests.upstream import (
    FIN,
    HANG,
    RESET,
    Action,
    Repeat,
    Upstream,
    answer,
    chunked,
    head,
    open_upstream,
)

FORMATS = ["openai", "anthropic"]
HELLO = [{"role": "user", "content": "hello"}]
SSE = b"content-type: text/event-stream"
JSON = b"content-type: application/json"
OPEN_ENDED = b"transfer-encoding: chunked"
MIB = 1024 * 1024

GOOD = {
    "openai": json_answer(openai_chat()),
    "anthropic": json_answer(anthropic_message()),
}
TEXT = {"type": "text", "text": ""}
STREAM = {
    "openai": openai_stream({"content": "Hel"}, {"content": "lo!"}),
    "anthropic": anthropic_stream(
        (TEXT, [{"type": "text_delta", "text": text} for text in ("Hel", "lo!")])
    ),
}


def first_words(adapter: str) -> bytes:
    """Return the events of a stream up to its first text."""
    events = STREAM[adapter]
    return b"".join(events[: 1 if adapter == "openai" else 4])


@asynccontextmanager
async def upstream_and_duck(adapter: str, *script: list[Action], **more):
    """Run an upstream of that script, a good answer behind it, and a daemon."""
    scripts = [*script, [GOOD[adapter]]]
    async with open_upstream(scripts, limit=30) as upstream:
        config = provider("up", adapter, upstream, **more)
        once = RetryConfig(max_attempts=1)
        async with open_duck(config, retry=once) as duck:
            yield upstream, duck


def ask(sdk, *, stream: bool = False) -> str:
    """Return the text of a reply, from either SDK."""
    its = {"model": "m", "messages": HELLO, "stream": stream}
    if isinstance(sdk, anthropic.Anthropic):
        reply = sdk.messages.create(**its, max_tokens=50)
        if not stream:
            return reply.content[0].text
        deltas = [e.delta for e in reply if e.type == "content_block_delta"]
        return "".join(delta.text for delta in deltas)
    reply = sdk.chat.completions.create(**its)
    if not stream:
        return reply.choices[0].message.content
    pieces = [c.choices[0].delta.content for c in reply if c.choices]
    return "".join(piece or "" for piece in pieces)


async def failure(duck: Duck, adapter: str, *, stream: bool):
    """Return what the SDK of the format raises; a reply is a failure of the test."""
    use = duck.openai if adapter == "openai" else duck.anthropic
    errors = (openai.APIError, anthropic.APIError)
    with pytest.raises(errors) as caught:
        await use(lambda sdk: ask(sdk, stream=stream))
    return caught.value


def code_of(raised) -> str:
    """Return the contract's code of an error, which must be in the format's shape."""
    if isinstance(raised, openai.APIError):
        assert set(raised.body) == {"message", "type", "param", "code"}
        return raised.code
    assert raised.body["type"] == "error"
    assert set(raised.body["error"]) == {"type", "message", "code"}
    return raised.body["error"]["code"]


async def is_settled(duck: Duck, adapter: str, upstream: Upstream) -> None:
    """Assert that the failure has left nothing behind, and the next is answered."""
    await duck.at_rest()
    use = duck.openai if adapter == "openai" else duck.anthropic
    assert await use(ask) == "Hello!"
    await duck.at_rest()
    (its,) = (await duck.get("/v1/providers"))["providers"]
    assert its["breaker"] == "closed"
    assert its["in_flight"] == 0
    assert its["failures"] == 1
    assert its["requests"] == 2
    costs = await duck.get("/v1/costs?by=total")
    assert costs["total"]["requests"] == 2
    assert costs["total"]["failures"] == 1
    assert len(upstream.requests) == 2
    assert KEY not in duck.written.getvalue()


def gzipped() -> bytes:
    return gzip.compress(bytes(10 * MIB))


HTML = answer(b"<html><body>Welcome!</body></html>", b"content-type: text/html")
HOSTILE: dict[str, tuple[list[Action], str]] = {
    "html": ([HTML], "bad_provider_response"),
    "html that calls itself json": ([answer(b"<html>", JSON)], "bad_provider_response"),
    "an empty body": ([answer(b"", JSON)], "bad_provider_response"),
    "json without an answer": ([answer(b"{}", JSON)], "bad_provider_response"),
    "json of another kind": ([answer(b"[1, 2]", JSON)], "bad_provider_response"),
    "json cut off": ([answer(b'{"id": "x", "cho', JSON)], "bad_provider_response"),
    "not utf-8": ([answer(b'{"id": "\xff\xfe"}', JSON)], "bad_provider_response"),
    "nested too deep": (
        [answer(b'{"choices":' + b"[" * 100_000, JSON)],
        "bad_provider_response",
    ),
    "a gzip bomb": (
        [answer(gzipped(), JSON, b"content-encoding: gzip")],
        "bad_provider_response",
    ),
    "a redirect": (
        [answer(b"", b"location: http://127.0.0.1:9/", status=b"307 Moved")],
        "bad_provider_response",
    ),
    "no http at all": ([b"SSH-2.0-OpenSSH_9.9\r\n\r\n", FIN], "bad_provider_response"),
    "an endless head": (
        [b"HTTP/1.1 200 OK\r\n", Repeat(b"x-more: " + b"x" * 4096 + b"\r\n")],
        "bad_provider_response",
    ),
    "closed before an answer": ([FIN], "provider_error"),
    "reset before an answer": ([RESET], "provider_error"),
    "closed in mid-body": (
        [answer(b'{"id":', JSON, length=100), FIN],
        "bad_provider_response",
    ),
    "reset in mid-body": (
        [answer(b'{"id":', JSON, length=100), RESET],
        "bad_provider_response",
    ),
    "a body over the cap": (
        [head(b"content-length: %d" % (33 * MIB), JSON) + bytes(33 * MIB)],
        "bad_provider_response",
    ),
    "an endless body": (
        [head(OPEN_ENDED, JSON), Repeat(chunked(bytes(MIB), end=False))],
        "bad_provider_response",
    ),
    "silence": ([HANG], "timeout"),
    "silence after the head": ([head(OPEN_ENDED, JSON), HANG], "timeout"),
}

IMPATIENT = TimeoutConfig(first_byte=0.2, idle=0.2, total=20.0)
PATIENT = TimeoutConfig()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("adapter", FORMATS)
@pytest.mark.parametrize("how", HOSTILE)
async def test_what_is_no_answer_is_a_typed_error_of_the_clients_own_sdk(
    how, adapter, stream
):
    actions, code = HOSTILE[how]
    timeout = IMPATIENT if code == "timeout" else PATIENT
    async with upstream_and_duck(adapter, actions, timeout=timeout) as (up, duck):
        raised = await failure(duck, adapter, stream=stream)
        assert code_of(raised) == code
        assert raised.status_code == (504 if code == "timeout" else 502)
        assert raised.response.headers["duck-provider"] == "up"
        await is_settled(duck, adapter, up)


BROKEN_STREAMS: dict[str, tuple[list[Action], str]] = {
    "no terminal marker": ([chunked()], "bad_provider_response"),
    "half an event and then the end": (
        [chunked(b'data: {"id": "x", "cho')],
        "bad_provider_response",
    ),
    "half an event and then closed": (
        [chunked(b'data: {"id": "x", "cho', end=False), FIN],
        "bad_provider_response",
    ),
    "reset": ([RESET], "bad_provider_response"),
    "closed": ([FIN], "bad_provider_response"),
    "an event that is no json": (
        [chunked(b"data: oops\n\n", end=False), HANG],
        "bad_provider_response",
    ),
    "an event that is not utf-8": (
        [chunked(b'data: {"id": "\xff"}\n\n', end=False), HANG],
        "bad_provider_response",
    ),
    "an event nested too deep": (
        [chunked(b'data: {"choices":' + b"[" * 100_000 + b"\n\n", end=False), HANG],
        "bad_provider_response",
    ),
    "an endless line": (
        [Repeat(chunked(b"x" * 65_536, end=False))],
        "bad_provider_response",
    ),
    "endless comments": (
        [Repeat(chunked(b": ping" + b" " * 65_536 + b"\n\n", end=False))],
        "bad_provider_response",
    ),
    "silence": ([HANG], "timeout"),
}


@pytest.mark.parametrize("adapter", FORMATS)
@pytest.mark.parametrize("how", BROKEN_STREAMS)
async def test_a_stream_that_breaks_ends_with_an_error_and_never_cleanly(how, adapter):
    rest, code = BROKEN_STREAMS[how]
    begun = head(SSE, OPEN_ENDED) + chunked(first_words(adapter), end=False)
    timeout = IMPATIENT if code == "timeout" else PATIENT
    script = [begun, *rest]
    async with upstream_and_duck(adapter, script, timeout=timeout) as (up, duck):
        raised = await failure(duck, adapter, stream=True)
        assert code_of(raised) == code
        await is_settled(duck, adapter, up)


@pytest.mark.parametrize("adapter", FORMATS)
async def test_an_error_event_in_mid_stream_is_passed_on_with_its_meaning(adapter):
    events = {
        "openai": b'data: {"error":{"message":"oh no","type":"server_error"}}\n\n',
        "anthropic": b'event: error\ndata: {"type":"error","error":'
        b'{"type":"api_error","message":"oh no"}}\n\n',
    }
    script = [sse_answer(first_words(adapter), events[adapter])]
    async with upstream_and_duck(adapter, script) as (upstream, duck):
        raised = await failure(duck, adapter, stream=True)
        assert code_of(raised) == "provider_error"
        assert "oh no" in str(raised.body)
        await is_settled(duck, adapter, upstream)


@pytest.mark.parametrize("adapter", FORMATS)
async def test_what_comes_behind_the_end_of_a_stream_harms_nobody(adapter):
    whole = b"".join(STREAM[adapter])
    begun = head(SSE, OPEN_ENDED) + chunked(whole, end=False)
    script: list[Action] = [begun, Repeat(chunked(b"junk " * 1000, end=False))]
    async with upstream_and_duck(adapter, script) as (_, duck):
        use = duck.openai if adapter == "openai" else duck.anthropic
        assert await use(lambda sdk: ask(sdk, stream=True)) == "Hello!"
        assert await use(ask) == "Hello!"
        await duck.at_rest()


# An upstream that shows the key.

SHOWN = f"Incorrect API key provided: {KEY}. Also: Bearer {KEY}."


def echoes(adapter: str) -> dict[str, list[Action]]:
    error = {"message": SHOWN, "type": "invalid_request_error", "code": KEY}
    body = {"type": "error", "error": error}
    event = b"data: %b\n\n" % json.dumps({**body, "type": "error"}).encode()
    if adapter == "anthropic":
        event = b"event: error\n" + event
    return {
        "in a 401": [json_answer(body, status=b"401 No")],
        "in a 500": [json_answer(body, status=b"500 No")],
        "in a 400": [json_answer({**body, "param": KEY}, status=b"400 No")],
        "in a header": [
            answer(b"", b"x-key: " + KEY.encode(), status=b"418 " + KEY.encode())
        ],
        "in html": [answer(SHOWN.encode(), status=b"503 No")],
        "in a 200": [json_answer(body)],
        "in an event": [sse_answer(first_words(adapter), event)],
    }


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("adapter", FORMATS)
@pytest.mark.parametrize("where", echoes("openai"))
async def test_a_key_that_an_upstream_shows_appears_nowhere(where, adapter, stream):
    script = echoes(adapter)[where]
    async with upstream_and_duck(adapter, script) as (_, duck):
        raised = await failure(duck, adapter, stream=stream)
        await duck.at_rest()
        shown = [str(raised), str(raised.body), duck.written.getvalue()]
        shown.append(str(getattr(raised, "param", "")))
        if isinstance(raised, (openai.APIStatusError, anthropic.APIStatusError)):
            shown.append(str(raised.response.headers))
        shown += [
            json.dumps(await duck.get(f"/v1/{path}"))
            for path in ("status", "providers", "tree", "costs", "queue")
        ]
        assert not [text for text in shown if KEY in text]


# What an upstream may do to others.


async def test_failures_in_a_row_open_the_breaker_and_a_success_closes_it():
    broken = json_answer({"error": {"message": "down"}}, status=b"500 Down")
    script = [[broken], [broken], [GOOD["openai"]]]
    breaker = BreakerConfig(
        failure_threshold=2, reset_timeout=600.0, success_threshold=1
    )
    async with open_upstream(script, limit=30) as upstream:
        its = provider("up", "openai", upstream, breaker=breaker)
        async with open_duck(its, retry=RetryConfig(max_attempts=1)) as duck:
            for code in ("provider_error", "provider_error", "circuit_open"):
                raised = await failure(duck, "openai", stream=False)
                assert code_of(raised) == code
            assert (await duck.get("/v1/status"))["providers"]["up"][
                "breaker"
            ] == "open"
            assert len(upstream.requests) == 2
            reply = await duck.post("/v1/providers/up/reset")
            assert reply.json()["breaker"] == "closed"
            assert await duck.openai(ask) == "Hello!"


async def test_a_hostile_upstream_takes_nothing_from_another():
    endless: list[Action] = [
        head(SSE, OPEN_ENDED),
        Repeat(chunked(b"x" * 65_536, end=False)),
    ]
    async with (
        open_upstream([endless], limit=30) as bad,
        open_upstream([[GOOD["openai"]]], limit=30) as good,
    ):
        its = provider("bad", "openai", bad, models=("bad",))
        others = provider("good", "openai", good, models=("m",))
        async with open_duck(its, others, retry=RetryConfig(max_attempts=1)) as duck:
            refusals = []

            async def suffer():
                reply = await duck.post(
                    "/v1/chat/completions",
                    {"model": "bad", "messages": HELLO, "stream": True},
                )
                refusals.append(reply.code)

            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(suffer)
                for _ in range(20):
                    assert await duck.openai(ask) == "Hello!"
            assert refusals == ["bad_provider_response"] * 4
            await duck.at_rest()


async def test_another_provider_answers_in_place_of_a_hostile_one():
    async with (
        open_upstream([[HTML]], limit=30) as bad,
        open_upstream([[GOOD["anthropic"]]], limit=30) as good,
    ):
        first: ProviderConfig = provider("first", "openai", bad, priority=1)
        second = provider("second", "anthropic", good, priority=2)
        async with open_duck(first, second) as duck:
            raw = await duck.openai(
                lambda sdk: sdk.chat.completions.with_raw_response.create(
                    model="m", messages=HELLO
                )
            )
        assert raw.parse().choices[0].message.content == "Hello!"
        assert raw.headers["duck-provider"] == "second"
        assert raw.headers["duck-attempts"] == "2"
