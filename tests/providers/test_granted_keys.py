"""A granted key is the one that is sent; what answers say of limits reaches its attempt."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.lowlevel

from duckservice.config import Secret
from duckservice.core.grants import ANY_KEY
from duckservice.core.rate_hints import RateHints
from duckservice.errors import (
    DuckError,
    ProviderAuthError,
    ProviderError,
    QuotaExceeded,
    RateLimited,
)
from duckservice.providers.auth.keys import Keys, OtherKey
from duckservice.providers.request_context import KeyRest, Sending
from tests.providers.http_client import open_client
from tests.upstream import answer, chunked, head, open_upstream

KEYS = tuple(f"sk-canary-{n:_>16}" for n in range(3))
OK = [answer(b"ok")]
LEFT = (b"x-ratelimit-limit-requests: 9", b"x-ratelimit-remaining-requests: 4")
HINTS = RateHints(requests_limit=9, requests_remaining=4)
ERRORS = {401: ProviderAuthError, 402: QuotaExceeded, 429: RateLimited}


def refusal(status, *headers):
    return [answer(b"no", *headers, status=b"%d x" % status)]


def classify(status, headers, body) -> DuckError:
    asked = headers.get("retry-after")
    error = ERRORS.get(status, ProviderError)(
        f"status {status}",
        provider="duck",
        retry_after=None if asked is None else float(asked),
    )
    error.upstream_status = status
    return error


@attrs.define
class Heard:
    """A `Sending`, and what it has heard."""

    key: int = ANY_KEY
    all: list = attrs.field(factory=list)
    rests: list = attrs.field(factory=list)
    sending: Sending = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.sending = Sending(
            self.key, lambda *said: self.all.append(said), self.rests.append
        )
        self.sending.begin()


def keys(count=3):
    return Keys("duck", [Secret(key) for key in KEYS[:count]])


def client(upstream, credentials):
    return open_client(
        upstream.base_url, headers={}, classify=classify, credentials=credentials
    )


def sent(upstream):
    """Return which keys were sent, by number."""
    values = [request.header("authorization") or "" for request in upstream.requests]
    return [KEYS.index(value.removeprefix("Bearer ")) for value in values]


async def test_the_granted_key_is_sent_and_no_other():
    async with open_upstream([OK]) as upstream, client(upstream, keys()) as http:
        for key in (2, 0, 1, 1, 2):
            heard = Heard(key)
            await http.request("GET", "/")
            async with http.stream("POST", "/", content=b"{}"):
                pass
            heard.sending.end()
        assert sent(upstream) == [2, 2, 0, 0, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("refused", "rest"),
    [
        (refusal(429), KeyRest(1, None, is_limited=True)),
        (refusal(429, b"retry-after: 7"), KeyRest(1, 7.0, is_limited=True)),
        (refusal(401), KeyRest(1, 600.0, is_limited=False)),
        (refusal(402), KeyRest(1, 600.0, is_limited=False)),
    ],
)
async def test_a_granted_key_that_is_refused_rests_and_no_other_takes_its_place(
    refused, rest
):
    async with open_upstream([refused]) as upstream, client(upstream, keys()) as http:
        heard = Heard(1)
        with pytest.raises(OtherKey) as caught:
            await http.request("GET", "/")
        assert sent(upstream) == [1]
    assert heard.rests == [rest]
    error = caught.value
    assert (error.code, error.retryable, error.retry_after) == ("rate_limited", True, 0)
    assert type(error.__cause__) is not OtherKey
    assert error.upstream_status == error.__cause__.upstream_status


async def test_a_key_that_rests_is_sent_all_the_same_if_it_is_granted():
    script = [refusal(429), OK]
    async with open_upstream(script) as upstream, client(upstream, keys()) as http:
        Heard(1)
        with pytest.raises(OtherKey):
            await http.request("GET", "/")
        await http.request("GET", "/")
        assert sent(upstream) == [1, 1]


@pytest.mark.parametrize(
    ("header", "seconds"), [((), None), ((b"retry-after: 7",), 7.0)]
)
async def test_the_last_key_that_is_limited_rests_as_long_as_it_asks(header, seconds):
    limited = refusal(429, *header)
    async with open_upstream([limited]) as upstream, client(upstream, keys(2)) as http:
        with pytest.raises(OtherKey):
            Heard(0)
            await http.request("GET", "/")
        heard = Heard(1)
        with pytest.raises(RateLimited) as caught:
            await http.request("GET", "/")
    assert type(caught.value) is RateLimited
    assert heard.rests == [KeyRest(1, seconds, is_limited=True)]


async def test_where_every_key_is_refused_the_last_goes_on_being_refused_at_once():
    async with (
        open_upstream([refusal(401)]) as upstream,
        client(upstream, keys(2)) as http,
    ):
        Heard(0)
        with pytest.raises(OtherKey):
            await http.request("GET", "/")
        for _ in range(2):
            heard = Heard(1)
            with pytest.raises(ProviderAuthError):
                await http.request("GET", "/")
            assert heard.rests == [KeyRest(1, 600.0, is_limited=False)]


async def test_what_is_not_the_keys_fault_makes_no_key_rest():
    async with (
        open_upstream([refusal(500)]) as upstream,
        client(upstream, keys()) as http,
    ):
        heard = Heard(1)
        with pytest.raises(ProviderError):
            await http.request("GET", "/")
        assert heard.rests == []


async def test_without_a_grant_keys_are_changed_within_the_request():
    script = [refusal(429), refusal(401), OK]
    async with open_upstream(script) as upstream, client(upstream, keys()) as http:
        heard = Heard(ANY_KEY)
        assert (await http.request("GET", "/")).body == b"ok"
        assert sent(upstream) == [0, 1, 2]
        assert heard.rests == [
            KeyRest(0, None, is_limited=True),
            KeyRest(1, 600.0, is_limited=False),
        ]


async def test_of_a_key_that_is_the_only_one_it_is_not_said_that_it_rests():
    async with (
        open_upstream([refusal(429)]) as upstream,
        client(upstream, keys(1)) as http,
    ):
        heard = Heard(0)
        with pytest.raises(RateLimited) as caught:
            await http.request("GET", "/")
        assert type(caught.value) is RateLimited
        assert heard.rests == []


async def test_a_key_that_is_there_no_more_is_replaced_by_one_that_is():
    script = [refusal(429), OK]
    async with open_upstream(script) as upstream, client(upstream, keys(2)) as http:
        heard = Heard(2)
        await http.request("GET", "/")
        assert sent(upstream) == [0, 1]
        assert heard.rests == [KeyRest(0, None, is_limited=True)]


@pytest.mark.parametrize("place", [-2, 1, 2, 1000])
async def test_a_place_that_no_key_has_after_a_reload_is_no_error(place):
    old = keys(3)
    left = Keys("duck", [Secret(KEYS[1])]).after(old)
    async with (
        open_upstream([refusal(429), OK]) as upstream,
        client(upstream, left) as http,
    ):
        heard = Heard(place)
        with pytest.raises(RateLimited) as caught:
            await http.request("GET", "/")
        assert type(caught.value) is RateLimited
        await http.request("GET", "/")
        assert sent(upstream) == [1, 1]
        assert heard.rests == []


async def test_a_place_that_no_key_has_is_answered_for_by_the_last_that_was_tried():
    async with (
        open_upstream([refusal(401)]) as upstream,
        client(upstream, Keys("duck", [Secret(KEYS[2]), Secret(KEYS[0])])) as http,
    ):
        heard = Heard(2)
        with pytest.raises(ProviderAuthError):
            await http.request("GET", "/")
        assert sent(upstream) == [2, 0]
        assert [rest.key for rest in heard.rests] == [0, 1]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [200, 429, 500])
async def test_what_any_answer_says_of_limits_is_told_before_its_body_is_read(
    status, streamed
):
    line = b"%d x" % status
    whole = [head(b"transfer-encoding: chunked", *LEFT, status=line) + chunked(b"ok")]
    async with open_upstream([whole]) as upstream, client(upstream, keys(1)) as http:
        heard = Heard()
        if status != 200:
            with pytest.raises(ProviderError):
                await http.request("POST", "/", content=b"{}")
        elif streamed:
            async with http.stream("POST", "/", content=b"{}"):
                assert heard.all
        else:
            await http.request("POST", "/", content=b"{}")
    assert heard.all == [(HINTS, ANY_KEY)]


async def test_of_several_keys_it_is_said_which_one_the_limits_are_of():
    script = [refusal(429, *LEFT), [answer(b"ok", *LEFT)]]
    async with open_upstream(script) as upstream, client(upstream, keys()) as http:
        heard = Heard()
        await http.request("GET", "/")
        granted = Heard(2)
        await http.request("GET", "/")
    assert heard.all == [(HINTS, 0), (HINTS, 1)]
    assert granted.all == [(HINTS, 2)]


async def test_who_sends_for_no_attempt_hears_nothing():
    async with (
        open_upstream([[answer(b"ok", *LEFT)]]) as upstream,
        client(upstream, keys()) as http,
    ):
        await http.request("GET", "/")
        over = Heard(2)
        over.sending.end()
        await http.request("GET", "/")
        assert over.all == []
        assert sent(upstream) == [0, 0]


async def test_attempts_in_tasks_of_one_parent_do_not_hear_of_each_other():
    heard = {}

    async def attempt(http, key):
        heard[key] = Heard(key)
        await trio.lowlevel.checkpoint()
        await http.request("GET", "/")

    async with (
        open_upstream([[answer(b"ok", *LEFT)]]) as upstream,
        client(upstream, keys()) as http,
    ):
        async with trio.open_nursery() as nursery:
            for key in range(3):
                nursery.start_soon(attempt, http, key)
        assert sorted(sent(upstream)) == [0, 1, 2]
    assert {key: its.all for key, its in heard.items()} == {
        key: [(HINTS, key)] for key in range(3)
    }


async def test_whatever_the_headers_say_the_answer_is_delivered():
    hostile = (
        b"x-ratelimit-limit-requests: \xff\xfe",
        b"x-ratelimit-limit-requests: 5",
        b"x-ratelimit-remaining-requests: -1",
        b"x-ratelimit-reset-requests: nan",
        b"anthropic-ratelimit-tokens-reset: 99999-01-01T00:00:00Z",
        b'ratelimit: "a";r=;t=,;;=',
        b"date: never",
    )
    async with (
        open_upstream([[answer(b"ok", *hostile)]]) as upstream,
        client(upstream, keys(1)) as http,
    ):
        heard = Heard()
        assert (await http.request("GET", "/")).body == b"ok"
    assert heard.all == []
