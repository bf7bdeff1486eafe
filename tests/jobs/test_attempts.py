"""What uses up an attempt, what does not, and what is recorded of each."""

from __future__ import annotations

import attrs
import trio

from duckservice.config import (
    BreakerConfig,
    ProviderConfig,
    RateLimitConfig,
    RetryConfig,
)
from duckservice.core.job import JobState
from duckservice.errors import ProviderError, RateLimited
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from tests.jobs.conftest import EPOCH, job, mock, running
from tests.service.conftest import mock_config

SLOW_RETRIES = RetryConfig(max_attempts=3, base_delay=4.0, jitter=False)


async def test_a_failed_attempt_is_made_again_after_a_pause(autojump_clock) -> None:
    script = MockScript(errors={1: ProviderError("no"), 2: ProviderError("no")})
    config = mock_config("a", retry=SLOW_RETRIES)
    async with running(config, a=mock("a", script)) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(1)
        view = await service.jobs.get(id_)
        assert view.job.state is JobState.RETRYABLE
        assert view.wait_reason == "retry_backoff"
        assert view.wait_until == EPOCH + 4.0
        done = (await service.jobs.wait(id_)).job
        assert done.state is JobState.COMPLETED
        assert (done.attempt, len(done.errors)) == (3, 2)
        assert done.finished_at == EPOCH + 4.0 + 8.0


async def test_attempts_are_used_up_at_last(autojump_clock) -> None:
    script = MockScript(failure_rate=1.0)
    async with running(mock_config("a"), a=mock("a", script)) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        done = (await service.jobs.wait(id_)).job
        assert done.state is JobState.DISCARDED
        assert done.attempt == done.max_attempts == 3
        assert len(await service.jobs.attempts(id_)) == 3


async def test_a_429_uses_up_no_attempt_and_names_the_time(autojump_clock) -> None:
    errors = {n: RateLimited("later", retry_after=20.0) for n in range(1, 6)}
    async with running(mock_config("a"), a=mock("a", MockScript(errors=errors))) as (
        service,
        _,
    ):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(1)
        view = await service.jobs.get(id_)
        assert view.wait_reason == "rate_limited:a"
        assert view.wait_until == EPOCH + 20.0
        done = (await service.jobs.wait(id_)).job
        assert done.state is JobState.COMPLETED
        assert done.attempt == 1
        assert done.finished_at == EPOCH + 100.0
        assert len(await service.jobs.attempts(id_)) == 6


async def test_a_failing_provider_is_replaced_within_the_run(autojump_clock) -> None:
    bad = MockScript(failure_rate=1.0)
    async with running(mock_config("a", "b"), a=mock("a", bad), b=mock("b")) as (
        service,
        _,
    ):
        id_ = (await service.jobs.submit(job())).job.id
        done = (await service.jobs.wait(id_)).job
        assert done.state is JobState.COMPLETED
        assert done.provider == "b"
        attempts = await service.jobs.attempts(id_)
        assert [a.provider for a in attempts] == ["a", "b"]
        assert all(a.state == "settled" for a in attempts)


async def test_an_open_breaker_holds_jobs_back_and_says_until_when(
    autojump_clock,
) -> None:
    errors = {n: ProviderError("down") for n in range(1, 4)}
    async with running(mock_config("a"), a=mock("a", MockScript(errors=errors))) as (
        service,
        _,
    ):
        first = (await service.jobs.submit(job(max_attempts=1))).job.id
        for _ in range(2):
            await service.jobs.submit(job(max_attempts=1))
        await service.jobs.wait(first)
        await trio.sleep(0.1)
        late = (await service.jobs.submit(job("late"))).job.id
        await trio.sleep(0.1)
        view = await service.jobs.get(late)
        assert view.job.state is JobState.AVAILABLE
        assert view.wait_reason == "breaker_open:a"
        assert view.wait_until == EPOCH + 10.0
        done = (await service.jobs.wait(late)).job
        assert (done.state, done.attempt) == (JobState.COMPLETED, 1)
        assert done.finished_at == EPOCH + 10.0


async def test_the_record_is_there_before_the_provider_is_asked(
    autojump_clock,
) -> None:
    seen = []

    async def look(_: float) -> None:
        for its in service.jobs.board:
            seen.extend(await service.jobs.attempts(its.job.id))

    provider = mock("a", sleep=look)
    async with running(mock_config("a"), a=provider) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await service.jobs.wait(id_)
    [record] = seen
    assert (record.state, record.provider) == ("open", "a")
    assert record.reserved > 0


async def test_a_provider_that_asks_to_wait_is_asked_by_no_other_job(
    autojump_clock,
) -> None:
    errors = {1: RateLimited("later", retry_after=20.0)}
    async with running(mock_config("a"), a=mock("a", MockScript(errors=errors))) as (
        service,
        _,
    ):
        await service.jobs.submit(job())
        await trio.sleep(1)
        other = (await service.jobs.submit(job())).job.id
        await trio.sleep(1)
        view = await service.jobs.get(other)
        assert view.job.state is JobState.AVAILABLE
        assert (view.wait_reason, view.wait_until) == ("rate_limited:a", EPOCH + 20.0)
        done = (await service.jobs.wait(other)).job
        assert done.started_at == EPOCH + 20.0
        assert len(await service.jobs.attempts(other)) == 1


async def test_a_rate_limit_lets_a_job_begin_when_it_allows_it(autojump_clock) -> None:
    limit = RateLimitConfig(capacity=1, refill_rate=0.25)
    config = attrs.evolve(
        mock_config("a"),
        providers={
            "a": ProviderConfig(name="a", adapter="mock", rate_limit=limit),
            "b": ProviderConfig(name="b", adapter="mock"),
        },
    )
    slow = MockProvider("b", MockScript(latency=100.0), models=("slow-*",))
    async with running(config, a=mock("a"), b=slow) as (service, _):
        ids = [(await service.jobs.submit(job(str(n)))).job.id for n in range(3)]
        await trio.sleep(1)
        await service.jobs.submit(job(model="slow-1"))
        view = await service.jobs.get(ids[-1])
        assert (view.wait_reason, view.wait_until) == ("rate_limited:a", EPOCH + 4.0)
        done = [(await service.jobs.wait(id_)).job.finished_at for id_ in ids]
        assert done == [EPOCH, EPOCH + 4.0, EPOCH + 8.0]


async def test_retries_cannot_keep_a_provider_down(autojump_clock) -> None:
    config = mock_config(
        "a", retry=SLOW_RETRIES, breaker=BreakerConfig(failure_threshold=1000)
    )
    async with running(config, a=mock("a", MockScript(failure_rate=1.0))) as (
        service,
        _,
    ):
        ids = [
            (await service.jobs.submit(job(str(n), max_attempts=9))).job.id
            for n in range(50)
        ]
        await trio.sleep(59)
        attempts = [len(await service.jobs.attempts(id_)) for id_ in ids]
        assert all(attempts)
        assert sum(attempts) <= 50 * 1.1 + 10
        views = [await service.jobs.get(id_) for id_ in ids]
        assert {view.job.state for view in views} <= {"scheduled", "retryable"}
