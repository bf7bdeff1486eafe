"""Many submitters, one commit; and the event loop never waits for the disk."""

from __future__ import annotations

import threading
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from duckservice.errors import DuckError, NotFound
from duckservice.store.base import Finish, Inserted, StoreUnavailable
from duckservice.store.sqlite import open_sqlite
from duckservice.store.sqlite_thread import GROUP_MAX

from .conformance import NOW, Jobs, begin, claim_one, cost
from .crash_child import DATABASE


@attrs.define
class SlowDisk:
    """Holds every commit up until it is told to go on, and counts them."""

    slow: bool = False
    commits: int = 0
    _arrived: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(0))
    _go_on: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(0))

    def __call__(self, step: str) -> None:
        if step == "commit":
            self.commits += 1
            if self.slow:
                self._arrived.release()
                assert self._go_on.acquire(timeout=20)

    async def wait_commit(self) -> None:
        """Wait until the writer is about to commit."""
        await trio.to_thread.run_sync(self._arrived.acquire)

    def speed_up(self) -> None:
        self.slow = False
        self._go_on.release()


@pytest.fixture
def disk():
    return SlowDisk()


@pytest.fixture
async def store(tmp_path: Path, disk):
    async with open_sqlite(tmp_path / DATABASE, fault=disk) as store:
        yield store


@pytest.fixture
def jobs():
    return Jobs()


async def test_while_a_commit_takes_long_other_tasks_run_and_others_read(
    store, jobs, disk
):
    there = await jobs.insert(store)
    disk.slow = True
    slow = jobs.make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.insert, [slow])
        await disk.wait_commit()
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert await store.get(there.id) == there
        assert (await store.counts())["available"] == 1
        with pytest.raises(NotFound):
            await store.get(slow.job.id)
        assert nursery.child_tasks, "it is not acknowledged yet"
        disk.speed_up()
    assert await store.get(slow.job.id) == slow.job


async def test_who_comes_while_the_disk_is_busy_shares_the_next_commit(
    store, jobs, disk
):
    disk.slow, disk.commits = True, 0
    outcomes = list[object]()

    async def submit():
        outcomes.extend(await store.insert([jobs.make()]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit)
        await disk.wait_commit()
        for _ in range(200):
            nursery.start_soon(submit)
        await trio.testing.wait_all_tasks_blocked()
        assert outcomes == []
        disk.speed_up()
    assert disk.commits == 2
    assert len(outcomes) == 201
    assert all(isinstance(outcome, Inserted) for outcome in outcomes)


async def test_a_group_is_bounded(store, jobs, disk):
    disk.slow, disk.commits = True, 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.insert, [jobs.make()])
        await disk.wait_commit()
        for _ in range(GROUP_MAX + 1):
            nursery.start_soon(store.set_flag, "f", "x")
        await trio.testing.wait_all_tasks_blocked()
        disk.speed_up()
    assert disk.commits == 3


async def test_who_is_cancelled_while_waiting_goes_at_once_and_harms_nobody(
    store, jobs, disk
):
    disk.slow = True
    begun, late, other = jobs.make(), jobs.make(), jobs.make()
    async with trio.open_nursery() as others:
        async with trio.open_nursery() as cancelled:
            cancelled.start_soon(store.insert, [begun])
            await disk.wait_commit()
            cancelled.start_soon(store.insert, [late])
            others.start_soon(store.insert, [other])
            await trio.testing.wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
        assert len(others.child_tasks) == 1
        disk.speed_up()
    assert await store.get(begun.job.id) == begun.job, "it was on its way"
    with pytest.raises(NotFound):
        await store.get(late.job.id)
    assert await store.get(other.job.id) == other.job


async def test_what_was_asked_for_is_done_before_the_store_is_closed(
    tmp_path, jobs, disk
):
    path = tmp_path / "other" / DATABASE
    new, read_on = jobs.make(), threading.Event()
    async with open_sqlite(path, fault=disk) as store, trio.open_nursery() as nursery:
        disk.slow = True
        nursery.start_soon(store.insert, [new])
        await disk.wait_commit()
        nursery.start_soon(store.reading.run, lambda _: read_on.wait(20))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(store.aclose)
        await trio.testing.wait_all_tasks_blocked()
        for ask in (store.insert([jobs.make()]), store.get(new.job.id), store.counts()):
            with pytest.raises(StoreUnavailable, match="closed"):
                await ask
        read_on.set()
        disk.speed_up()
    async with open_sqlite(path) as store:
        assert await store.get(new.job.id) == new.job


async def test_a_store_leaves_no_thread_behind(tmp_path):
    path = tmp_path / "other" / DATABASE
    before = set(threading.enumerate())

    def left() -> set[threading.Thread]:
        return {t for t in threading.enumerate() if "store" in t.name} - before

    async with open_sqlite(path):
        assert len(left()) == 2
        with pytest.raises(StoreUnavailable, match="in use"):
            async with open_sqlite(path):
                pass
    for thread in left():
        thread.join(5)
    assert not left()


async def test_an_opening_that_is_cancelled_unlocks_the_database(tmp_path):
    path = tmp_path / "other" / DATABASE
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_sqlite(path):
            pass
    assert scope.cancelled_caught
    async with open_sqlite(path) as store:
        assert (await store.check()).ok


async def test_what_many_ask_for_in_one_pass_of_the_scheduler_shares_a_commit(
    store, jobs, disk
):
    # After a group of one the next is handed over at once; here is one of two.
    disk.slow = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.insert, [jobs.make()])
        await disk.wait_commit()
        nursery.start_soon(store.insert, [jobs.make()])
        nursery.start_soon(store.insert, [jobs.make()])
        await trio.testing.wait_all_tasks_blocked()
        disk.speed_up()
    disk.commits = 0
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(store.insert, [jobs.make()])
    assert disk.commits == 1


async def test_what_a_transaction_took_back_is_not_taken_for_written(store, jobs, disk):
    job = await jobs.insert(store)
    claimed = await claim_one(store)
    disk.slow = True
    errors = list[DuckError]()

    async def bad() -> None:
        try:
            await store.insert([jobs.make(), jobs.make(tags={"t": "\ud800"})])
        except DuckError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.set_flag, "busy", "yes")
        await disk.wait_commit()
        nursery.start_soon(begin, store, claimed)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(bad)
        await trio.testing.wait_all_tasks_blocked()
        disk.speed_up()
    assert errors
    assert await store.append_deltas(claimed.lease, f"{job.id}.1", [b"a"]) == 1
    done = await store.end(
        claimed.lease,
        Finish(result=b"{}"),
        NOW,
        settled=(f"{job.id}.1", cost(7)),
    )
    assert (done.attempt, done.cost) == (1, 7)
    assert await store.get(job.id) == done
    assert len(await store.attempts(job.id)) == 1
