"""Attempts in the database: begun, settled, lost, in step with job and ledger."""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from duckservice.core import job as life
from duckservice.core.job import Job, Settlement
from duckservice.errors import NotFound
from duckservice.store import decisions, sqlite_ledger as ledger, sqlite_rows as rows
from duckservice.store.job_values import AttemptRecord, Lease
from duckservice.store.sqlite_row import Row
from duckservice.store.sqlite_rows import encode
from duckservice.store.sqlite_session import Session

_decode: Final = msgspec.json.Decoder(AttemptRecord).decode


def begin(
    session: Session,
    lease: Lease,
    *,
    provider: str,
    model: str,
    reserved: int,
    now: float,
    why: str,
) -> AttemptRecord:
    """See `JobStore.begin_attempt`."""
    row = rows.must_hold(session, lease)
    job, record, entry = decisions.new_attempt(
        row.job,
        row.attempts + 1,
        provider=provider,
        model=model,
        reserved=reserved,
        now=now,
        why=why,
    )
    row.attempts += 1
    rows.write(session, row, job)
    session.db.execute(
        "INSERT INTO attempt (job, number, state, document) VALUES (?, ?, ?, ?)",
        (row.seq, record.number, record.state, encode(record)),
    )
    ledger.put(session, entry)
    return record


def settle(
    session: Session, attempt: str, settlement: Settlement, now: float
) -> AttemptRecord:
    """See `JobStore.settle_attempt`."""
    row = rows.current(session, _job_of(attempt))
    job, done = _settle(session, row, attempt, settlement, now)
    rows.write(session, row, job)
    return done


def settle_in(
    session: Session, row: Row, attempt: str, settlement: Settlement, now: float
) -> Job:
    """Settle an attempt of a row's job; return the job, which is yet to be written."""
    if _job_of(attempt) != row.job.id:
        settle(session, attempt, settlement, now)
        return row.job
    job, _ = _settle(session, row, attempt, settlement, now)
    return job


def lose(session: Session, row: Row, now: float) -> int | None:
    """Give the job's open attempts up; return what was reserved for them.

    None if there are none.
    """
    reserved: int | None = None
    for record in of(session.db, row.seq):
        if record.state == "open":
            _write(session, row, decisions.lost_attempt(record, now))
            ledger.lose(session, record.id)
            reserved = (reserved or 0) + record.reserved
    return reserved


def lose_all(session: Session, now: float) -> None:
    """Give all open attempts up, of jobs that are over, too."""
    found = session.db.execute("SELECT DISTINCT job FROM attempt WHERE state = 'open'")
    for (seq,) in found.fetchall():
        (row,) = rows.select(session.db, "seq = ?", seq)
        lost = lose(session, row, now)
        assert lost is not None, "one was open"
        rows.write(session, row, life.lose(row.job, lost))


def of(db: sqlite3.Connection, seq: int) -> tuple[AttemptRecord, ...]:
    """Return the attempts of the job in that row."""
    found = db.execute(
        "SELECT document FROM attempt WHERE job = ? ORDER BY number", (seq,)
    )
    return tuple(_decode(document) for (document,) in found)


def _job_of(attempt: str) -> str:
    return attempt.rpartition(".")[0]


def _settle(
    session: Session, row: Row, attempt: str, settlement: Settlement, now: float
) -> tuple[Job, AttemptRecord]:
    record = _find(session, row, attempt)
    job, done = decisions.settled(row.job, record, settlement, now)
    ledger.settle(session, attempt, settlement)
    _write(session, row, done)
    return job, done


def _find(session: Session, row: Row, attempt: str) -> AttemptRecord:
    for record in of(session.db, row.seq):
        if record.id == attempt:
            return record
    msg = f"there is no attempt {attempt}"
    raise NotFound(msg)


def _write(session: Session, row: Row, record: AttemptRecord) -> None:
    session.db.execute(
        "UPDATE attempt SET state = ?, document = ? WHERE job = ? AND number = ?",
        (record.state, encode(record), row.seq, record.number),
    )
