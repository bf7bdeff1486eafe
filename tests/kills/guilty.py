"""Three daemons that must be found guilty: what the judge sees is shown to be seen.

    python -m tests.kills.guilty accepts-early   a 202 goes out before its commit
    python -m tests.kills.guilty repeats         ``on_interrupt = fail`` is forgotten
    python -m tests.kills.guilty reserves-late   a call is sent before its reservation is
                                                 committed

Everything else about them is as in ``duckd``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import attrs
import trio

from duckservice.core import job as life
from duckservice.core.job import Job
from duckservice.money.ledger import LedgerBuffer
from duckservice.start import main
from duckservice.store.job_values import Inserted, InsertOutcome, NewJob
from duckservice.store.ledger_store import LedgerEntry
from duckservice.store.sqlite_jobs import SqliteJobs

MOMENT = 0.05
"""Seconds from the 202 to the commit, as if commits were gathered, and nobody waited."""
committing, rescuing = SqliteJobs.insert, life.rescue


async def insert(
    store: SqliteJobs, jobs: Sequence[NewJob], *, unfinished_max: int | None = None
) -> tuple[InsertOutcome, ...]:
    """Say that they are inserted; insert them soon."""

    async def commit() -> None:
        await trio.sleep(MOMENT)
        await committing(store, jobs, unfinished_max=unfinished_max)

    trio.lowlevel.spawn_system_task(commit)
    return tuple(Inserted(new.job) for new in jobs)


def rescue(job: Job, now: float, **more: Any) -> Job:
    """Have it run again, whatever was wished."""
    rescued = rescuing(attrs.evolve(job, on_interrupt="retry"), now, **more)
    return attrs.evolve(rescued, on_interrupt=job.on_interrupt)


async def reserve(ledger: LedgerBuffer, entry: LedgerEntry) -> None:
    """Have the reservation written with the next of the others."""
    ledger.add(entry)


if __name__ == "__main__":
    match sys.argv.pop(1):
        case "accepts-early":
            SqliteJobs.insert = insert  # type: ignore[method-assign, assignment]
        case "repeats":
            life.rescue = rescue
        case "reserves-late":
            LedgerBuffer.open = reserve  # type: ignore[method-assign, assignment]
        case crime:
            sys.exit(f"nobody knows how to do {crime!r}")
    main()
