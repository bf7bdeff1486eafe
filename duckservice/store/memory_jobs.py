"""Jobs and their streams in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import islice
from operator import attrgetter

from duckservice.core import job as life
from duckservice.core.job import Job, JobState, Settlement
from duckservice.core.job_order import NOTHING_BLOCKED, Blocked
from duckservice.errors import NotFound
from duckservice.store import decisions
from duckservice.store.delta_store import Deltas, page_of
from duckservice.store.job_values import (
    AttemptRecord,
    Change,
    Claimed,
    Crash,
    Existing,
    Finish,
    Inserted,
    InsertOutcome,
    JobFilter,
    JobPage,
    LaneLoad,
    Lease,
    NewJob,
    Outcome,
    Refused,
    Staged,
)
from duckservice.store.memory_ledger import Ledger, has_tags
from duckservice.store.memory_part import Part
from duckservice.store.memory_rows import Row, Rows


class MemoryJobs(Part):
    """The part of the memory engine that is `JobStore`."""

    rows: Rows
    ledger: Ledger

    async def insert(
        self, jobs: Sequence[NewJob], *, unfinished_max: int | None = None
    ) -> tuple[InsertOutcome, ...]:
        """See `JobStore.insert`."""
        await self.ready()
        return tuple(self._insert(new, unfinished_max) for new in jobs)

    async def get(self, job: str) -> Job:
        """See `JobStore.get`."""
        await self.ready()
        return self.rows.get(job).job

    async def request(self, job: str) -> bytes:
        """See `JobStore.request`."""
        await self.ready()
        return self.rows.get(job).request

    async def result(self, job: str) -> bytes | None:
        """See `JobStore.result`."""
        await self.ready()
        return self.rows.get(job).result

    async def attempts(self, job: str) -> tuple[AttemptRecord, ...]:
        """See `JobStore.attempts`."""
        await self.ready()
        return tuple(self.rows.get(job).attempts)

    async def list_jobs(
        self,
        which: JobFilter,
        *,
        limit: int = 100,
        cursor: str | None = None,
        oldest_first: bool = False,
    ) -> JobPage:
        """See `JobStore.list_jobs`."""
        await self.ready()
        start = None if cursor is None else decisions.read_cursor(cursor)
        through = self.rows.forwards if oldest_first else self.rows.backwards
        matching = (job for job in through(start) if _matches(job, which))
        jobs = tuple(islice(matching, limit + 1))
        if len(jobs) <= limit:
            return JobPage(jobs, None)
        page = jobs[:limit]
        return JobPage(page, decisions.cursor_after(page[-1]))

    async def counts(self, *, batch: str | None = None) -> Mapping[JobState, int]:
        """See `JobStore.counts`."""
        await self.ready()
        if batch is None:
            counts: Mapping[JobState, int] = self.rows.counts
        else:
            counts = self.rows.batch_counts.get(batch, {})
        return {state: counts.get(state, 0) for state in JobState}

    async def change(self, job: str, change: Change, now: float) -> Job:
        """See `JobStore.change`."""
        await self.ready()
        row = self.rows.get(job)
        self.rows.write(row, decisions.changed(row.job, change, now))
        return row.job

    async def stage(self, now: float, *, limit: int = 1000) -> Staged:
        """See `JobStore.stage`."""
        await self.ready()
        waiting = self.rows.waiting
        expired = list[str]()
        while len(expired) < limit and (job := waiting.overdue(now)) is not None:
            row = self.rows.get(job)
            self.rows.write(row, life.expire(row.job, now))
            expired.append(job)
        available = 0
        while available < limit and (job := waiting.due(now)) is not None:
            row = self.rows.get(job)
            self.rows.write(row, life.become_due(row.job, now))
            available += 1
        return Staged(
            available=available, expired=tuple(expired), next_at=waiting.next_at()
        )

    async def lanes(self) -> tuple[LaneLoad, ...]:
        """See `JobStore.lanes`."""
        await self.ready()
        return self.rows.waiting.lanes()

    async def claim(
        self,
        limit: int,
        now: float,
        *,
        lease_until: float,
        blocked: Blocked = NOTHING_BLOCKED,
    ) -> tuple[Claimed, ...]:
        """See `JobStore.claim`."""
        await self.ready()
        claimed = list[Claimed]()
        if limit <= 0:
            return ()
        for job in self.rows.waiting.in_turn(now, blocked):
            row = self.rows.get(job)
            if life.is_overdue(row.job, now):
                self.rows.write(row, life.expire(row.job, now))
                continue
            claimed.append(self._claim(row, now, lease_until))
            if len(claimed) == limit:
                break
        return tuple(claimed)

    async def extend(
        self, leases: Sequence[Lease], *, until: float
    ) -> tuple[Lease, ...]:
        """See `JobStore.extend`."""
        await self.ready()
        stale = list[Lease]()
        for lease in leases:
            row = self.rows.held(lease)
            if row is None:
                stale.append(lease)
            else:
                row.lease_until = until
        return tuple(stale)

    async def rescue_expired(self, now: float) -> tuple[Job, ...]:
        """See `JobStore.rescue_expired`."""
        await self.ready()
        rows = [self.rows.get(job) for job in self.rows.executing]
        ended = [row for row in rows if row.lease_until <= now]
        return tuple(self._end(row, Crash(), now) for row in ended)

    async def rescue_at_start(
        self, now: float, *, blame: bool = True
    ) -> tuple[Job, ...]:
        """See `JobStore.rescue_at_start`."""
        await self.ready()
        rows = [self.rows.get(job) for job in self.rows.executing]
        rescued = tuple(self._end(row, Crash(blame=blame), now) for row in rows)
        for job in list(self.rows.open_attempts.values()):
            row = self.rows.get(job)
            lost = self._lose_attempts(row, now)
            if lost is not None:
                self.rows.write(row, life.lose(row.job, lost))
        for entry in list(self.ledger.open):
            self.ledger.lose(entry)
        return rescued

    async def begin_attempt(
        self,
        lease: Lease,
        *,
        provider: str,
        model: str,
        reserved: int,
        now: float,
        why: str = "",
    ) -> AttemptRecord:
        """See `JobStore.begin_attempt`."""
        await self.ready()
        row = self.rows.must_hold(lease)
        job, record, entry = decisions.new_attempt(
            row.job,
            len(row.attempts) + 1,
            provider=provider,
            model=model,
            reserved=reserved,
            now=now,
            why=why,
        )
        self.rows.write(row, job)
        self.rows.put_attempt(row, record)
        self.ledger.put(entry)
        return record

    async def settle_attempt(
        self, attempt: str, settlement: Settlement, now: float
    ) -> AttemptRecord:
        """See `JobStore.settle_attempt`."""
        await self.ready()
        return self._settle(attempt, settlement, now)

    async def end(
        self,
        lease: Lease,
        outcome: Outcome,
        now: float,
        *,
        settled: tuple[str, Settlement] | None = None,
        deltas: tuple[str, Sequence[bytes]] | None = None,
    ) -> Job:
        """See `JobStore.end`."""
        await self.ready()
        row = self.rows.held(lease)
        if row is not None:
            # What cannot be must not leave half of it behind.
            decisions.ended(row.job, outcome, now)
        if settled is not None:
            self._settle(*settled, now)
        if row is None:
            raise decisions.stale(lease)
        if deltas is not None:
            row.append(*deltas)
        return self._end(row, outcome, now)

    async def wait_for_work(self, seen: int) -> int:
        """See `JobStore.wait_for_work`."""
        await self.ready()
        while self.rows.news <= seen:
            await self.rows.has_news.wait()
            self.must_be_open()
        return self.rows.news

    async def wait_final(self, job: str) -> Job:
        """See `JobStore.wait_final`."""
        await self.ready()
        while not (row := self.rows.get(job)).job.state.final:
            await row.changed.wait()
            self.must_be_open()
        return row.job

    def _insert(self, new: NewJob, unfinished_max: int | None) -> InsertOutcome:
        earlier = self.rows.known(new.job)
        if earlier is not None:
            if earlier.fingerprint == new.job.fingerprint:
                return Existing(earlier)
            return Refused(decisions.key_conflict(earlier))
        if unfinished_max is not None and self.rows.unfinished() >= unfinished_max:
            return Refused(decisions.too_many(unfinished_max))
        return Inserted(self.rows.insert(new.job, new.request).job)

    def _claim(self, row: Row, now: float, until: float) -> Claimed:
        row.claims += 1
        row.lease_until = until
        self.rows.write(row, life.claim(row.job, now))
        lease = Lease(job=row.job.id, number=row.claims, until=until)
        return Claimed(job=row.job, request=row.request, lease=lease)

    def _settle(
        self, attempt: str, settlement: Settlement, now: float
    ) -> AttemptRecord:
        row, record = self._attempt(attempt)
        job, done = decisions.settled(row.job, record, settlement, now)
        entry = decisions.settled_entry(self.ledger.get(attempt), settlement)
        self.rows.put_attempt(row, done)
        self.rows.write(row, job)
        self.ledger.put(entry)
        return done

    def _attempt(self, attempt: str) -> tuple[Row, AttemptRecord]:
        row = self.rows.get(attempt.rpartition(".")[0])
        for record in row.attempts:
            if record.id == attempt:
                return row, record
        msg = f"there is no attempt {attempt}"
        raise NotFound(msg)

    def _end(self, row: Row, outcome: Outcome, now: float) -> Job:
        lost = self._lose_attempts(row, now) if isinstance(outcome, Crash) else None
        job = decisions.ended(
            row.job, outcome, now, in_flight=lost is not None, lost=lost or 0
        )
        if isinstance(outcome, Finish):
            row.result = outcome.result
        self.rows.write(row, job)
        return job

    def _lose_attempts(self, row: Row, now: float) -> int | None:
        """Return what was reserved for the open attempts; None if there are none."""
        records = row.open_attempts()
        for record in records:
            self.rows.put_attempt(row, decisions.lost_attempt(record, now))
            self.ledger.lose(record.id)
        return sum(record.reserved for record in records) if records else None


class MemoryDeltas(Part):
    """The part of the memory engine that is `DeltaStore`."""

    rows: Rows

    async def append_deltas(
        self, lease: Lease, attempt: str, data: Sequence[bytes]
    ) -> int:
        """See `DeltaStore.append_deltas`."""
        await self.ready()
        row = self.rows.must_hold(lease)
        row.append(attempt, data)
        row.wake()
        return row.last_delta

    async def read_deltas(
        self, job: str, *, after: int = 0, limit: int = 100
    ) -> Deltas:
        """See `DeltaStore.read_deltas`."""
        await self.ready()
        row = self.rows.get(job)
        start = bisect_right(row.deltas, after, key=attrgetter("id"))
        items, more = page_of(row.deltas[start : start + limit + 1], limit)
        final = row.job.state.final and not more
        return Deltas(items=tuple(items), final=final, last=row.last_delta)

    async def wait_for_deltas(self, job: str, *, after: int) -> None:
        """See `DeltaStore.wait_for_deltas`."""
        await self.ready()
        while True:
            row = self.rows.get(job)
            if row.job.state.final or row.last_delta > after:
                return
            await row.changed.wait()
            self.must_be_open()


def _matches(job: Job, which: JobFilter) -> bool:
    return (
        (not which.states or job.state in which.states)
        and (which.model is None or job.model == which.model)
        and (which.batch is None or job.batch == which.batch)
        and (which.since is None or job.created_at >= which.since)
        and (which.submitter is None or _uid(job) == which.submitter)
        and has_tags(job.tags, which.tags)
    )


def _uid(job: Job) -> int | None:
    return None if job.submitter is None else job.submitter.uid
