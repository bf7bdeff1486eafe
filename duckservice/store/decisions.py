"""What an engine writes down, decided once for all engines; pure.

An engine reads the rows, asks here what becomes of them, and writes that in the
same transaction.
"""

from __future__ import annotations

from typing import assert_never

import attrs

from duckservice.core import job as life
from duckservice.core.job import Job, Settlement
from duckservice.errors import Conflict, InvalidRequest, QueueFull
from duckservice.store.errors import StaleLease
from duckservice.store.job_values import (
    AttemptRecord,
    Cancel,
    Change,
    Crash,
    Expire,
    Fail,
    Finish,
    Hold,
    Lease,
    Outcome,
    Patch,
    Release,
    Retry,
    Snooze,
)
from duckservice.store.ledger_store import LedgerEntry


def changed(job: Job, change: Change, now: float) -> Job:
    """Return the job after a client's wish.

    Raises:
        IllegalTransition: its state does not allow it.
    """
    match change:
        case Cancel():
            return life.cancel(job, now)
        case Hold():
            return life.hold(job)
        case Release():
            return life.release(job, now)
        case Retry():
            return life.retry(job, now)
        case Patch():
            return life.patch(job, priority=change.priority, deadline=change.deadline)
        case _:
            assert_never(change)


def ended(
    job: Job, outcome: Outcome, now: float, *, in_flight: bool = False, lost: int = 0
) -> Job:
    """Return the job after the work on it has ended.

    *in_flight* and *lost* matter after a crash only: whether an attempt of the
    job was open, and what was reserved for those that were.
    """
    match outcome:
        case Finish():
            return life.finish(job, now)
        case Fail():
            return life.fail(job, now, outcome.error, retry_at=outcome.retry_at)
        case Snooze():
            return life.snooze(job, now, until=outcome.until, reason=outcome.reason)
        case Expire():
            return life.expire(job, now)
        case Crash():
            return life.rescue(
                job, now, in_flight=in_flight, lost=lost, blame=outcome.blame
            )
        case _:
            assert_never(outcome)


def new_attempt(
    job: Job,
    number: int,
    *,
    provider: str,
    model: str,
    reserved: int,
    now: float,
    why: str = "",
) -> tuple[Job, AttemptRecord, LedgerEntry]:
    """Return the job with an attempt begun, its record and its ledger entry.

    Raises:
        IllegalTransition: the job has used up its attempts.
    """
    begun = life.begin(job, provider=provider, model=model)
    record = AttemptRecord(
        id=f"{job.id}.{number}",
        job=job.id,
        number=number,
        provider=provider,
        model=model,
        reserved=reserved,
        began_at=now,
        why=why,
    )
    entry = LedgerEntry(
        id=record.id,
        job=job.id,
        provider=provider,
        model=model,
        tags=job.tags,
        submitter=None if job.submitter is None else job.submitter.uid,
        at=now,
        reserved=reserved,
    )
    return begun, record, entry


def settled(
    job: Job, record: AttemptRecord, settlement: Settlement, now: float
) -> tuple[Job, AttemptRecord]:
    """Return the job and its attempt's record, settled.

    Raises:
        StaleLease: it was settled already.
    """
    match record.state:
        case "open":
            job = life.settle(job, settlement)
        case "lost":
            job = life.reconcile(job, settlement, lost=record.reserved)
        case "settled":
            msg = f"attempt {record.id} was settled already"
            raise StaleLease(msg)
        case _:
            assert_never(record.state)
    done = attrs.evolve(record, state="settled", ended_at=now, settlement=settlement)
    return job, done


def settled_entry(entry: LedgerEntry, settlement: Settlement) -> LedgerEntry:
    """Return the ledger entry, settled.

    Raises:
        StaleLease: it was settled already.
    """
    if entry.state == "settled":
        msg = f"the ledger's entry {entry.id} was settled already"
        raise StaleLease(msg)
    return attrs.evolve(
        entry,
        state="settled",
        amount=settlement.cost,
        usage=settlement.usage,
        outcome=settlement.outcome,
    )


def lost_attempt(record: AttemptRecord, now: float) -> AttemptRecord:
    """Return the record of an open attempt whose processor has died."""
    return attrs.evolve(record, state="lost", ended_at=now)


def lost_entry(entry: LedgerEntry) -> LedgerEntry:
    """Return an open ledger entry whose request nobody will hear of any more."""
    return attrs.evolve(entry, state="lost", amount=entry.reserved, outcome="lost")


def stale(lease: Lease) -> StaleLease:
    """Return the error for a lease that is not valid any more."""
    return StaleLease(f"job {lease.job}: claim {lease.number} of it has ended")


def key_conflict(earlier: Job) -> Conflict:
    """Return the error for a key under which something else was submitted."""
    msg = f"the idempotency key was used for another submission: job {earlier.id}"
    error = Conflict(msg, param="Idempotency-Key")
    error.job = earlier.id
    return error


def too_many(unfinished_max: int) -> QueueFull:
    """Return the error for a job that comes on top of too many."""
    msg = f"{unfinished_max} jobs are not finished yet, which is the most (queue.max_jobs)"
    return QueueFull(msg)


def cursor_after(job: Job) -> str:
    """Return the cursor of the page that follows a page's last job."""
    return f"after:{job.id}"


def read_cursor(cursor: str) -> str:
    """Return the id of the last job of the page before.

    Raises:
        InvalidRequest: it is none of our cursors.
    """
    kind, _, job = cursor.partition(":")
    if kind != "after" or not job:
        msg = "the cursor is none that a list of jobs has given"
        raise InvalidRequest(msg, param="cursor")
    return job
