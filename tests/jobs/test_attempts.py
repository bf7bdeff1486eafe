"""What uses up an attempt, what does not, and what is recorded of each."""

from __future__ import annotations

import attrs
import trio

from duckservice.completion import Usage
from duckservice.config import (
    BreakerConfig,
    ProviderConfig,
    RateLimitConfig,
    RetryConfig,
)
from duckservice.core.job import JobState
from duckservice.errors import (
    InvalidRequest,
    ProviderError,
    ProviderTimeout,
    RateLimited,
)
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.store.base import Finish, Store
from duckservice.store.sqlite import open_sqlite
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


class Miscounting(MockProvider):
    """It says that it has read more tokens than any database can count."""

    asked = 0

    async def complete(self, request):
        self.asked += 1
        reply = await super().complete(request)
        return attrs.evolve(reply, usage=Usage(output_tokens=2**63))


async def test_a_settlement_that_cannot_be_kept_leaves_no_job_executing(
    tmp_path,
) -> None:
    provider = Miscounting("a", MockScript(), models=("mock-*",))
    async with (
        open_sqlite(tmp_path / "jobs.sqlite3") as store,
        running(mock_config("a"), store, a=provider) as (service, _),
    ):
        id_ = (await service.jobs.submit(job())).job.id
        with trio.fail_after(5):
            done = (await service.jobs.wait(id_)).job
        [attempt] = await service.jobs.attempts(id_)
        assert await store.open_entries() == ()
    assert (done.state, done.attempt) == (JobState.COMPLETED, 1)
    assert (done.cost_known, done.cost_estimated) == (False, True)
    assert attempt.state == "settled"
    assert provider.asked == 1


async def test_so_it_is_where_another_provider_is_asked_next(tmp_path) -> None:
    first = MockProvider(
        "a", MockScript(errors={1: ProviderTimeout("no answer")}), models=("mock-*",)
    )
    second = Miscounting("b", MockScript(), models=("mock-*",))
    async with (
        open_sqlite(tmp_path / "jobs.sqlite3") as store,
        running(mock_config("a", "b"), Refusing(store), a=first, b=second) as (
            service,
            _,
        ),
    ):
        id_ = (await service.jobs.submit(job())).job.id
        with trio.fail_after(5):
            done = (await service.jobs.wait(id_)).job
        attempts = await service.jobs.attempts(id_)
    assert done.state is JobState.COMPLETED
    assert [its.state for its in attempts] == ["settled", "settled"]
    assert second.asked == 1


async def test_a_reply_that_cannot_be_kept_fails_the_job_and_is_not_asked_for_again(
    tmp_path,
) -> None:
    provider = Miscounting("a", MockScript(), models=("mock-*",))
    async with (
        open_sqlite(tmp_path / "jobs.sqlite3") as store,
        running(mock_config("a"), Refusing(store, results=True), a=provider) as (
            service,
            _,
        ),
    ):
        id_ = (await service.jobs.submit(job())).job.id
        with trio.fail_after(5):
            done = (await service.jobs.wait(id_)).job
        assert await store.open_entries() == ()
    assert done.state is JobState.DISCARDED
    assert done.errors[-1].code == "internal_error"
    assert "cannot be kept: too long" in done.errors[-1].message
    assert provider.asked == 1


@attrs.define
class Refusing:
    """A store that keeps no figures of an attempt, or no result of a job."""

    store: Store
    results: bool = False

    async def settle_attempt(self, attempt, settlement, now):
        if settlement.cost is not None:
            raise InvalidRequest("too large")
        return await self.store.settle_attempt(attempt, settlement, now)

    async def end(self, lease, outcome, now, *, settled=None, deltas=None):
        if self.results and isinstance(outcome, Finish):
            raise InvalidRequest("too long")
        return await self.store.end(lease, outcome, now, settled=settled, deltas=deltas)

    def __getattr__(self, name):
        return getattr(self.store, name)
