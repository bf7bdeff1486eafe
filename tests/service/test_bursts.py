"""What holds when very many ask in the same instant, before anybody has an answer."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest
import trio

from duckservice.config import Config, LimitsConfig, RetryConfig, RoutingConfig
from duckservice.errors import CircuitOpen, DuckError, ProviderError, RateLimited
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript

from .conftest import chat, mock_config, running

ONCE = RetryConfig(max_attempts=1)


def watch(provider: MockProvider) -> list[float]:
    """Return the times of the calls that *provider* gets from now on."""
    calls, complete = list[float](), provider.complete

    async def noted(request):
        calls.append(trio.current_time())
        return await complete(request)

    provider.complete = noted  # type: ignore[method-assign]
    return calls


async def burst(service, count: int) -> list[str]:
    """Have *count* clients ask at once; return who served them, or the error's code."""
    outcomes = list[str]()

    async def client() -> None:
        try:
            answer = await service.complete(chat())
        except DuckError as error:
            outcomes.append(error.code)
        else:
            outcomes.append(answer.report.provider)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(client)
    return outcomes


async def test_nothing_is_sent_to_a_breaker_that_has_opened_while_one_stood_in_line(
    autojump_clock,
) -> None:
    config = mock_config("a", retry=ONCE, max_concurrency=16)
    a = MockProvider("a", MockScript(latency=0.5, failure_rate=1.0))
    calls = watch(a)
    async with running(config, a=a) as (service, _):
        outcomes = Counter(await burst(service, 200))
    assert len(calls) == 16, "only those that were under way when it opened"
    assert outcomes == {ProviderError.code: 16, CircuitOpen.code: 184}


async def test_nothing_is_sent_in_a_retry_after_to_who_stood_in_line(
    autojump_clock,
) -> None:
    config = mock_config("a", retry=ONCE, max_concurrency=5)
    busy = RateLimited("wait", provider="a", retry_after=4.0)
    errors = dict.fromkeys(range(1, 6), busy)
    a = MockProvider("a", MockScript(latency=0.1, errors=errors))
    calls = watch(a)
    async with running(config, a=a) as (service, _):
        outcomes = Counter(await burst(service, 50))
    begun = calls[0]
    assert [at - begun for at in calls[:5]] == [0.0] * 5
    assert min(at - begun for at in calls[5:]) >= 4.1
    assert outcomes == {"a": 45, RateLimited.code: 5}


async def test_who_is_disabled_gets_nothing_of_those_that_stand_in_line(
    autojump_clock,
) -> None:
    config = mock_config("a", retry=ONCE, max_concurrency=5)
    a = MockProvider("a", MockScript(latency=1.0))
    calls = watch(a)
    async with running(config, a=a) as (service, _), trio.open_nursery() as nursery:
        nursery.start_soon(burst, service, 50)
        await trio.sleep(0.5)
        await service.provider_action("a", "disable")
    assert len(calls) == 5


def limited(**limits: int | None) -> Config:
    config = mock_config(*limits)
    providers = {
        name: attrs.evolve(its, limits=LimitsConfig(requests_per_minute=limits[name]))
        for name, its in config.providers.items()
    }
    return attrs.evolve(config, providers=providers)


async def test_a_burst_spills_over_as_a_trickle_does(autojump_clock) -> None:
    config = limited(a=20, b=30, c=None)
    providers = {name: MockProvider(name) for name in "abc"}
    async with running(config, **providers) as (service, _):
        began = trio.current_time()
        outcomes = Counter(await burst(service, 100))
        assert trio.current_time() - began < 1.0, "nobody has waited"
    assert outcomes == {"a": 20, "b": 30, "c": 50}


async def test_a_burst_is_spread_over_the_least_busy(autojump_clock) -> None:
    config = mock_config("a", "b", "c")
    turns = {"a": 10, "b": 20, "c": 30}
    config = attrs.evolve(
        config,
        routing=RoutingConfig(strategy="least_busy"),
        providers={
            name: attrs.evolve(its, max_concurrency=turns[name])
            for name, its in config.providers.items()
        },
    )
    providers = {name: MockProvider(name, MockScript(latency=1.0)) for name in "abc"}
    async with running(config, **providers) as (service, _):
        assert Counter(await burst(service, 60)) == turns


async def test_a_burst_does_not_line_up_where_nothing_is_known_of_the_provider(
    autojump_clock,
) -> None:
    config = mock_config("a", "b")
    providers = {
        name: attrs.evolve(its, max_concurrency=5 if name == "a" else 64)
        for name, its in config.providers.items()
    }
    config = attrs.evolve(config, providers=providers)
    a, b = (MockProvider(name, MockScript(latency=3.0)) for name in "ab")
    async with running(config, a=a, b=b) as (service, _):
        began = trio.current_time()
        outcomes = Counter(await burst(service, 60))
        assert trio.current_time() - began <= 6.0
    assert outcomes["b"] >= 50


@pytest.mark.parametrize("after", [0.0, 0.05, 0.5])
async def test_a_burst_that_goes_away_leaves_nothing_behind(
    autojump_clock, after
) -> None:
    config = mock_config(
        "a", max_concurrency=3, limits=LimitsConfig(requests_per_minute=5)
    )
    a = MockProvider("a", MockScript(latency=0.2))
    async with running(config, a=a) as (service, _):
        with trio.move_on_after(after):
            await burst(service, 40)
        await trio.testing.wait_all_tasks_blocked()
        queue, its = await service.queue(), service.parts.board.providers["a"]
        assert queue["waiting"] == queue["running"] == its.queued == len(its.turns) == 0
        assert its.limiter.statistics(trio.current_time()).waiting == 0
