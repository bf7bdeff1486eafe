"""Tells of every change of a job's state, as soon as the store has committed it.

What looks like a store is handed on as it is, but for the methods that move jobs.
That a job's time has come (`scheduled` or `retryable` to `available`) is not told:
the store says only how many there were.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast, final

from duckservice.core.job import Job, JobState, Settlement
from duckservice.core.job_order import NOTHING_BLOCKED, Blocked
from duckservice.events import EventSink, JobMoved
from duckservice.store.base import (
    Change,
    Claimed,
    Inserted,
    InsertOutcome,
    Lease,
    NewJob,
    Outcome,
    Patch,
    Staged,
    Store,
)

_WITH_ERROR = frozenset({JobState.RETRYABLE, JobState.DISCARDED})


def telling(
    open_: Callable[[], AbstractAsyncContextManager[Store]], emit: EventSink
) -> Callable[[], AbstractAsyncContextManager[Store]]:
    """Return what opens the same store, and tells *emit* of its jobs."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Store]:
        async with open_() as store:
            yield cast(Store, _TellingStore(store, emit))

    return opened


@final
class _TellingStore:
    """A store that tells."""

    def __init__(self, store: Store, emit: EventSink) -> None:
        self._store = store
        self._emit = emit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def __repr__(self) -> str:
        return repr(self._store)

    async def insert(
        self, jobs: Sequence[NewJob], *, unfinished_max: int | None = None
    ) -> tuple[InsertOutcome, ...]:
        """See `JobStore.insert`."""
        outcomes = await self._store.insert(jobs, unfinished_max=unfinished_max)
        for outcome in outcomes:
            if isinstance(outcome, Inserted):
                self._tell(outcome.job)
        return outcomes

    async def change(self, job: str, change: Change, now: float) -> Job:
        """See `JobStore.change`."""
        changed = await self._store.change(job, change, now)
        if not isinstance(change, Patch):
            self._tell(changed)
        return changed

    async def stage(self, now: float, *, limit: int = 1000) -> Staged:
        """See `JobStore.stage`."""
        staged = await self._store.stage(now, limit=limit)
        for job in staged.expired:
            self._emit(JobMoved(job=job, state=JobState.EXPIRED.value))
        return staged

    async def claim(
        self,
        limit: int,
        now: float,
        *,
        lease_until: float,
        blocked: Blocked = NOTHING_BLOCKED,
    ) -> tuple[Claimed, ...]:
        """See `JobStore.claim`."""
        claimed = await self._store.claim(
            limit, now, lease_until=lease_until, blocked=blocked
        )
        for each in claimed:
            self._tell(each.job, waited=max(0.0, now - each.job.queued_at))
        return claimed

    async def rescue_expired(self, now: float) -> tuple[Job, ...]:
        """See `JobStore.rescue_expired`."""
        return self._told(await self._store.rescue_expired(now))

    async def rescue_at_start(
        self, now: float, *, blame: bool = True
    ) -> tuple[Job, ...]:
        """See `JobStore.rescue_at_start`."""
        return self._told(await self._store.rescue_at_start(now, blame=blame))

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
        job = await self._store.end(lease, outcome, now, settled=settled, deltas=deltas)
        self._tell(job)
        return job

    def _told(self, jobs: tuple[Job, ...]) -> tuple[Job, ...]:
        for job in jobs:
            self._tell(job)
        return jobs

    def _tell(self, job: Job, *, waited: float | None = None) -> None:
        failed = job.state in _WITH_ERROR and job.errors
        self._emit(
            JobMoved(
                job=job.id,
                state=job.state.value,
                kind=job.kind,
                model=job.model,
                priority=job.priority,
                attempt=job.attempt,
                provider=job.provider,
                batch=job.batch,
                wait_reason=job.wait_reason,
                waited=waited,
                error=job.errors[-1].code if failed else None,
            )
        )
