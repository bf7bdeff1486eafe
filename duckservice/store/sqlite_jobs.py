"""Jobs in the database, for clients and for those who wait."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from duckservice.core.job import Job, JobState
from duckservice.errors import NotFound
from duckservice.store import (
    decisions,
    sqlite_attempts as attempts,
    sqlite_rows as rows,
)
from duckservice.store.job_values import (
    AttemptRecord,
    Change,
    Existing,
    Inserted,
    InsertOutcome,
    JobFilter,
    JobPage,
    NewJob,
    Refused,
)
from duckservice.store.sqlite_news import News
from duckservice.store.sqlite_part import Part
from duckservice.store.sqlite_rows import decode_job
from duckservice.store.sqlite_search import Search
from duckservice.store.sqlite_session import Session


class SqliteJobs(Part):
    """The part of the engine that is `JobStore`, but for the dispatcher's share."""

    news: News

    async def insert(
        self, jobs: Sequence[NewJob], *, unfinished_max: int | None = None
    ) -> tuple[InsertOutcome, ...]:
        """See `JobStore.insert`."""
        return await self.write(lambda session: _insert(session, jobs, unfinished_max))

    async def get(self, job: str) -> Job:
        """See `JobStore.get`."""
        return await self.read(lambda db: rows.get(db, job).job)

    async def request(self, job: str) -> bytes:
        """See `JobStore.request`."""
        return await self.read(lambda db: _request(db, job))

    async def result(self, job: str) -> bytes | None:
        """See `JobStore.result`."""
        return await self.read(lambda db: _result(db, job))

    async def attempts(self, job: str) -> tuple[AttemptRecord, ...]:
        """See `JobStore.attempts`."""
        return await self.read(lambda db: attempts.of(db, rows.get(db, job).seq))

    async def list_jobs(
        self,
        which: JobFilter,
        *,
        limit: int = 100,
        cursor: str | None = None,
        oldest_first: bool = False,
    ) -> JobPage:
        """See `JobStore.list_jobs`."""
        start = None if cursor is None else decisions.read_cursor(cursor)
        return await self.read(
            lambda db: _list_jobs(db, which, limit, start, oldest_first=oldest_first)
        )

    async def counts(self, *, batch: str | None = None) -> Mapping[JobState, int]:
        """See `JobStore.counts`."""
        if batch is None:
            # Counted as they come and go: to count a million takes a while.
            found = await self.read(lambda _: self.news.states)
        else:
            found = await self.read(lambda db: _counts(db, batch))
        return {state: found.get(state, 0) for state in JobState}

    async def change(self, job: str, change: Change, now: float) -> Job:
        """See `JobStore.change`."""
        return await self.write(lambda session: _change(session, job, change, now))

    async def wait_for_work(self, seen: int) -> int:
        """See `JobStore.wait_for_work`."""
        return await self.news.wait_for_work(seen)

    async def wait_final(self, job: str) -> Job:
        """See `JobStore.wait_final`."""
        with self.news.watch(job) as next_change:
            while True:
                change = next_change()
                found = await self.get(job)
                if found.state.final:
                    return found
                await change.wait()


def _insert(
    session: Session, jobs: Sequence[NewJob], unfinished_max: int | None
) -> tuple[InsertOutcome, ...]:
    return tuple(_insert_one(session, new, unfinished_max) for new in jobs)


def _insert_one(
    session: Session, new: NewJob, unfinished_max: int | None
) -> InsertOutcome:
    full = unfinished_max is not None and session.line.unfinished() >= unfinished_max
    if not full and rows.insert(session, new):
        return Inserted(new.job)
    earlier = rows.with_key(session.db, new.job)
    if earlier is None:
        assert unfinished_max is not None, (
            "a job without a key is inserted, or too many"
        )
        return Refused(decisions.too_many(unfinished_max))
    if earlier.fingerprint == new.job.fingerprint:
        return Existing(earlier)
    return Refused(decisions.key_conflict(earlier))


def _request(db: sqlite3.Connection, job: str) -> bytes:
    body = _body(db, "request", job)
    assert body is not None, "it is inserted and deleted with its job"
    return body


def _result(db: sqlite3.Connection, job: str) -> bytes | None:
    return _body(db, "result", job)


def _body(db: sqlite3.Connection, table: str, job: str) -> bytes | None:
    found = db.execute(
        f"SELECT body FROM job LEFT JOIN {table} AS its ON its.job = job.seq"  # noqa: S608
        " WHERE job.id = ?",
        (job,),
    ).fetchone()
    if found is None:
        msg = f"there is no job {job}"
        raise NotFound(msg)
    body: bytes | None = found[0]
    return body


def _list_jobs(
    db: sqlite3.Connection,
    which: JobFilter,
    limit: int,
    start: str | None,
    *,
    oldest_first: bool,
) -> JobPage:
    order, beyond = ("ASC", ">") if oldest_first else ("DESC", "<")
    found = list[tuple[str, bytes]]()
    # State by state, for within one, and within a batch and one, an index has the
    # order of ids: nothing has to be sorted but what is found.
    everything = not which.states and which.batch is None
    for state in [None] if everything else which.states or JobState:
        search = _search(which, state)
        search.add(f"id {beyond} ?", start)
        found += db.execute(
            f"SELECT id, document FROM job WHERE {search.where}"  # noqa: S608
            f" ORDER BY id {order} LIMIT ?",
            (*search.values, limit + 1),
        )
    found.sort(reverse=not oldest_first)
    page = tuple(decode_job(document) for _, document in found[:limit])
    more = len(found) > limit
    return JobPage(page, decisions.cursor_after(page[-1]) if more else None)


def _search(which: JobFilter, state: JobState | None) -> Search:
    search = Search()
    search.add("state = ?", state)
    search.add("model = ?", which.model)
    search.add("batch = ?", which.batch)
    search.add("created_at >= ?", which.since)
    search.add("owner = ?", which.submitter)
    search.add_tags("job.tags", which.tags)
    return search


def _counts(db: sqlite3.Connection, batch: str) -> dict[JobState, int]:
    found = db.execute(
        "SELECT state, count(*) FROM job WHERE batch = ? GROUP BY state", (batch,)
    )
    return {JobState(state): count for state, count in found}


def _change(session: Session, job: str, change: Change, now: float) -> Job:
    row = rows.get(session.db, job)
    rows.write(session, row, decisions.changed(row.job, change, now))
    return row.job
