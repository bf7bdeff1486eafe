"""Rows of the job table: read by id, written with all that depends on their state."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

import msgspec

from duckservice.core.job import WAITING, Job, JobState
from duckservice.core.job_order import RANKS
from duckservice.errors import NotFound
from duckservice.store.decisions import stale
from duckservice.store.job_values import Lease, NewJob
from duckservice.store.sqlite_row import Row
from duckservice.store.sqlite_session import Session

NOBODY: Final = -1
"""The owner of what has no submitter; NULLs would all differ in a UNIQUE index."""

decode_job: Final = msgspec.json.Decoder(Job).decode
encode: Final = msgspec.json.Encoder().encode

KEPT_MAX: Final = 4096
"""Of so many executing jobs the rows are kept in memory, about 1 kB each."""

_PAUSED: Final = (JobState.SCHEDULED, JobState.RETRYABLE)

_INSERT: Final = """
    INSERT INTO job (state, lane, rank, queued_at, due_at, deadline, finished_at,
        document, id, model, owner, batch, idempotency_key, tags, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (owner, idempotency_key) WHERE idempotency_key IS NOT NULL
    DO NOTHING"""
_UPDATE: Final = """
    UPDATE job SET state = ?, lane = ?, rank = ?, queued_at = ?, due_at = ?,
        deadline = ?, finished_at = ?, document = ?, lease_until = ?, claims = ?,
        attempts = ?, last_delta = ?, has_deltas = ?
    WHERE seq = ?"""
_UPDATE_EXECUTING: Final = """
    UPDATE job SET document = ?, attempts = ?, last_delta = ?, has_deltas = ?
    WHERE seq = ?"""
"""For a job that is executing before and after: nothing that an index holds changes."""
_SELECT: Final = """
    SELECT seq, document, lane, lease_until, claims, attempts, last_delta, has_deltas
    FROM job WHERE """


def insert(session: Session, new: NewJob) -> bool:
    """Insert a job; False if there is one with the same key."""
    job = new.job
    lane, state = _place(session, job)
    added = session.db.execute(
        _INSERT,
        (
            *state,
            job.id,
            job.model,
            owner_of(job),
            job.batch,
            job.idempotency_key,
            tags_text(job.tags),
            job.created_at,
        ),
    )
    if not added.rowcount:
        return False
    session.db.execute(
        "INSERT INTO request (job, body) VALUES (?, ?)", (added.lastrowid, new.request)
    )
    _count(session, job, lane, 1)
    if job.state in WAITING:
        session.effects.news = True
    return True


def write(session: Session, row: Row, job: Job) -> None:
    """Replace a row's job by what has become of it, and write the whole row."""
    executing = job.state is JobState.EXECUTING
    if executing and row.job.state is JobState.EXECUTING:
        _write_executing(session, row, job)
        return
    _count(session, row.job, row.lane, -1)
    lane, state = _place(session, job)
    row.lease_until = row.lease_until if executing else None
    session.db.execute(
        _UPDATE,
        (
            *state,
            row.lease_until,
            row.claims,
            row.attempts,
            row.last_delta,
            row.has_deltas,
            row.seq,
        ),
    )
    row.job, row.lane = job, lane
    _count(session, job, lane, 1)
    session.effects.changed.add(job.id)
    if job.state in WAITING:
        session.effects.news = True
    if executing:
        keep(session, row)
    else:
        session.executing.pop(job.id, None)


def keep(session: Session, row: Row) -> None:
    """Remember the row of an executing job, as it was written.

    Its lease may be extended later, which changes the table alone: nobody asks the row.
    """
    kept = session.executing
    kept[row.job.id] = row
    if len(kept) > KEPT_MAX:
        del kept[next(iter(kept))]


def forget(session: Session, row: Row) -> None:
    """Delete a job that is over, with all that belongs to it."""
    session.db.execute("DELETE FROM job WHERE seq = ?", (row.seq,))
    _count(session, row.job, row.lane, -1)
    session.effects.changed.add(row.job.id)
    session.executing.pop(row.job.id, None)


def get(db: sqlite3.Connection, job: str) -> Row:
    """Return the row of a job.

    Raises:
        NotFound: there is none of that id.
    """
    found = db.execute(_SELECT + "id = ?", (job,)).fetchone()
    if found is None:
        msg = f"there is no job {job}"
        raise NotFound(msg)
    return _row(found)


def current(session: Session, job: str) -> Row:
    """Return the row of a job as the transaction has it, to be changed and written.

    Raises:
        NotFound: there is none of that id.
    """
    kept = session.executing.get(job)
    return get(session.db, job) if kept is None else kept.copy()


def with_key(db: sqlite3.Connection, job: Job) -> Job | None:
    """Return the job that came earlier under the key of *job*, if one did."""
    if job.idempotency_key is None:
        return None
    found = db.execute(
        "SELECT document FROM job WHERE owner = ? AND idempotency_key = ?",
        (owner_of(job), job.idempotency_key),
    ).fetchone()
    return found and decode_job(found[0])


def select(db: sqlite3.Connection, where: str, *values: Any) -> list[Row]:
    """Return the rows for which that condition holds; it may go on after that."""
    return [_row(found) for found in db.execute(_SELECT + where, values)]


def held(session: Session, lease: Lease) -> Row | None:
    """Return the row of the job that *lease* is valid for, if it is for any."""
    try:
        row = current(session, lease.job)
    except NotFound:
        return None
    valid = row.job.state is JobState.EXECUTING and row.claims == lease.number
    return row if valid else None


def must_hold(session: Session, lease: Lease) -> Row:
    """Return the row of the job that *lease* is valid for.

    Raises:
        StaleLease: it is not valid any more.
    """
    row = held(session, lease)
    if row is None:
        raise stale(lease)
    return row


def owner_of(job: Job) -> int:
    """Return the submitter's uid."""
    return NOBODY if job.submitter is None else job.submitter.uid


def tags_text(tags: Mapping[str, str]) -> str | None:
    """Return tags as JSON, for SQL to search in; None if there are none."""
    return encode(tags).decode() if tags else None


def _row(found: Any) -> Row:
    return Row(found[0], decode_job(found[1]), *found[2:])


def _write_executing(session: Session, row: Row, job: Job) -> None:
    session.db.execute(
        _UPDATE_EXECUTING,
        (_document(job), row.attempts, row.last_delta, row.has_deltas, row.seq),
    )
    row.job = job
    session.effects.changed.add(job.id)
    keep(session, row)


def _document(job: Job) -> bytes:
    its = job.deadline
    if not (isfinite(job.created_at) and isfinite(job.due_at)) or not (
        its is None or isfinite(its)
    ):
        # JSON has no word for it, and would say null.
        raise OverflowError("a time is not finite")
    return encode(job)


def _place(session: Session, job: Job) -> tuple[int | None, tuple[Any, ...]]:
    """Return the job's lane, and the columns by which it is found in its state."""
    document = _document(job)
    lane = rank = queued_at = due_at = None
    if job.state is JobState.AVAILABLE:
        lane = session.line.lane_for(job)
        rank, queued_at = RANKS[job.priority], job.queued_at
    elif job.state in _PAUSED:
        due_at = job.due_at
    deadline = job.deadline if job.state in WAITING else None
    return lane, (
        # Of a subclass of str, sqlite3 would look for an adapter every time.
        job.state.value,
        lane,
        rank,
        queued_at,
        due_at,
        deadline,
        job.finished_at,
        document,
    )


def _count(session: Session, job: Job, lane: int | None, by: int) -> None:
    session.line.count(job.state, by)
    if lane is not None:
        session.line.count_available(lane, RANKS[job.priority], by)
