"""What is kept, for how long, and what operators learn of a store that fails."""

from __future__ import annotations

import attrs
import pytest
import trio

from duckservice.actors.store_keeper import KEPT_LEAST, PRUNE_EVERY, shorter
from duckservice.config import RetentionConfig, StoreConfig
from duckservice.core.job import JobState
from duckservice.errors import NotFound, RequestTooLarge, Unavailable
from duckservice.events import StoreFailed, StorePruned, StoreRecovered
from duckservice.providers.mock_script import MockScript
from duckservice.store.base import KEY_KEPT, Health, Retention, StoreUnavailable
from duckservice.store.memory import open_memory
from duckservice.store_room import StoreRoom
from duckservice.store_slot import StoreSlot
from tests.jobs.conftest import job, mock, running
from tests.service.conftest import mock_config

HOUR = 3600.0
DAY = 24 * HOUR
FULL = "the disk is full: make room"


class FailingStore:
    """A store that can be told to fail, and how full it is."""

    def __init__(self, store):
        self.store = store
        self.failing = False
        self.may_recover = True
        self.used = None

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            if self.failing and name == "check":
                return Health(ok=False, detail=FULL, may_recover=self.may_recover)
            if self.failing:
                raise StoreUnavailable(FULL, may_recover=self.may_recover)
            found = await getattr(self.store, name)(*args, **kwargs)
            if name == "statistics":
                return attrs.evolve(found, used=self.used)
            return found

        return call


@pytest.fixture
async def store():
    async with open_memory() as opened:
        yield FailingStore(opened)


def storing(store: StoreConfig):
    return attrs.evolve(mock_config("a"), store=store)


def kept(**retention):
    return storing(StoreConfig(retention=RetentionConfig(**retention)))


def told(events, kind):
    return [event for event in events if isinstance(event, kind)]


async def gone_after(service, name, *, within) -> float:
    """Return the seconds after which a job is not there any more."""
    since = trio.current_time()
    while trio.current_time() < since + within:
        try:
            await service.jobs.get(name)
        except NotFound:
            return trio.current_time() - since
        await trio.sleep(PRUNE_EVERY / 4)
    raise AssertionError("it is still there")


@pytest.mark.parametrize("final", ["completed", "discarded", "cancelled", "expired"])
async def test_a_job_is_kept_as_long_as_its_final_state_says(
    store, final, autojump_clock
):
    names = ("completed", "discarded", "cancelled", "expired")
    retention = dict.fromkeys(names, 20 * HOUR) | {final: 2 * HOUR}
    script = MockScript(failure_rate=1.0 if final == "discarded" else 0.0)
    async with running(kept(**retention), store, a=mock("a", script)) as (service, log):
        its = job(hold=final in ("cancelled", "expired"), max_attempts=1)
        if final == "expired":
            its = attrs.evolve(its, deadline=1_000_000.0 + trio.current_time() + 5)
        submitted = (await service.jobs.submit(its)).job.id
        if final == "cancelled":
            await service.jobs.cancel(submitted)
        done = await service.jobs.wait(submitted, DAY)
        assert done.job.state is JobState(final)
        took = await gone_after(service, submitted, within=5 * HOUR)
        assert 2 * HOUR - 60 <= took <= 2 * HOUR + 2 * PRUNE_EVERY
        assert told(log, StorePruned)[-1].jobs == 1


@pytest.mark.slow  # a week passes, five seconds at a time
async def test_an_idempotency_key_holds_for_seven_days_however_short_jobs_are_kept(
    store, autojump_clock
):
    config = kept(completed=HOUR, streams=60.0)
    async with running(config, store, a=mock("a")) as (service, _):
        its = job(idempotency_key="k")
        first = await service.jobs.submit(its)
        await service.jobs.wait(first.job.id, 60)
        await trio.sleep(KEY_KEPT - 60)
        again = await service.jobs.submit(its)
        assert (again.created, again.job.id) == (False, first.job.id)
        await gone_after(service, first.job.id, within=DAY)
        assert (await service.jobs.submit(its)).created


async def test_many_old_jobs_are_deleted_a_few_at_a_time(store, autojump_clock):
    limits = list[int]()
    prune = store.store.prune

    async def counted(retention, now, *, limit):
        limits.append(limit)
        return await prune(retention, now, limit=limit)

    store.store.prune = counted
    async with running(kept(completed=7200.0), store, a=mock("a")) as (service, log):
        jobs = [job(str(number)) for number in range(350)]
        submitted = await service.jobs.submit_many(jobs)
        for one in submitted:
            await service.jobs.wait(one.job.id, 600)
        await gone_after(service, submitted[-1].job.id, within=DAY)
        assert max(limits) <= 100
        assert sum(event.jobs for event in told(log, StorePruned)) == 350
        assert len(told(log, StorePruned)) <= 2, "what belongs together is told once"


async def test_fewer_are_deleted_at_a_time_where_it_takes_long(store, autojump_clock):
    limits = list[int]()
    prune = store.store.prune

    async def slow(retention, now, *, limit):
        limits.append(limit)
        await trio.sleep(limit * 0.001)
        return await prune(retention, now, limit=limit)

    store.store.prune = slow
    async with running(kept(completed=7200.0), store, a=mock("a")) as (service, _):
        jobs = [job(str(number)) for number in range(300)]
        for one in await service.jobs.submit_many(jobs):
            await service.jobs.wait(one.job.id, 600)
        await gone_after(service, one.job.id, within=DAY)
        assert {limit for limit in limits[-5:] if limit > 50} == set()
        assert min(limits) >= 12, "and not fewer than need be"


async def test_a_store_that_fails_is_told_once_and_once_when_it_works_again(
    store, autojump_clock
):
    async with running(kept(), store, a=mock("a")) as (service, log):
        assert (await service.status())["store"]["ok"]
        store.failing = True
        for _ in range(5):
            with pytest.raises(Unavailable, match="full"):
                await service.jobs.submit(job())
            with pytest.raises(Unavailable, match="full"):
                await service.ready()
            await trio.sleep(3)
        [failed] = told(log, StoreFailed)
        assert (failed.reason, failed.may_recover) == (FULL, True)
        shown = (await service.status())["store"]
        assert (shown["ok"], shown["detail"]) == (False, FULL)
        assert not told(log, StoreRecovered)
        store.failing = False
        await trio.sleep(2)  # nobody asks for anything
        [recovered] = told(log, StoreRecovered)
        assert 15 <= recovered.failed_for <= 20
        assert (await service.status())["store"]["ok"]
        assert await service.ready()
        store.failing = True
        with pytest.raises(Unavailable):
            await service.jobs.submit(job())
        assert len(told(log, StoreFailed)) == 2


async def test_damage_after_a_mere_failure_is_told_too(store, autojump_clock):
    async with running(kept(), store, a=mock("a")) as (service, log):
        store.failing = True
        await trio.sleep(10)
        store.may_recover = False
        await trio.sleep(10)
        assert [event.may_recover for event in told(log, StoreFailed)] == [True, False]
        assert (await service.status())["store"]["may_recover"] is False
        store.failing = False
        await trio.sleep(10)
        assert not told(log, StoreRecovered), "what was written elsewhere heals nothing"
        with pytest.raises(Unavailable, match="full"):
            await service.jobs.submit(job())
        with pytest.raises(Unavailable, match="full"):
            await service.ready()
        await service.restart_actor("store")
        await trio.sleep(10)
        assert len(told(log, StoreRecovered)) == 1, "it was opened anew"
        await service.jobs.submit(job())


async def test_the_end_of_the_service_is_no_failure_of_its_store(autojump_clock):
    log, sent_away = list[object](), list[str]()
    slot = StoreSlot(open_memory, log.append)

    async def wait() -> None:
        try:
            with trio.fail_after(10):
                await slot.store.wait_for_work(10**6)
        except StoreUnavailable as error:
            sent_away.append(error.message)

    async with trio.open_nursery() as nursery, trio.open_nursery() as life:
        await life.start(slot.run, trio.lowlevel.checkpoint)
        nursery.start_soon(wait)
        await trio.sleep(1)
        life.cancel_scope.cancel()
    assert sent_away, "who waited was told"
    assert not log


async def test_a_store_that_hangs_holds_up_neither_readiness_nor_status(
    store, autojump_clock
):
    async with running(kept(), store, a=mock("a")) as (service, _):
        works = store.store

        class Hanging:
            def __getattr__(self, name):
                if name in ("check", "statistics"):
                    return trio.sleep_forever
                return getattr(works, name)

        store.store = Hanging()
        with pytest.raises(Unavailable, match="the store did not answer within 2 s"):
            await service.ready()
        assert "did not answer" in (await service.status())["store"]["detail"]
        store.store = works


async def test_a_root_supervisor_that_does_not_run_is_not_ready(autojump_clock):
    async with running(kept(), a=mock("a")) as (service, _):
        assert await service.ready()
        root, service.root = service.root, None
        with pytest.raises(Unavailable, match="root supervisor"):
            await service.ready()
        service.root = root
    with pytest.raises(Unavailable):
        await service.ready()


# Room.


async def test_a_store_that_is_too_full_takes_no_jobs_until_there_is_room(
    store, autojump_clock
):
    config = storing(StoreConfig(max_bytes=1 << 20))
    async with running(config, store, a=mock("a")) as (service, _):
        store.used = 1 << 20
        await trio.sleep(10)
        with pytest.raises(Unavailable, match=r"store\.max_bytes") as refused:
            await service.jobs.submit(job())
        assert refused.value.retry_after
        assert (await service.status())["store"]["full"] is True
        store.used = (1 << 20) - 1
        await trio.sleep(10)
        submitted = await service.jobs.submit(job())
        done = await service.jobs.wait(submitted.job.id, 10)
        assert done.job.state is JobState.COMPLETED


async def test_a_store_that_is_too_full_keeps_what_is_over_for_shorter_not_what_waits(
    store, autojump_clock
):
    config = storing(StoreConfig(max_bytes=1 << 20))
    async with running(config, store, a=mock("a")) as (service, _):
        over = (await service.jobs.submit(job())).job.id
        keyed = (await service.jobs.submit(job(idempotency_key="k"))).job.id
        waits = (await service.jobs.submit(job(hold=True))).job.id
        await service.jobs.wait(over, 10)
        await service.jobs.wait(keyed, 10)
        store.used = 2 << 20
        await trio.sleep(KEPT_LEAST - 300)
        await service.jobs.get(over)
        took = await gone_after(service, over, within=DAY)
        assert took < 2 * PRUNE_EVERY, "kept for an hour, and not for 7 days"
        await trio.sleep(DAY)
        await service.jobs.get(keyed)
        await service.jobs.get(waits)


def test_what_is_kept_for_shorter_is_never_kept_for_longer():
    its = Retention(completed=8 * 3600.0, discarded=60.0, deltas=KEPT_LEAST, ledger=9.0)
    found = shorter(its, 0.5)
    assert (found.completed, found.discarded) == (4 * 3600.0, 60.0)
    assert (found.deltas, found.ledger) == (KEPT_LEAST, 9.0)
    assert shorter(its, 0.001).completed == KEPT_LEAST
    assert shorter(its, 1.0) == its


async def test_a_burst_does_not_get_past_the_limit_before_the_next_look(autojump_clock):
    its = job("x" * 1000)
    room = StoreRoom(StoreConfig(max_bytes=10 * len(its.request)))
    room.measured(0)
    for _ in range(10):
        room.take([its])
    with pytest.raises(Unavailable):
        room.take([its])
    room.measured(0)
    room.take([its])
    room.measured(None)
    room.take([its] * 100)


async def test_a_request_that_is_too_large_is_refused_with_the_limit(autojump_clock):
    its = job("x" * 2000)
    limit = len(its.request)
    config = storing(StoreConfig(max_request=limit))
    async with running(config, a=mock("a")) as (service, _):
        await service.jobs.submit(its)
        larger = attrs.evolve(its, request=its.request + b" ")
        with pytest.raises(RequestTooLarge, match=r"store\.max_request") as refused:
            await service.jobs.submit(larger)
        assert str(limit) in refused.value.message


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_that_is_too_large_to_be_kept_fails_its_job_with_the_limit(
    autojump_clock, stream
):
    words = " ".join(f"word-{number}" for number in range(400))
    script = MockScript(chunk_interval=0.1 if stream else 0.0)
    config = storing(StoreConfig(max_result=1500))
    async with running(config, a=mock("a", script)) as (service, _):
        small = await service.jobs.submit(job("small", stream=stream))
        large = await service.jobs.submit(job(words, stream=stream))
        found = (await service.jobs.wait(small.job.id, 600)).job
        assert found.state is JobState.COMPLETED
        done = (await service.jobs.wait(large.job.id, 600)).job
        assert done.state is JobState.DISCARDED
        assert done.errors[-1].code == "unprocessable"
        assert "store.max_result" in done.errors[-1].message
        [attempt] = await service.jobs.attempts(done.id)
        assert attempt.state == "settled"
        assert done.cost > 0, "it was paid for"
        read = await service.jobs.store.read_deltas(done.id, after=0, limit=1000)
        assert sum(len(delta.data) for delta in read.items) < 3000


async def test_an_embedding_that_is_too_large_fails_its_job(autojump_clock):
    config = storing(StoreConfig(max_result=1024))
    async with running(config, a=mock("a")) as (service, _):
        large = job(request={"model": "mock-1", "input": ["x"] * 500}, kind="embedding")
        done = await service.jobs.wait((await service.jobs.submit(large)).job.id, 600)
        assert done.job.state is JobState.DISCARDED
        assert "store.max_result" in done.job.errors[-1].message
