"""Which key an attempt is sent with, and what answers teach the rate limiter."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from duckservice.calls.call import CallOptions
from duckservice.config import LimitsConfig, RetryConfig, Secret
from duckservice.errors import (
    DeadlineExceeded,
    DuckError,
    ProviderAuthError,
    ProviderError,
    RateLimited,
)
from tests.upstream import Action, Upstream, answer, chunked, head, open_upstream

from .conftest import chat
from .test_timeouts import CHUNKED, COMPLETION, event, provider_config, serving, whole

JSON = b"content-type: application/json"
FINE = [answer(COMPLETION, JSON)]
QUICK = RetryConfig(max_attempts=3, base_delay=0.01, max_delay=0.01)
KEYS = tuple(f"sk-canary-{n:_>16}" for n in range(3))


def refusal(status: int, *headers: bytes):
    body = json.dumps({"error": {"message": "no"}}).encode()
    return [answer(body, JSON, *headers, status=b"%d x" % status)]


def config(base_url, *, keys=2, **more):
    its = provider_config("p", base_url)
    return attrs.evolve(
        its, api_key=None, api_keys=tuple(map(Secret, KEYS[:keys])), **more
    )


def sent(upstream: Upstream) -> list[int]:
    """Return which keys were sent, by number."""
    values = [request.header("authorization") or "" for request in upstream.requests]
    return [KEYS.index(value.removeprefix("Bearer ")) for value in values]


async def ask(service, **options) -> str:
    answered = await service.complete(chat(model="m"), CallOptions(**options))
    return answered.value.text


def soon(seconds: float) -> float:
    return trio.current_time() + seconds


async def test_each_key_is_sent_as_often_as_its_own_limit_allows():
    limits = LimitsConfig(requests_per_minute=3)
    async with open_upstream([FINE]) as upstream:
        its = config(upstream.base_url, keys=3, key_limits=limits)
        async with serving(its) as (service, _):
            for _ in range(9):
                await ask(service)
            with pytest.raises((RateLimited, DeadlineExceeded)):
                await ask(service, deadline=soon(1.0))
        assert Counter(sent(upstream)) == {0: 3, 1: 3, 2: 3}


@pytest.mark.parametrize("status", [429, 401, 402])
async def test_a_key_that_is_refused_costs_the_client_nothing_while_another_is_free(
    status,
):
    limits = LimitsConfig(requests_per_minute=100)
    no = refusal(status, b"retry-after: 30")
    async with open_upstream([no, no, FINE]) as upstream:
        its = config(upstream.base_url, keys=3, key_limits=limits)
        # No attempt is used up: the provider has done nothing.
        once = RetryConfig(max_attempts=1)
        async with serving(its, retry=once) as (service, ended):
            for _ in range(4):
                assert await ask(service) == "fine"
        first, second, *others = sent(upstream)
        assert set(others) == {0, 1, 2} - {first, second}, "who was refused rests"
    outcomes = [each.outcome for each in ended]
    assert outcomes == ["rate_limited"] * 2 + ["ok"] * 4


TOGETHER = 60


class ByKey(Sequence[Sequence[Action]]):
    """A script for what the key deserves, once all are under way together."""

    def __init__(self, refused: Sequence[Action]) -> None:
        self.refused = refused
        self.all_are_here = trio.Event()
        self.upstream: Upstream | None = None

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, number: Any) -> Sequence[Action]:
        assert self.upstream is not None
        if number + 1 == TOGETHER:
            self.all_are_here.set()
        key = sent(self.upstream)[number]
        answered = self.refused if key == 0 else FINE
        return [self.all_are_here, *answered]


@asynccontextmanager
async def all_at_once(status: int) -> AsyncGenerator[tuple[Counter[str], list[int]]]:
    """Have requests meet one bad key of two; tell what became of them, and what was sent."""
    limits = LimitsConfig(requests_per_minute=100)
    script = ByKey(refusal(status, b"retry-after: 30"))
    outcomes = Counter[str]()
    async with open_upstream(script) as upstream:
        script.upstream = upstream
        async with serving(config(upstream.base_url, key_limits=limits)) as (its, _):

            async def one() -> None:
                try:
                    outcomes[await ask(its)] += 1
                except DuckError as error:
                    outcomes[error.code] += 1

            async with trio.open_nursery() as nursery:
                for _ in range(TOGETHER):
                    nursery.start_soon(one)
            yield outcomes, sent(upstream)


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_revoked_key_fails_nobody_however_many_are_under_way_with_it(status):
    async with all_at_once(status) as (outcomes, keys):
        assert outcomes == {"fine": TOGETHER}
        with_the_bad_one = keys[:TOGETHER].count(0)
        assert with_the_bad_one > 10 + TOGETHER / 10
        # Each was sent once more, and nobody who came later with that key.
        assert len(keys) == TOGETHER + with_the_bad_one


async def test_a_key_that_is_limited_does_not_multiply_what_is_sent():
    async with all_at_once(429) as (outcomes, keys):
        again = len(keys) - TOGETHER
        assert 10 <= again <= 10 + TOGETHER / 10
        refused = keys[:TOGETHER].count(0)
        assert outcomes["rate_limited"] == refused - again
        assert outcomes["fine"] == TOGETHER - refused + again


async def test_each_change_of_keys_takes_from_the_budget_of_retries():
    limits = LimitsConfig(requests_per_minute=100)
    async with open_upstream([refusal(401), FINE]) as upstream:
        its = config(upstream.base_url, key_limits=limits)
        async with serving(its) as (service, _):
            assert await ask(service) == "fine"
            assert service.parts.board.providers["p"].retry_budget.tenths == 90


async def test_where_all_keys_are_limited_nothing_is_sent_until_the_first_is_free():
    limits = LimitsConfig(requests_per_minute=100)
    script = [refusal(429, b"retry-after: 30"), refusal(429, b"retry-after: 20"), FINE]
    async with open_upstream(script) as upstream:
        its = config(upstream.base_url, key_limits=limits)
        async with serving(its, retry=QUICK) as (service, _):
            with pytest.raises(RateLimited):
                await ask(service, deadline=soon(5.0))
            with pytest.raises((RateLimited, DeadlineExceeded)):
                await ask(service, deadline=soon(0.2))
            limiter = service.parts.board.providers["p"].limiter
            assert 15 < limiter.blocked_until - trio.current_time() < 20
        assert sorted(sent(upstream)) == [0, 1]


async def test_where_all_keys_are_refused_that_is_the_answer_and_at_once():
    limits = LimitsConfig(requests_per_minute=100)
    async with open_upstream([refusal(401)]) as upstream:
        its = config(upstream.base_url, key_limits=limits)
        async with serving(its, retry=QUICK) as (service, _):
            for _ in range(3):
                with pytest.raises(ProviderAuthError), trio.fail_after(3):
                    await ask(service)


async def test_without_limits_of_keys_another_key_is_tried_within_the_attempt():
    async with open_upstream([refusal(429), FINE]) as upstream:
        async with serving(config(upstream.base_url)) as (service, ended):
            assert await ask(service) == "fine"
        assert sent(upstream) == [0, 1]
    assert [each.outcome for each in ended] == ["ok"]


def left(count: int) -> tuple[bytes, ...]:
    return (
        b"x-ratelimit-limit-requests: 100",
        b"x-ratelimit-remaining-requests: %d" % count,
        b"x-ratelimit-reset-requests: 40s",
    )


def plain(count: int):
    return [answer(COMPLETION, JSON, *left(count))]


def stream(count: int):
    its = head(CHUNKED, b"content-type: text/event-stream", *left(count))
    return [its, event("fine"), chunked(b"data: [DONE]\n\n")]


@pytest.mark.parametrize("kind", [plain, stream])
async def test_no_more_is_sent_than_the_provider_says_is_left(kind):
    async with (
        open_upstream([kind(1), kind(0)]) as upstream,
        serving(config(upstream.base_url, keys=1)) as (service, _),
    ):
        for _ in range(2):
            assert await whole(service, streamed=kind is stream) == "fine"
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises((RateLimited, DeadlineExceeded)):
            await ask(service, deadline=soon(0.2))
        assert len(upstream.requests) == 2


async def test_of_two_keys_each_is_held_to_what_is_left_of_it():
    async with (
        open_upstream([plain(0)]) as upstream,
        serving(config(upstream.base_url)) as (service, _),
    ):
        for _ in range(2):
            assert await ask(service) == "fine"
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises((RateLimited, DeadlineExceeded)):
            await ask(service, deadline=soon(0.2))
        assert Counter(sent(upstream)) == {0: 1, 1: 1}


async def test_what_a_refusal_says_is_left_is_learned_too():
    refused = refusal(500, *left(0))
    async with (
        open_upstream([refused]) as upstream,
        serving(config(upstream.base_url, keys=1)) as (service, _),
    ):
        with pytest.raises(ProviderError):
            await ask(service)
        with pytest.raises((RateLimited, DeadlineExceeded)):
            await ask(service, deadline=soon(0.2))
        assert len(upstream.requests) == 1


async def test_a_429_that_only_this_request_meets_stops_nobody_else():
    words = b'{"error": {"message": "Request too large: Limit 10, Requested 44"}}'
    script = [[answer(words, JSON, status=b"429 x")], FINE]
    async with (
        open_upstream(script) as upstream,
        serving(config(upstream.base_url, keys=1)) as (service, _),
    ):
        with pytest.raises(RateLimited, match="too large"):
            await ask(service)
        assert await ask(service, deadline=soon(0.5)) == "fine"
