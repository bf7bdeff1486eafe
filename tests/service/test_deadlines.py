"""A request ends at its deadline, wherever it is; no attempt starts behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from duckservice.calls.call import CallOptions
from duckservice.config import RateLimitConfig, RetryConfig
from duckservice.errors import DeadlineExceeded, ProviderError, RateLimited
from duckservice.events import AttemptEnded
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.running import RunningService

from .conftest import chat, mock_config, running

DEADLINE = 5.0


async def expect_the_deadline(service: RunningService) -> None:
    deadline = trio.current_time() + DEADLINE
    with pytest.raises(DeadlineExceeded) as info:
        await service.complete(chat(), CallOptions(deadline=deadline))
    assert trio.current_time() == pytest.approx(deadline)
    assert info.value.job
    await trio.testing.wait_all_tasks_blocked()


async def at_rest(service: RunningService) -> None:
    queue = await service.queue()
    assert (queue["running"], queue["waiting"]) == (0, 0)
    for state in await service.providers():
        assert state["in_flight"] == 0
        assert state["limiter"]["waiting"] == 0
    assert service.counters.in_flight == 0


async def test_nothing_is_sent_if_it_has_passed_already(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, events):
        await trio.sleep(1)
        with pytest.raises(DeadlineExceeded):
            await service.complete(chat(), CallOptions(deadline=0.5))
        await trio.testing.wait_all_tasks_blocked()
        assert not [e for e in events if isinstance(e, AttemptEnded)]
        await at_rest(service)


async def test_it_ends_the_wait_for_a_turn(autojump_clock) -> None:
    config = mock_config("a", max_concurrency=1)
    provider = MockProvider("a", MockScript(latency=60.0))
    async with running(config, a=provider) as (service, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.complete, chat())
            await trio.sleep(0.1)
            await expect_the_deadline(service)
            assert service.parts.board.providers["a"].requests == 0
        await at_rest(service)


async def test_who_cannot_be_in_time_for_the_rate_limit_is_told_so_at_once(
    autojump_clock,
) -> None:
    limit = RateLimitConfig(capacity=1, refill_rate=0.01)
    config = mock_config("a", rate_limit=limit)
    async with running(config, a=MockProvider("a")) as (service, _):
        await service.complete(chat())
        since = trio.current_time()
        with pytest.raises(RateLimited) as info:
            await service.complete(chat(), CallOptions(deadline=since + DEADLINE))
        assert trio.current_time() == since
        assert info.value.retry_after == pytest.approx(100.0)
        assert info.value.provider == "a"
        assert service.parts.board.providers["a"].requests == 1
        await at_rest(service)


@pytest.mark.parametrize(
    "error",
    [
        lambda: ProviderError("down", provider="a"),
        lambda: RateLimited("later", provider="a", retry_after=60.0),
    ],
)
async def test_a_pause_that_would_pass_it_is_not_begun(
    error: Callable[[], Exception], autojump_clock
) -> None:
    config = mock_config(
        "a", retry=RetryConfig(base_delay=60.0, max_delay=60.0, jitter=False)
    )
    provider = MockProvider("a", MockScript(errors={1: error()}))
    async with running(config, a=provider) as (service, _):
        since = trio.current_time()
        with pytest.raises(ProviderError):
            await service.complete(chat(), CallOptions(deadline=since + DEADLINE))
        assert trio.current_time() == since


async def test_it_ends_a_stream_however_slowly_it_is_read(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, events):
        deadline = trio.current_time() + DEADLINE
        options = CallOptions(deadline=deadline)
        with pytest.raises(DeadlineExceeded):
            async with service.stream(chat("one two three"), options) as answer:
                async for _batch in answer.batches:
                    await trio.sleep(2)
        assert trio.current_time() == pytest.approx(deadline)
        await trio.testing.wait_all_tasks_blocked()
        (attempt,) = [e for e in events if isinstance(e, AttemptEnded)]
        assert attempt.outcome == "cancelled"
        assert attempt.cost_usd != "0"
        await at_rest(service)
