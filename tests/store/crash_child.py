"""A process that forks children which die in the middle of a store's work.

It reads one JSON list a line: a directory, a scenario, and the number of the step at
which its child dies by ``os._exit``; it prints the child's exit code. A step is a
statement of SQL on the writing connection, or one of the writer's own. It runs one
thread, so that it may fork; the modules are imported once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from duckservice.core.job import Settlement
from duckservice.store.base import (
    Cancel,
    Crash,
    Existing,
    Finish,
    Inserted,
    Lease,
    NewJob,
    Retention,
    Snooze,
    StaleLease,
    Store,
)
from duckservice.store.sqlite import open_sqlite
from duckservice.store.sqlite_session import Session

from .conformance import LEASE, NOW, Jobs, begin, claim_one, cost, failure

DIED = 9
DATABASE = "jobs.sqlite3"
GROUP = 5

Ack = Callable[[str], None]
Scenario = Callable[[Store, Ack], Awaitable[None]]


def later_jobs() -> Jobs:
    """Return a maker of jobs with other ids than those of `prepare`."""
    jobs = Jobs()
    for _ in range(100):
        jobs.make()
    return jobs


async def prepare(store: Store) -> None:
    """Bring a store into the state in which every scenario begins.

    Jobs 1 and 2 wait, 3 is claimed, 4 is in flight, 5 is over, with a stream; 6 is
    overdue and 7 is due; there is an open entry of a request that was no job.
    """
    jobs = Jobs()
    first = [jobs.make(priority="high") for _ in range(3)]
    await store.insert(first)
    _, *flying = [await claim_one(store) for _ in first]
    for claimed in flying:
        record = await begin(store, claimed)
        await store.append_deltas(claimed.lease, record.id, [b"a", b"b"])
    over = flying[-1]
    finish = Finish(result=b'{"done":1}')
    settled = (over.job.id + ".1", cost(70))
    await store.end(over.lease, finish, NOW, settled=settled)
    await store.insert([jobs.make(), jobs.make(batch="b", tags={"t": "x"})])
    await store.insert([jobs.make(deadline=NOW + 1), jobs.make(not_before=NOW + 1)])


CLAIMED, FLYING, OVER, WAITING = "job_000001", "job_000002", "job_000003", "job_000004"


def lease(job: str) -> Lease:
    return Lease(job=job, number=1, until=NOW + LEASE)


async def insert(store: Store, ack: Ack) -> None:
    new = later_jobs().make(
        idempotency_key="k", fingerprint="f", tags={"new": "lane"}, request=b"x" * 9000
    )
    (outcome,) = await store.insert([new])
    assert isinstance(outcome, Inserted | Existing)
    ack(new.job.id)


async def insert_bulk(store: Store, ack: Ack) -> None:
    jobs = later_jobs()
    await store.insert([jobs.make() for _ in range(3)])
    ack("all")


def group_jobs() -> list[NewJob]:
    jobs = later_jobs()
    return [jobs.make(request=b"%d" % number * 2000) for number in range(GROUP)]


async def insert_group(store: Store, ack: Ack) -> None:
    async def one(new: NewJob) -> None:
        await store.insert([new])
        ack(new.job.id)

    async with trio.open_nursery() as nursery:
        for new in group_jobs():
            nursery.start_soon(one, new)


async def claim(store: Store, ack: Ack) -> None:
    claimed = await store.claim(2, NOW, lease_until=NOW + LEASE)
    assert len(claimed) == 2
    ack("claimed")


async def begin_attempt(store: Store, ack: Ack) -> None:
    record = await store.begin_attempt(
        lease(CLAIMED), provider="p", model="m", reserved=40, now=NOW
    )
    ack(record.id)


async def settle(store: Store, ack: Ack) -> None:
    record = await store.settle_attempt(FLYING + ".1", cost(9), NOW + 1)
    ack(record.state)


async def finish(store: Store, ack: Ack) -> None:
    job = await store.end(
        lease(FLYING),
        Finish(result=b'{"r":"\xc3\xa9"}'),
        NOW + 1,
        settled=(FLYING + ".1", cost(9)),
    )
    ack(job.state)


async def fail(store: Store, ack: Ack) -> None:
    settled = (FLYING + ".1", Settlement(outcome="provider_error"))
    job = await store.end(
        lease(FLYING), failure(retry_at=NOW + 5), NOW + 1, settled=settled
    )
    ack(job.state)


async def snooze(store: Store, ack: Ack) -> None:
    job = await store.end(lease(CLAIMED), Snooze(until=NOW + 9, reason="paused"), NOW)
    ack(job.state)


async def crash(store: Store, ack: Ack) -> None:
    job = await store.end(lease(FLYING), Crash(), NOW + 1)
    ack(job.state)


async def stale_end(store: Store, ack: Ack) -> None:
    """Money is taken down although the lease is stale."""
    stale = Lease(job=FLYING, number=7, until=NOW)
    try:
        await store.end(
            stale, Finish(result=b"x"), NOW, settled=(FLYING + ".1", cost(9))
        )
    except StaleLease:
        ack("stale")


async def cancel(store: Store, ack: Ack) -> None:
    job = await store.change(FLYING, Cancel(), NOW + 1)
    ack(job.state)


async def rescue(store: Store, ack: Ack) -> None:
    rescued = await store.rescue_at_start(NOW + 1)
    assert len(rescued) == 2
    ack("rescued")


async def stage(store: Store, ack: Ack) -> None:
    staged = await store.stage(NOW + 2)
    assert (staged.available, len(staged.expired)) == (1, 1)
    ack("staged")


async def append(store: Store, ack: Ack) -> None:
    ack(str(await store.append_deltas(lease(FLYING), FLYING + ".1", [b"c", b"d"])))


async def prune(store: Store, ack: Ack) -> None:
    keep_nothing = Retention(completed=0, deltas=0, ledger=0)
    assert (await store.prune(keep_nothing, NOW + 1)).jobs == 1
    ack("pruned")


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        insert,
        insert_bulk,
        insert_group,
        claim,
        begin_attempt,
        settle,
        finish,
        fail,
        snooze,
        crash,
        stale_end,
        cancel,
        rescue,
        stage,
        append,
        prune,
    )
}


async def live(place: Path, scenario: str, step: int, *, before_commit: bool) -> None:
    """Run a scenario; die at that step. With 0 it is run to its end.

    *before_commit* makes a store that acknowledges before it commits.
    """
    acks = os.open(place / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    steps, counting = 0, False

    def fault(_name: str) -> None:
        nonlocal steps
        steps += counting
        if counting and steps == step:
            os._exit(DIED)

    def ack(what: str) -> None:
        os.write(acks, f"{what}\n".encode())

    async with open_sqlite(place / DATABASE, fault=fault) as store:
        counting = True
        if before_commit:
            Session.commit = lambda self: None  # type: ignore[method-assign]
        await SCENARIOS[scenario](store, ack)
        if before_commit:
            os._exit(DIED)


def in_child(place: str, scenario: str, step: int, before_commit: bool) -> None:
    code = 1
    try:
        alive = partial(live, before_commit=before_commit)
        trio.run(alive, Path(place), scenario, step)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            in_child(*json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
