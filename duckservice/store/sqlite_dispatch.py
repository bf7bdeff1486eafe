"""Jobs in the database, for the dispatcher: due, claimed, begun, ended, rescued."""

from __future__ import annotations

from collections.abc import Sequence

from duckservice.core import job as life
from duckservice.core.job import Job, Settlement
from duckservice.core.job_order import NOTHING_BLOCKED, Blocked
from duckservice.store import (
    decisions,
    sqlite_attempts as attempts,
    sqlite_deltas as streams,
    sqlite_ledger as ledger,
    sqlite_rows as rows,
)
from duckservice.store.errors import StaleLease
from duckservice.store.job_values import (
    AttemptRecord,
    Claimed,
    Crash,
    Finish,
    LaneLoad,
    Lease,
    Outcome,
    Staged,
)
from duckservice.store.sqlite_part import Part
from duckservice.store.sqlite_row import Row
from duckservice.store.sqlite_session import Session


class SqliteDispatch(Part):
    """The dispatcher's share of `JobStore`."""

    async def stage(self, now: float, *, limit: int = 1000) -> Staged:
        """See `JobStore.stage`."""
        return await self.write(lambda session: _stage(session, now, limit))

    async def lanes(self) -> tuple[LaneLoad, ...]:
        """See `JobStore.lanes`."""
        return await self.write(lambda session: session.line.loads())

    async def claim(
        self,
        limit: int,
        now: float,
        *,
        lease_until: float,
        blocked: Blocked = NOTHING_BLOCKED,
    ) -> tuple[Claimed, ...]:
        """See `JobStore.claim`."""
        return await self.write(
            lambda session: _claim(session, limit, now, lease_until, blocked)
        )

    async def extend(
        self, leases: Sequence[Lease], *, until: float
    ) -> tuple[Lease, ...]:
        """See `JobStore.extend`."""
        return await self.write(lambda session: _extend(session, leases, until))

    async def rescue_expired(self, now: float) -> tuple[Job, ...]:
        """See `JobStore.rescue_expired`."""
        return await self.write(lambda session: _rescue_expired(session, now))

    async def rescue_at_start(
        self, now: float, *, blame: bool = True
    ) -> tuple[Job, ...]:
        """See `JobStore.rescue_at_start`."""
        return await self.write(
            lambda session: _rescue_at_start(session, now, blame=blame)
        )

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
        return await self.write(
            lambda session: attempts.begin(
                session,
                lease,
                provider=provider,
                model=model,
                reserved=reserved,
                now=now,
                why=why,
            )
        )

    async def settle_attempt(
        self, attempt: str, settlement: Settlement, now: float
    ) -> AttemptRecord:
        """See `JobStore.settle_attempt`."""
        return await self.write(
            lambda session: attempts.settle(session, attempt, settlement, now)
        )

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
        ended = await self.write(
            lambda session: _end(session, lease, outcome, now, settled, deltas)
        )
        if isinstance(ended, StaleLease):
            raise ended
        return ended


def _stage(session: Session, now: float, limit: int) -> Staged:
    overdue = rows.select(
        session.db, "deadline <= ? ORDER BY deadline, id LIMIT ?", now, limit
    )
    for row in overdue:
        rows.write(session, row, life.expire(row.job, now))
    due = rows.select(session.db, "due_at <= ? ORDER BY due_at, id LIMIT ?", now, limit)
    for row in due:
        rows.write(session, row, life.become_due(row.job, now))
    (next_due,) = session.db.execute(
        "SELECT min(due_at) FROM job WHERE due_at IS NOT NULL"
    ).fetchone()
    (next_deadline,) = session.db.execute(
        "SELECT min(deadline) FROM job WHERE deadline IS NOT NULL"
    ).fetchone()
    times = [time for time in (next_due, next_deadline) if time is not None]
    return Staged(
        available=len(due),
        expired=tuple(row.job.id for row in overdue),
        next_at=min(times, default=None),
    )


def _claim(
    session: Session, limit: int, now: float, until: float, blocked: Blocked
) -> tuple[Claimed, ...]:
    claimed = list[Claimed]()
    if limit <= 0:
        return ()
    for job in session.line.in_turn(now, blocked):
        row = rows.get(session.db, job)
        if life.is_overdue(row.job, now):
            rows.write(session, row, life.expire(row.job, now))
            continue
        claimed.append(_claim_one(session, row, now, until))
        if len(claimed) == limit:
            break
    return tuple(claimed)


def _claim_one(session: Session, row: Row, now: float, until: float) -> Claimed:
    row.claims += 1
    row.lease_until = until
    rows.write(session, row, life.claim(row.job, now))
    (request,) = session.db.execute(
        "SELECT body FROM request WHERE job = ?", (row.seq,)
    ).fetchone()
    lease = Lease(job=row.job.id, number=row.claims, until=until)
    return Claimed(job=row.job, request=request, lease=lease)


def _extend(
    session: Session, leases: Sequence[Lease], until: float
) -> tuple[Lease, ...]:
    stale = list[Lease]()
    for lease in leases:
        extended = session.db.execute(
            "UPDATE job SET lease_until = ?"
            " WHERE id = ? AND claims = ? AND lease_until IS NOT NULL",
            (until, lease.job, lease.number),
        )
        if not extended.rowcount:
            stale.append(lease)
    return tuple(stale)


def _rescue_expired(session: Session, now: float) -> tuple[Job, ...]:
    ended = rows.select(session.db, "lease_until <= ? ORDER BY lease_until", now)
    return tuple(_end_row(session, row, Crash(), now) for row in ended)


def _rescue_at_start(session: Session, now: float, *, blame: bool) -> tuple[Job, ...]:
    executing = rows.select(session.db, "lease_until IS NOT NULL ORDER BY lease_until")
    rescued = tuple(
        _end_row(session, row, Crash(blame=blame), now) for row in executing
    )
    attempts.lose_all(session, now)
    ledger.lose_all(session)
    return rescued


def _end(
    session: Session,
    lease: Lease,
    outcome: Outcome,
    now: float,
    settled: tuple[str, Settlement] | None,
    deltas: tuple[str, Sequence[bytes]] | None,
) -> Job | StaleLease:
    """Return the error where the settlement must be committed all the same."""
    row = rows.held(session, lease)
    if row is None:
        if settled is not None:
            attempts.settle(session, *settled, now)
        return decisions.stale(lease)
    if settled is not None:
        # Its row is written once, with the end.
        row.job = attempts.settle_in(session, row, *settled, now)
    if deltas is not None:
        streams.add(session, row, *deltas)
    return _end_row(session, row, outcome, now)


def _end_row(session: Session, row: Row, outcome: Outcome, now: float) -> Job:
    lost = attempts.lose(session, row, now) if isinstance(outcome, Crash) else None
    job = decisions.ended(
        row.job, outcome, now, in_flight=lost is not None, lost=lost or 0
    )
    if isinstance(outcome, Finish):
        session.db.execute(
            "INSERT INTO result (job, body) VALUES (?, ?)", (row.seq, outcome.result)
        )
    rows.write(session, row, job)
    return job
