"""What clients do with jobs: cancel, hold, pause, deadlines, keys."""

from __future__ import annotations

import pytest
import trio

from duckservice.calls.call import Submitter
from duckservice.config import ProviderConfig
from duckservice.core.job import IllegalTransition, JobState
from duckservice.errors import Conflict, Draining, ModelNotFound, NotFound
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.store.memory import MemoryStore
from tests.jobs.conftest import EPOCH, job, mock, running
from tests.service.conftest import mock_config

SLOW = MockScript(latency=10.0)


async def test_a_cancelled_job_asks_nobody_any_more(autojump_clock) -> None:
    provider = mock("a", MockScript(latency=10.0, failure_rate=1.0))
    async with running(mock_config("a"), a=provider) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(5)
        cancelled = await service.jobs.cancel(id_)
        assert cancelled.state is JobState.CANCELLED
        await trio.sleep(100)
        [attempt] = await service.jobs.attempts(id_)
        assert attempt.settlement is not None
        assert attempt.settlement.outcome == "cancelled"
        # It was in flight: nobody knows what the provider counts of it.
        its = (await service.jobs.get(id_)).job
        assert (its.cost_estimated, its.maybe_billed) == (True, True)
        assert len(service.jobs.board) == 0
        with pytest.raises(IllegalTransition):
            await service.jobs.cancel(id_)


async def test_a_cancelled_job_can_be_begun_anew(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a", SLOW)) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(1)
        await service.jobs.cancel(id_)
        await service.jobs.retry(id_)
        done = (await service.jobs.wait(id_)).job
        assert done.state is JobState.COMPLETED
        assert done.finished_at == EPOCH + 11.0


async def test_a_held_job_waits_for_its_release(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        id_ = (await service.jobs.submit(job(hold=True))).job.id
        await trio.sleep(60)
        assert (await service.jobs.get(id_)).wait_reason == "held"
        await service.jobs.release(id_)
        assert (await service.jobs.wait(id_, 1)).job.state is JobState.COMPLETED


async def test_a_job_does_not_run_before_its_time(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        id_ = (await service.jobs.submit(job(not_before=500))).job.id
        await trio.sleep(499)
        view = await service.jobs.get(id_)
        assert (view.wait_reason, view.wait_until) == ("not_before", EPOCH + 500)
        done = (await service.jobs.wait(id_)).job
        assert done.started_at == EPOCH + 500


@pytest.mark.parametrize("latency", [0.0, 100.0], ids=["waiting", "running"])
async def test_a_job_ends_with_its_deadline(autojump_clock, latency) -> None:
    provider = mock("a", MockScript(latency=latency))
    async with running(mock_config("a"), a=provider) as (service, _):
        if not latency:
            await service.jobs.pause()
        id_ = (await service.jobs.submit(job(deadline=30))).job.id
        done = (await service.jobs.wait(id_)).job
        assert done.state is JobState.EXPIRED
        assert done.finished_at == EPOCH + 30


async def test_a_deadline_can_be_moved_while_the_job_runs(autojump_clock) -> None:
    provider = mock("a", MockScript(latency=100.0))
    async with running(mock_config("a"), a=provider) as (service, _):
        id_ = (await service.jobs.submit(job(deadline=30))).job.id
        await trio.sleep(20)
        await service.jobs.patch(id_, deadline=EPOCH + 1000)
        done = (await service.jobs.wait(id_)).job
        assert (done.state, done.finished_at) == (JobState.COMPLETED, EPOCH + 100)
        assert len(await service.jobs.attempts(id_)) == 1


async def test_a_pause_begins_nothing_and_lets_the_running_end(autojump_clock) -> None:
    config = mock_config("a", max_concurrency=1)
    async with running(config, a=mock("a", SLOW)) as (service, _):
        ids = [(await service.jobs.submit(job(str(n)))).job.id for n in range(3)]
        await trio.sleep(1)
        await service.pause_queue(paused=True)
        await trio.sleep(100)
        views = [await service.jobs.get(id_) for id_ in ids]
        assert [v.job.state for v in views] == ["completed", "available", "available"]
        assert [v.wait_reason for v in views] == [None, "paused", "paused"]
        assert [v.job.attempt for v in views] == [1, 0, 0]
        await service.pause_queue(paused=False)
        for id_ in ids:
            assert (await service.jobs.wait(id_)).job.state is JobState.COMPLETED


async def test_the_same_key_is_the_same_job(autojump_clock) -> None:
    me = Submitter(uid=1, gid=1, pid=1)
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        first = await service.jobs.submit(job(idempotency_key="k", submitter=me))
        again = await service.jobs.submit(job(idempotency_key="k", submitter=me))
        assert (again.job.id, again.created) == (first.job.id, False)
        with pytest.raises(Conflict):
            await service.jobs.submit(job("x", idempotency_key="k", submitter=me))


async def test_what_nobody_serves_is_refused_at_once(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        with pytest.raises(ModelNotFound):
            await service.jobs.submit(job(model="gpt-9"))
        with pytest.raises(NotFound):
            await service.jobs.get("job_none")


async def test_while_draining_no_job_is_taken_and_none_begun(autojump_clock) -> None:
    config = mock_config("a", max_concurrency=1)
    async with running(config, a=mock("a", SLOW)) as (service, _):
        ids = [(await service.jobs.submit(job(str(n)))).job.id for n in range(3)]
        await trio.sleep(1)
        service.drain()
        with pytest.raises(Draining):
            await service.jobs.submit(job())
        await service.jobs.board.wait_idle()
        states = [(await service.jobs.get(id_)).job.state for id_ in ids]
        assert states == ["completed", "available", "available"]
        assert trio.current_time() == 10.0


async def test_one_slow_provider_delays_no_other(autojump_clock) -> None:
    config = mock_config("slow", max_concurrency=2)
    quick = ProviderConfig(name="quick", adapter="mock", max_concurrency=2)
    config.providers["quick"] = quick
    slow = mock("slow", MockScript(latency=1000.0))
    fast = type(slow)("quick", MockScript(latency=1.0), models=("fast-*",))
    async with running(config, slow=slow, quick=fast) as (service, _):
        for n in range(50):
            await service.jobs.submit(job(str(n), priority="high"))
        ids = [
            (await service.jobs.submit(job(model="fast-1", priority="low"))).job.id
            for _ in range(10)
        ]
        for id_ in ids:
            await service.jobs.wait(id_)
        assert trio.current_time() == 5.0
        assert len(service.jobs.board) == 3


async def test_cancelled_while_the_attempt_is_written_down_nothing_is_sent(
    autojump_clock,
) -> None:
    asked = []
    provider = mock("a")
    complete = provider.complete

    async def counted(request):
        asked.append(request)
        return await complete(request)

    provider.complete = counted  # type: ignore[method-assign]
    store = MemoryStore()
    begin = store.begin_attempt

    async def slow_disk(*args, **kwargs):
        record = await begin(*args, **kwargs)
        await trio.sleep(1)  # committed, but nobody has heard of it yet
        return record

    store.begin_attempt = slow_disk  # type: ignore[method-assign]
    async with running(mock_config("a"), store, a=provider) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(0.5)
        await service.jobs.cancel(id_)
        await trio.sleep(60)
        assert not asked
        [attempt] = await service.jobs.attempts(id_)
        assert attempt.settlement is not None
        assert attempt.settlement.cost == 0
        assert (await service.jobs.get(id_)).job.attempt == 0


async def test_a_pause_survives_a_restart(autojump_clock) -> None:
    store = MemoryStore()
    async with running(mock_config("a"), store, a=mock("a")) as (service, _):
        await service.pause_queue(paused=True)
        id_ = (await service.jobs.submit(job())).job.id
    async with running(mock_config("a"), store, a=mock("a")) as (service, _):
        await trio.sleep(60)
        assert (await service.jobs.get(id_)).wait_reason == "paused"
        await service.pause_queue(paused=False)
        assert (await service.jobs.wait(id_, 1)).job.state is JobState.COMPLETED


async def test_a_job_that_nobody_serves_any_more_ends_with_that_word(
    autojump_clock,
) -> None:
    store = MemoryStore()
    async with running(mock_config("a"), store, a=mock("a")) as (service, _):
        await service.jobs.pause()
        ids = [(await service.jobs.submit(job(str(n)))).job.id for n in range(20)]
    other = MockProvider("a", models=("other-*",))
    async with running(mock_config("a"), store, a=other) as (service, _):
        await service.jobs.resume()
        for id_ in ids:
            done = (await service.jobs.wait(id_, 5)).job
            assert (done.state, done.attempt) == (JobState.DISCARDED, 0)
            assert done.errors[-1].code == "model_not_found"
