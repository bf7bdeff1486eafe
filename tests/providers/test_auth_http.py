"""How the HTTP client proves whose a request is, and what it does if that is refused."""

from __future__ import annotations

import attrs
import pytest
import trio

from duckservice.config import Secret
from duckservice.errors import (
    DuckError,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    QuotaExceeded,
    RateLimited,
)
from duckservice.providers.auth import Again
from duckservice.providers.auth.keys import Keys
from duckservice.providers.http import SENT_MAX
from tests.providers.http_client import chain, open_client
from tests.upstream import HANG, answer, chunked, closed_port, head, open_upstream

OK = [answer(b"ok")]
NO = [answer(b"no", status=b"401 x")]

ERRORS = {401: ProviderAuthError, 402: QuotaExceeded, 429: RateLimited}


def classify(status, headers, body) -> DuckError:
    return ERRORS.get(status, ProviderError)(f"status {status}", provider="duck")


@attrs.define
class Signer:
    """Signs each request with a number; says `Again` to each refusal, or not."""

    again: bool = True
    asked: list = attrs.field(factory=list)
    heard: list = attrs.field(factory=list)
    closed: bool = False

    async def headers(self, method, url, body):
        self.asked.append((method, url, body))
        return {"authorization": f"Signed {len(self.asked)}", "x-date": "now"}

    def refused(self, headers, error):
        self.heard.append((headers["authorization"], type(error)))
        return Again(error) if self.again else error

    async def aclose(self):
        self.closed = True


def client(upstream, credentials, **more):
    return open_client(
        upstream.base_url + "/v1",
        headers={"x-team": "core"},
        classify=classify,
        credentials=credentials,
        **more,
    )


async def test_credentials_see_what_is_sent_to_the_letter_and_are_closed_at_the_end():
    signer = Signer()
    async with open_upstream([OK]) as upstream, client(upstream, signer) as http:
        await http.request("POST", "/model/a%3Ab/x y?q=ä", content=b"{}")
        await http.request("GET", "/models")
    line = upstream.requests[0].line.split()[1]
    base = upstream.base_url
    assert signer.asked == [
        ("POST", base + line, b"{}"),
        ("GET", base + "/v1/models", b""),
    ]
    assert line == "/v1/model/a%3Ab/x%20y?q=%C3%A4"
    assert [r.header("authorization") for r in upstream.requests] == [
        "Signed 1",
        "Signed 2",
    ]
    assert upstream.requests[0].header("x-date") == "now"
    assert signer.closed


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_is_refused_is_sent_again_at_once_with_what_is_better(streamed):
    whole = head(b"transfer-encoding: chunked") + chunked(b"ok")
    signer = Signer()
    async with (
        open_upstream([NO, NO, [whole]]) as upstream,
        client(upstream, signer) as http,
    ):
        if streamed:
            async with http.stream("POST", "/chat", content=b"{}") as found:
                body = b"".join([piece async for piece in found.iter_bytes()])
        else:
            body = (await http.request("POST", "/chat", content=b"{}")).body
    assert body == b"ok"
    assert [r.body for r in upstream.requests] == [b"{}"] * 3
    assert signer.heard == [
        ("Signed 1", ProviderAuthError),
        ("Signed 2", ProviderAuthError),
    ]


@pytest.mark.parametrize(
    ("status", "heard"),
    [(401, True), (402, True), (429, True), (400, False), (404, False), (500, False)],
)
async def test_only_what_may_be_the_keys_fault_is_told_to_the_credentials(
    status, heard
):
    signer = Signer(again=False)
    refusal = [answer(b"no", status=b"%d x" % status)]
    async with open_upstream([refusal]) as upstream, client(upstream, signer) as http:
        with pytest.raises(ProviderError, match=f"status {status}"):
            await http.request("GET", "/")
        assert len(upstream.requests) == 1
    assert bool(signer.heard) is heard


async def test_credentials_that_never_give_up_do_not_go_on_for_ever():
    async with open_upstream([NO]) as upstream, client(upstream, Signer()) as http:
        with pytest.raises(ProviderAuthError, match="status 401") as caught:
            await http.request("GET", "/")
        assert len(upstream.requests) == SENT_MAX
    assert type(caught.value) is ProviderAuthError
    assert not caught.value.retryable


async def test_a_token_that_no_header_can_carry_is_a_typed_error():
    class Bad(Signer):
        async def headers(self, method, url, body):
            return {"authorization": "Bearer canary\r\nx: y"}

    async with open_upstream([OK]) as upstream, client(upstream, Bad()) as http:
        with pytest.raises(ProviderAuthError, match="cannot be sent") as caught:
            await http.request("GET", "/")
        assert upstream.requests == []
    assert caught.value.provider == "duck"
    assert "canary" not in chain(caught.value)


async def test_credentials_that_fail_send_nothing():
    class Failing(Signer):
        async def headers(self, method, url, body):
            raise ProviderError("no token", provider="duck")

    async with open_upstream([OK]) as upstream, client(upstream, Failing()) as http:
        with pytest.raises(ProviderError, match="no token"):
            await http.request("GET", "/")
        assert upstream.requests == []


@attrs.define
class Waiting(Signer):
    """Its first proof takes its time, and each one after that another."""

    takes: list[float] = attrs.field(factory=list)

    async def headers(self, method, url, body):
        await trio.sleep(self.takes.pop(0))
        return await super().headers(method, url, body)


@pytest.mark.parametrize(("limit", "after"), [("total", 7.0), ("first_byte", 5.0)])
async def test_waiting_for_credentials_is_part_of_the_time_limits(
    limit, after, autojump_clock
):
    limits = {"total": 30.0, "first_byte": 30.0, limit: after}
    its = Waiting(takes=[20.0])
    base_url = f"http://127.0.0.1:{closed_port()}"
    async with open_client(
        base_url, headers={}, classify=classify, credentials=its, timeout=limits
    ) as http:
        started = trio.current_time()
        with pytest.raises(ProviderTimeout, match="its credentials") as caught:
            await http.request("GET", "/")
        assert trio.current_time() - started == after
    assert f"within {after:g} s (timeout.{limit})" in str(caught.value)
    assert caught.value.provider == "duck"
    assert caught.value.retryable


async def test_an_answer_has_the_time_that_the_credentials_left_of_it(mock_clock):
    class Slow(Signer):
        async def headers(self, method, url, body):
            mock_clock.jump(6.0)
            mock_clock.autojump_threshold = 0.05
            return await super().headers(method, url, body)

    async with (
        open_upstream([[HANG]], limit=1e6) as upstream,
        client(upstream, Slow(), timeout={"first_byte": 10.0}) as http,
    ):
        started = trio.current_time()
        with pytest.raises(ProviderTimeout, match="sent no answer within 10 s"):
            await http.request("GET", "/")
        assert trio.current_time() - started == pytest.approx(10.0)


async def test_each_key_that_was_sent_is_masked_in_what_comes_back():
    keys = [f"canary-key-number-{n}-0123456789" for n in range(2)]
    echo = [answer(" ".join(keys).encode())]
    ring = Keys("duck", [Secret(key) for key in keys])
    async with open_upstream([NO, echo]) as upstream, client(upstream, ring) as http:
        body = (await http.request("GET", "/")).body
        assert [state.state for state in http.key_states()] == ["refused", "ok"]
        assert "canary" not in repr(http) + repr(vars(http))
    assert body == b"[redacted] [redacted]"


@pytest.mark.parametrize("name", ["x-auth", "api-key", "cookie"])
async def test_what_is_in_a_header_that_is_named_like_a_secret_is_masked(name):
    class Named(Signer):
        async def headers(self, method, url, body):
            return {name: "canary-0123456789"}

    echo = [answer(b"canary-0123456789")]
    async with open_upstream([echo]) as upstream, client(upstream, Named()) as http:
        assert (await http.request("GET", "/")).body == b"[redacted]"


async def test_other_credentials_than_keys_have_no_keys_to_show():
    async with open_upstream([OK]) as upstream, client(upstream, Signer()) as http:
        assert http.key_states() == ()


async def test_time_that_goes_by_with_refusals_is_part_of_the_whole(mock_clock):
    class Slow(Signer):
        async def headers(self, method, url, body):
            mock_clock.jump(6.0)
            return await super().headers(method, url, body)

    async with (
        open_upstream([NO], limit=1e6) as upstream,
        client(upstream, Slow(), timeout={"total": 10.0}) as http,
    ):
        with pytest.raises(ProviderError, match=r"timeout\.total"):
            await http.request("GET", "/")
        assert len(upstream.requests) <= 2
