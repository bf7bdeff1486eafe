"""The client: what is sent, what comes back, and which limits hold."""

import logging
import traceback

import pytest
import trio

from duckservice.errors import BadProviderResponse, InvalidRequest, ProviderTimeout
from duckservice.providers.http import HttpLimits, Response
from tests.providers.http_client import KEY, Refused, chain, open_client
from tests.upstream import FIN, HANG, RESET, Pause, answer, chunked, head, open_upstream

CHUNKED = b"transfer-encoding: chunked"
EVENTS = [b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"]


async def test_a_request_carries_all_headers_and_the_body_as_it_is():
    async with (
        open_upstream(
            [[answer(b"{}", b"X-Request-Id: 7", b"x-a: 1", b"X-A: 2")]]
        ) as up,
        open_client(up.base_url + "/v1/", headers={"x-team": "core"}) as client,
    ):
        response = await client.request(
            "POST", "/chat", content=b'{"a": "\xc3\xa9"}', headers={"X-Beta": "b"}
        )
        [request] = up.requests
    assert response == Response(
        200, {"content-length": "2", "x-request-id": "7", "x-a": "1, 2"}, b"{}"
    )
    assert request.line == "POST /v1/chat HTTP/1.1"
    assert request.body == b'{"a": "\xc3\xa9"}'
    names = ("x-team", "x-beta", "accept-encoding", "content-length")
    assert [request.header(name) for name in names] == ["core", "b", "identity", "11"]
    assert request.header("host") in up.base_url


async def test_a_get_has_no_body_and_does_not_speak_of_one():
    async with (
        open_upstream([[answer(b"[]")]]) as upstream,
        open_client(upstream.base_url) as client,
    ):
        await client.request("GET", "/models?limit=1&after=a%20b")
        [request] = upstream.requests
    assert request.line == "GET /models?limit=1&after=a%20b HTTP/1.1"
    assert request.header("content-length") is None


@pytest.mark.parametrize("status", [b"200 OK", b"201 Created", b"202 Accepted"])
async def test_any_2xx_is_an_answer(status):
    async with (
        open_upstream([[answer(b"ok", status=status)]]) as upstream,
        open_client(upstream.base_url) as client,
    ):
        assert (await client.request("GET", "/")).body == b"ok"
        async with client.stream("GET", "/") as response:
            assert response.status == int(status[:3])


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_status_is_what_classify_makes_of_it(status, streamed):
    refusal = answer(b"why", b"Retry-After: 3", status=b"%d Oh" % status)
    async with (
        open_upstream([[refusal]]) as upstream,
        open_client(upstream.base_url) as client,
    ):
        with pytest.raises(Refused) as caught:
            if streamed:
                await client.stream("GET", "/").__aenter__()
            else:
                await client.request("GET", "/")
        headers = {"content-length": "3", "retry-after": "3"}
        assert caught.value.given == (status, headers, b"why")


async def test_pieces_of_a_stream_are_out_as_soon_as_they_are_in():
    steps = [trio.Event() for _ in EVENTS]
    script = [head(CHUNKED)]
    for step, event in zip(steps, EVENTS, strict=True):
        script += [step, chunked(event, end=False)]
    async with (
        open_upstream([[*script, chunked()]]) as upstream,
        open_client(upstream.base_url) as client,
        client.stream("POST", "/chat", content=b"{}") as response,
    ):
        assert response.status == 200
        pieces = response.iter_bytes()
        for step, event in zip(steps, EVENTS, strict=True):
            step.set()
            assert await anext(pieces) == event
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)


async def test_a_stream_read_to_its_end_leaves_the_connection_to_the_next():
    async with (
        open_upstream([[head(CHUNKED) + chunked(*EVENTS)]]) as upstream,
        open_client(upstream.base_url) as client,
    ):
        for _ in range(3):
            async with client.stream("POST", "/", content=b"{}") as response:
                body = b"".join([piece async for piece in response.iter_bytes()])
            assert body == b"".join(EVENTS)
        assert upstream.connections == 1


@pytest.mark.parametrize("how", ["break", "raise", "never read"])
async def test_a_stream_left_early_closes_its_connection_at_once(how):
    async with (
        open_upstream(
            [[head(CHUNKED), chunked(EVENTS[0], end=False), HANG]]
        ) as upstream,
        open_client(upstream.base_url) as client,
    ):
        with pytest.raises(ZeroDivisionError) if how == "raise" else trio.CancelScope():
            async with client.stream("POST", "/", content=b"{}") as response:
                if how != "never read":
                    async for _ in response.iter_bytes():
                        if how == "break":
                            break
                        _ = 1 / 0
        await upstream.wait_all_closed()


async def test_the_whole_of_a_stream_is_capped():
    async with (
        open_upstream([[head(CHUNKED) + chunked(*[b"x" * 100] * 20)]]) as upstream,
        open_client(
            upstream.base_url, limits=HttpLimits(body_bytes_max=1999)
        ) as client,
    ):
        with pytest.raises(BadProviderResponse, match="more than 1999 bytes"):
            await client.request("GET", "/")
    async with (
        open_upstream([[head(CHUNKED) + chunked(*[b"x" * 100] * 20)]]) as upstream,
        open_client(
            upstream.base_url, limits=HttpLimits(body_bytes_max=2000)
        ) as client,
    ):
        assert len((await client.request("GET", "/")).body) == 2000


async def test_a_slow_reader_is_no_silent_provider(mock_clock):
    first, second = (chunked(event, end=False) for event in EVENTS[:2])
    go = trio.Event()
    async with (
        open_upstream([[head(CHUNKED), first, go, second]], limit=100) as upstream,
        open_client(upstream.base_url, timeout={"idle": 1.0}) as client,
        client.stream("GET", "/") as response,
    ):
        pieces = response.iter_bytes()
        assert await anext(pieces) == EVENTS[0]
        mock_clock.jump(5.0)  # our time, not the provider's
        go.set()
        assert await anext(pieces) == EVENTS[1]


async def test_a_slow_reader_takes_nothing_of_the_providers_total(mock_clock):
    steps = [trio.Event() for _ in EVENTS]
    script: list = [head(CHUNKED)]
    for step, event in zip(steps, EVENTS, strict=True):
        script += [step, chunked(event, end=False)]
    async with (
        open_upstream([[*script, HANG]], limit=1000) as upstream,
        open_client(upstream.base_url, timeout={"total": 10.0}) as client,
        client.stream("GET", "/") as response,
    ):
        pieces = response.iter_bytes()
        for step, event in zip(steps, EVENTS, strict=True):
            mock_clock.jump(9.0)  # our time, not the provider's
            step.set()
            assert await anext(pieces) == event
        mock_clock.autojump_threshold = 0.05
        started = trio.current_time()
        with pytest.raises(ProviderTimeout, match=r"timeout\.total"):
            await anext(pieces)
        assert trio.current_time() - started == pytest.approx(10.0)


async def test_a_stream_that_never_pauses_ends_at_the_total_limit():
    drip = [
        action for _ in range(50) for action in (chunked(b"x", end=False), Pause(0.02))
    ]
    async with (
        open_upstream([[head(CHUNKED), *drip]]) as upstream,
        open_client(upstream.base_url, timeout={"total": 0.2}) as client,
    ):
        with pytest.raises(ProviderTimeout, match=r"timeout\.total"):
            await client.request("GET", "/")
        await upstream.wait_all_closed()


async def test_our_own_deadline_is_not_the_provider_s_fault():
    async with (
        open_upstream([[HANG]]) as upstream,
        open_client(upstream.base_url) as client,
    ):
        with trio.move_on_after(0.05) as scope:
            await client.request("GET", "/")
        assert scope.cancelled_caught
        await upstream.wait_all_closed()


async def test_no_secret_is_in_what_can_be_printed(caplog):
    caplog.set_level(logging.DEBUG)
    script = [[FIN], [RESET], [answer(b"x", length=9), FIN], [answer(status=b"500 Oh")]]
    async with (
        open_upstream(script) as upstream,
        open_client(upstream.base_url) as client,
    ):
        seen = repr(client) + repr(vars(client)) + repr(client.transport)
        for _ in script:
            with pytest.raises(Exception) as caught:  # noqa: PT011  - several
                await client.request("GET", "/models?page=sk-query")
            seen += "".join(traceback.format_exception(caught.value))
            seen += chain(caught.value)
            assert "sk-query" not in str(caught.value)
        assert upstream.requests[0].header("authorization") == f"Bearer {KEY}"
    assert KEY not in seen + caplog.text
    assert not caplog.records


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_key_that_an_answer_echoes_is_masked(streamed):
    key = KEY.encode()
    events = [b"data: " + key[:7], key[7:] + b"\n\n", b"data: " + key[:9]]
    script = [[head(CHUNKED) + chunked(*events)], [answer(b"{%b}" % key)]]
    async with (
        open_upstream(script) as upstream,
        open_client(upstream.base_url) as client,
    ):
        if streamed:
            async with client.stream("GET", "/") as response:
                body = b"".join([piece async for piece in response.iter_bytes()])
            assert body == b"data: [redacted]\n\ndata: " + key[:9]
        else:
            await client.request("GET", "/")
            assert (await client.request("GET", "/")).body == b"{[redacted]}"


async def test_a_header_that_cannot_be_sent_is_refused_before_anything_is_sent():
    async with (
        open_upstream([[answer(b"ok")]]) as upstream,
        open_client(upstream.base_url) as client,
    ):
        with pytest.raises(InvalidRequest):
            await client.request("GET", "/", headers={"x": "1\r\nx-evil: 2"})
        with pytest.raises(InvalidRequest):
            await client.request("GET", "/models/a\r\nx-evil: 2")
        with pytest.raises(ValueError, match="slash"):
            await client.request("GET", "http://evil.example/")
        assert not upstream.requests


async def test_a_key_is_refused_over_plain_http_when_the_client_is_made():
    with pytest.raises(ValueError, match="unencrypted"):
        async with open_client("http://api.example.com"):
            pass


async def test_the_environment_s_proxy_is_not_used(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with (
        open_upstream([[answer(b"ok")]]) as upstream,
        open_client(upstream.base_url) as client,
    ):
        assert (await client.request("GET", "/")).body == b"ok"
