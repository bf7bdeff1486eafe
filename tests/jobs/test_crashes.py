"""Nothing is lost, whoever crashes; and nothing is done that must not be repeated."""

from __future__ import annotations

import pytest
import trio

from duckservice.core.job import JobState
from duckservice.errors import Unavailable
from duckservice.providers.mock_script import MockScript
from duckservice.running import open_running
from duckservice.store.base import StoreUnavailable
from duckservice.store.memory import MemoryStore
from duckservice.tree import Seams
from tests.jobs.conftest import EPOCH, job, mock, running, wall_clock
from tests.service.conftest import mock_config

SLOW = MockScript(latency=10.0)


class FlakyStore:
    """A store in memory that can be told to fail, as a full disk does."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self.down = False

    def __getattr__(self, name):
        real = getattr(self._store, name)
        if not self.down:
            return real
        if name in ("wait_for_work", "aclose"):
            return real
        msg = "no space left on the device"
        raise StoreUnavailable(msg, may_recover=True)


@pytest.mark.parametrize(
    "path",
    [
        "dispatcher",
        "dispatcher/jobs",
        "dispatcher/dispatcher",
        "dispatcher/news",
        "store",
        "request_queue",
        "providers/a/client",
    ],
)
async def test_a_crash_loses_no_job(autojump_clock, path) -> None:
    config = mock_config("a", max_concurrency=2)
    async with running(config, a=mock("a", SLOW)) as (service, _):
        ids = [(await service.jobs.submit(job(str(n)))).job.id for n in range(6)]
        for _ in range(3):
            await trio.sleep(3)
            await service.restart_actor(path)
        for id_ in ids:
            done = (await service.jobs.wait(id_, 100)).job
            assert done.state is JobState.COMPLETED
            assert not done.poisoned
        assert len(service.jobs.board) == 0


async def test_a_crash_of_a_task_has_its_job_run_again(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a", SLOW)) as (service, _):
        ids = [(await service.jobs.submit(job(str(n)))).job.id for n in range(2)]
        await trio.sleep(3)
        await service.restart_actor(f"dispatcher/jobs/{ids[0]}")
        done = [(await service.jobs.wait(id_)).job for id_ in ids]
        assert [d.state for d in done] == [JobState.COMPLETED] * 2
        assert [d.finished_at for d in done] == [EPOCH + 13.0, EPOCH + 10.0]
        assert done[0].attempt == 1


async def test_a_job_that_crashes_its_processor_is_poisoned(autojump_clock) -> None:
    provider = mock("a")
    complete = provider.complete

    async def crash(request):
        if request.messages[0].parts[0].text == "poison":
            msg = "a bug"
            raise ZeroDivisionError(msg)
        return await complete(request)

    provider.complete = crash  # type: ignore[method-assign]
    async with running(mock_config("a"), a=provider) as (service, events):
        bad = (await service.jobs.submit(job("poison"))).job.id
        good = [(await service.jobs.submit(job(str(n)))).job.id for n in range(5)]
        done = (await service.jobs.wait(bad, 100)).job
        assert (done.state, done.poisoned, done.crashes) == ("discarded", True, 3)
        assert done.finished_at == EPOCH
        for id_ in good:
            assert (await service.jobs.wait(id_, 100)).job.state == "completed"
        assert service.root is not None
        assert sum("ChildTerminated" in type(e).__name__ for e in events) == 3


@pytest.mark.parametrize("wish", ["retry", "fail"])
async def test_what_was_in_flight_at_a_kill_follows_the_wish(
    autojump_clock, wish
) -> None:
    store = MemoryStore()
    config = mock_config("a")
    async with running(config, store, a=mock("a", SLOW)) as (service, _):
        id_ = (await service.jobs.submit(job(on_interrupt=wish))).job.id
        await trio.sleep(3)
        # Killed: no last word of the task comes through.
        service.jobs.board.paused = True
        for its in service.jobs.board:
            its.stop_reason = "gone"
        for its in service.jobs.board:
            its.scope.cancel()
        assert len(service.jobs.board) == 1
        store_end = store.settle_attempt

        async def lost(*_a, **_k):
            await trio.sleep_forever()

        store.settle_attempt = lost  # type: ignore[method-assign]
        await trio.sleep(0.1)
    store.settle_attempt = store_end  # type: ignore[method-assign]
    restarted = trio.current_time()
    async with running(config, store, a=mock("a", SLOW)) as (service, _):
        done = (await service.jobs.wait(id_, 100)).job
        assert done.maybe_billed
        assert done.state == ("completed" if wish == "retry" else "discarded")
        # At once, and not only when the lease has ended.
        assert trio.current_time() == restarted + (10.0 if wish == "retry" else 0.0)
        assert len(await service.jobs.attempts(id_)) == (2 if wish == "retry" else 1)


@pytest.mark.parametrize("wish", ["retry", "fail"])
async def test_a_stop_in_flight_uses_up_no_attempt(autojump_clock, wish) -> None:
    store = MemoryStore()
    config = mock_config("a")
    async with running(config, store, a=mock("a", SLOW)) as (service, _):
        id_ = (await service.jobs.submit(job(on_interrupt=wish))).job.id
        await trio.sleep(3)
    its = await store.get(id_)
    if wish == "fail":
        assert (its.state, its.maybe_billed, its.crashes) == ("discarded", True, 0)
        return
    assert (its.state, its.attempt, its.crashes) == ("available", 0, 0)
    async with running(config, store, a=mock("a", SLOW)) as (service, _):
        done = (await service.jobs.wait(id_, 100)).job
        assert (done.state, done.attempt) == ("completed", 1)


async def test_while_the_store_cannot_write_nothing_is_taken_and_results_wait(
    autojump_clock,
) -> None:
    store = FlakyStore()
    async with running(mock_config("a"), store, a=mock("a", SLOW)) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(5)
        store.down = True
        with pytest.raises(Unavailable):
            await service.jobs.submit(job())
        with pytest.raises(Unavailable):
            await service.ready()
        await trio.sleep(100)
        assert len(service.jobs.board) == 1
        store.down = False
        done = (await service.jobs.wait(id_, 10)).job
        assert (done.state, done.attempt) == ("completed", 1)
        await service.ready()
        other = (await service.jobs.submit(job())).job.id
        assert (await service.jobs.wait(other, 100)).job.state == "completed"


async def test_a_late_result_of_a_lost_lease_is_refused(autojump_clock) -> None:
    store = MemoryStore()
    async with running(mock_config("a"), store, a=mock("a", SLOW)) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(1)
        # Somebody else takes the job for lost.
        [lost] = await store.rescue_expired(wall_clock() + 1000)
        assert lost.id == id_
        done = (await service.jobs.wait(id_, 100)).job
        assert done.state == "completed"
        assert done.crashes == 1
        attempts = await service.jobs.attempts(id_)
        assert len(attempts) == 2
        await trio.sleep(20)
        assert [a.state for a in await service.jobs.attempts(id_)] == ["settled"] * 2
        assert (await service.jobs.get(id_)).job.cost == sum(
            a.settlement.cost for a in await service.jobs.attempts(id_)
        )


async def test_a_job_that_takes_long_is_not_taken_for_lost(autojump_clock) -> None:
    slow = mock("a", MockScript(latency=200.0))
    async with running(mock_config("a"), a=slow) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        done = (await service.jobs.wait(id_)).job
        assert (done.state, done.crashes, done.attempt) == ("completed", 0, 1)
        assert done.finished_at == EPOCH + 200.0


async def test_a_clock_that_jumps_ahead_costs_nobody_a_job(autojump_clock) -> None:
    store, jump = MemoryStore(), 0.0
    seams = Seams(wall_clock=lambda: wall_clock() + jump, emit=lambda _: None)
    providers = {"a": mock("a", MockScript(latency=50.0))}
    async with open_running(
        mock_config("a"), providers=providers, seams=seams, store=store
    ) as service:
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(15)
        jump = 86_400.0
        done = (await service.jobs.wait(id_)).job
        assert (done.state, done.crashes, done.attempt) == ("completed", 0, 1)


async def test_a_claim_that_nobody_knows_of_ends_with_its_lease(autojump_clock) -> None:
    store = MemoryStore()
    async with running(mock_config("a"), store, a=mock("a")) as (service, _):
        await service.jobs.pause()
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(1)
        now = wall_clock()
        [claimed] = await store.claim(1, now, lease_until=now + 30)
        assert claimed.job.id == id_
        await service.jobs.resume()
        done = (await service.jobs.wait(id_)).job
        assert done.state == "completed"
        assert 31 <= trio.current_time() <= 41


async def test_a_reply_that_is_here_is_kept_whatever_stops_its_task(
    autojump_clock,
) -> None:
    store = MemoryStore()
    append = store.append_deltas

    async def slow_disk(*args):
        await trio.sleep(30)
        return await append(*args)

    store.append_deltas = slow_disk  # type: ignore[method-assign]
    async with running(mock_config("a"), store, a=mock("a")) as (service, _):
        id_ = (await service.jobs.submit(job(stream=True))).job.id
        await trio.sleep(5)
        assert (await store.get(id_)).state == "executing"
    its = await store.get(id_)
    assert (its.state, its.attempt) == ("completed", 1)
    assert len(await store.attempts(id_)) == 1


async def test_a_reply_that_is_here_is_kept_though_its_task_crashes(
    autojump_clock,
) -> None:
    store = MemoryStore()

    async def bug(*_args):
        await trio.sleep(30)
        msg = "a bug"
        raise ZeroDivisionError(msg)

    store.append_deltas = bug  # type: ignore[method-assign]
    async with running(mock_config("a"), store, a=mock("a")) as (service, _):
        id_ = (await service.jobs.submit(job(stream=True))).job.id
        done = (await service.jobs.wait(id_, 100)).job
        assert (done.state, done.attempt, done.crashes) == ("completed", 1, 0)
        assert len(await store.attempts(id_)) == 1


@pytest.mark.parametrize(
    ("error", "crashes", "attempts"),
    [
        (ZeroDivisionError("a bug"), 1, 3),
        (Unavailable("gone", provider="a"), 0, 3),
        (Unavailable("gone", provider="a"), 0, 1),
    ],
    ids=["a bug", "the client was restarted", "at the last attempt"],
)
async def test_what_was_broken_off_is_sent_to_nobody_against_the_wish(
    autojump_clock, error, crashes, attempts
) -> None:
    provider = mock("a")

    async def break_off(_request):
        await trio.sleep(3)
        raise error

    provider.complete = break_off  # type: ignore[method-assign]
    config = mock_config("a", "b")
    async with running(config, a=provider, b=mock("b")) as (service, _):
        submission = job(on_interrupt="fail", max_attempts=attempts)
        id_ = (await service.jobs.submit(submission)).job.id
        done = (await service.jobs.wait(id_, 100)).job
        assert (done.state, done.maybe_billed) == ("discarded", True)
        assert (done.attempt, done.crashes) == (1, crashes)
        assert [its.provider for its in await service.jobs.attempts(id_)] == ["a"]
