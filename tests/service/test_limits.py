"""Rate limits and turns through the running service: who waits, who goes elsewhere."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from duckservice.calls.call import CallOptions, Submitter
from duckservice.config import (
    LimitsConfig,
    QueueConfig,
    RateLimitConfig,
    RetryConfig,
    Secret,
)
from duckservice.errors import DuckError, QueueFull, RateLimited
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript

from .conftest import chat, mock_config, running

ONE_IN_100_S = RateLimitConfig(capacity=1, refill_rate=0.01)


def by(uid: int, pid: int = 1, **more) -> CallOptions:
    return CallOptions(submitter=Submitter(uid=uid, gid=uid, pid=pid), **more)


async def test_who_would_be_late_at_one_provider_is_served_by_the_next(
    autojump_clock,
) -> None:
    limited = mock_config("a", "b", rate_limit=ONE_IN_100_S)
    async with running(limited, a=MockProvider("a"), b=MockProvider("b")) as (duck, _):
        deadline = trio.current_time() + 5.0
        served = [
            (await duck.complete(chat(), by(1, deadline=deadline))).report.provider
            for _ in range(2)
        ]
        assert sorted(served) == ["a", "b"]
        with pytest.raises(DuckError) as info:
            await duck.complete(chat(), by(1, deadline=deadline))
        assert trio.current_time() < deadline
        assert info.value.retry_after == pytest.approx(100.0, abs=1.0)


@pytest.mark.parametrize(
    "scarce",
    [
        {"max_concurrency": 1},
        {"rate_limit": RateLimitConfig(capacity=1, refill_rate=1.0)},
    ],
    ids=["turns", "rate limit"],
)
async def test_a_submitter_with_many_waiting_delays_another_by_one_turn(
    scarce, autojump_clock
) -> None:
    config = mock_config("a", **scarce)
    provider = MockProvider("a", MockScript(latency=1.0))
    order = list[int]()
    async with running(config, a=provider) as (duck, _):

        async def one(uid: int) -> None:
            await duck.complete(chat(), by(uid))
            order.append(uid)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one, 1)
            await trio.sleep(0.5)
            nursery.start_soon(one, 2)
    assert order.index(2) <= 3


async def test_a_full_queue_says_so_at_once_and_who_gives_up_makes_room(
    autojump_clock,
) -> None:
    config = mock_config("a", max_concurrency=1, queue=QueueConfig(max_size=1))
    provider = MockProvider("a", MockScript(latency=60.0))
    async with running(config, a=provider) as (duck, _), trio.open_nursery() as nursery:
        nursery.start_soon(duck.complete, chat())
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(duck.complete, chat())
            await trio.testing.wait_all_tasks_blocked()
            since = trio.current_time()
            with pytest.raises(QueueFull):
                await duck.complete(chat())
            assert trio.current_time() == since
            waiting.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert (await duck.queue())["waiting"] == 0
        nursery.cancel_scope.cancel()


async def test_nothing_goes_to_a_provider_for_as_long_as_its_429_asks(
    autojump_clock,
) -> None:
    refusal = RateLimited("later", provider="a", retry_after=30.0)
    config = mock_config("a", retry=RetryConfig(max_attempts=1))
    provider = MockProvider("a", MockScript(errors={1: refusal}))
    async with running(config, a=provider) as (duck, _):
        since = trio.current_time()
        with pytest.raises(RateLimited):
            await duck.complete(chat())
        await duck.complete(chat())
        assert trio.current_time() - since >= 30.0


def always(error: type[DuckError]) -> MockProvider:
    errors = {n: error("slow down", provider="a") for n in range(1, 100)}
    return MockProvider("a", MockScript(errors=errors))


async def test_who_meets_a_429_that_names_no_time_never_waits_longer_than_max_delay(
    autojump_clock,
) -> None:
    retry = RetryConfig(max_attempts=2, max_delay=4.0)
    pauses = list[float | None]()
    async with running(mock_config("a", retry=retry), a=always(RateLimited)) as its:
        duck, _ = its
        for _ in range(6):
            since = trio.current_time()
            with pytest.raises(RateLimited) as info:
                await duck.complete(chat())
            assert trio.current_time() - since <= 2 * 4.0
            pauses.append(info.value.retry_after)
    # The first two have met one pause of 1 s and one of 2 s before they end.
    assert pauses == pytest.approx([2.0, 4.0, 4.0, 4.0, 4.0, 4.0])


async def test_a_reload_that_changes_max_delay_changes_the_next_pause(
    autojump_clock,
) -> None:
    retry = RetryConfig(max_attempts=1, max_delay=4.0)
    config = mock_config("a", retry=retry)
    async with running(config, a=always(RateLimited)) as (duck, _):
        for expected in (1.0, 2.0, 4.0, 4.0):
            with pytest.raises(RateLimited) as info:
                await duck.complete(chat())
            assert info.value.retry_after == pytest.approx(expected)
        shorter = attrs.evolve(retry, base_delay=0.5, max_delay=0.5)
        await duck.reload(attrs.evolve(config, retry=shorter))
        for _ in range(2):
            with pytest.raises(RateLimited) as info:
                await duck.complete(chat())
            assert info.value.retry_after == pytest.approx(0.5)


async def test_limits_of_each_key_are_shown_and_add_up(autojump_clock) -> None:
    config = mock_config(
        "a",
        api_keys=(Secret("one-key-1111"), Secret("other-key-2222")),
        key_limits=LimitsConfig(requests_per_minute=2),
    )
    async with running(config, a=MockProvider("a")) as (duck, _):
        since = trio.current_time()
        for _ in range(4):
            await duck.complete(chat())
        assert trio.current_time() < since + 1
        (state,) = await duck.providers()
        assert [key["available"] for key in state["limiter"]["keys"]] == [0, 0]
        await duck.complete(chat())
        assert trio.current_time() >= since + 60
