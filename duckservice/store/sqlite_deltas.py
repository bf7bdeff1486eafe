"""The streams of jobs in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from duckservice.store import sqlite_rows as rows
from duckservice.store.delta_store import Delta, Deltas, page_of
from duckservice.store.job_values import Lease
from duckservice.store.sqlite_news import News
from duckservice.store.sqlite_part import Part
from duckservice.store.sqlite_row import Row
from duckservice.store.sqlite_session import Session


class SqliteDeltas(Part):
    """The part of the engine that is `DeltaStore`."""

    news: News

    async def append_deltas(
        self, lease: Lease, attempt: str, data: Sequence[bytes]
    ) -> int:
        """See `DeltaStore.append_deltas`."""
        return await self.write(lambda session: _append(session, lease, attempt, data))

    async def read_deltas(
        self, job: str, *, after: int = 0, limit: int = 100
    ) -> Deltas:
        """See `DeltaStore.read_deltas`."""
        return await self.read(lambda db: _read(db, job, after, limit))

    async def wait_for_deltas(self, job: str, *, after: int) -> None:
        """See `DeltaStore.wait_for_deltas`."""
        with self.news.watch(job) as next_change:
            while True:
                change = next_change()
                row = await self.read(lambda db: rows.get(db, job))
                if row.job.state.final or row.last_delta > after:
                    return
                await change.wait()


def add(session: Session, row: Row, attempt: str, data: Sequence[bytes]) -> None:
    """Add to the stream of a row's job; the row is yet to be written."""
    if not data:
        return
    first = row.last_delta + 1
    session.db.executemany(
        "INSERT INTO delta (job, id, attempt, data) VALUES (?, ?, ?, ?)",
        [(row.seq, number, attempt, piece) for number, piece in enumerate(data, first)],
    )
    row.last_delta += len(data)
    row.has_deltas = 1


def _append(session: Session, lease: Lease, attempt: str, data: Sequence[bytes]) -> int:
    row = rows.must_hold(session, lease)
    if not data:
        return row.last_delta
    add(session, row, attempt, data)
    session.db.execute(
        "UPDATE job SET last_delta = ?, has_deltas = 1 WHERE seq = ?",
        (row.last_delta, row.seq),
    )
    session.effects.changed.add(lease.job)
    rows.keep(session, row)
    return row.last_delta


def _read(db: sqlite3.Connection, job: str, after: int, limit: int) -> Deltas:
    row = rows.get(db, job)
    with closing(
        db.execute(
            "SELECT id, attempt, data FROM delta WHERE job = ? AND id > ?"
            " ORDER BY id LIMIT ?",
            (row.seq, after, limit + 1),
        )
    ) as found:
        items, more = page_of(
            (
                Delta(id=number, attempt=attempt, data=data)
                for number, attempt, data in found
            ),
            limit,
        )
    final = row.job.state.final and not more
    return Deltas(items=tuple(items), final=final, last=row.last_delta)
