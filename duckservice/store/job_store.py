"""The part of the Store protocol that keeps jobs: for clients, and to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from duckservice.core.job import Job, JobState, Settlement
from duckservice.core.job_order import NOTHING_BLOCKED, Blocked
from duckservice.store.job_values import (
    AttemptRecord,
    Change,
    Claimed,
    InsertOutcome,
    JobFilter,
    JobPage,
    LaneLoad,
    Lease,
    NewJob,
    Outcome,
    Staged,
)


class JobStore(Protocol):
    """Keeps the jobs, says which are to be run, and takes their results."""

    async def insert(
        self, jobs: Sequence[NewJob], *, unfinished_max: int | None = None
    ) -> tuple[InsertOutcome, ...]:
        """Insert all in one commit; return what became of each, in their order.

        A key (`Job.idempotency_key`) belongs to its submitter's uid, and is
        unique by constraint: of two that come at the same time one is inserted.
        *unfinished_max* bounds the jobs in the store that are not over.
        """
        ...

    async def get(self, job: str) -> Job:
        """Return the job of that id.

        Raises:
            NotFound: there is none.
        """
        ...

    async def request(self, job: str) -> bytes:
        """Return the request's body, byte for byte as submitted.

        Raises:
            NotFound: there is no such job.
        """
        ...

    async def result(self, job: str) -> bytes | None:
        """Return the result of a completed job; None of any other.

        Raises:
            NotFound: there is no such job.
        """
        ...

    async def attempts(self, job: str) -> tuple[AttemptRecord, ...]:
        """Return the job's attempts in their order.

        Raises:
            NotFound: there is no such job.
        """
        ...

    async def list_jobs(
        self,
        which: JobFilter,
        *,
        limit: int = 100,
        cursor: str | None = None,
        oldest_first: bool = False,
    ) -> JobPage:
        """Return at most *limit* jobs, the newest first.

        Paging by cursor shows no job twice, and misses none that was there from
        the first page on and still matches.

        Raises:
            InvalidRequest: the cursor is none of ours.
        """
        ...

    async def counts(self, *, batch: str | None = None) -> Mapping[JobState, int]:
        """Return how many jobs are in each state, all states included."""
        ...

    async def change(self, job: str, change: Change, now: float) -> Job:
        """Do what a client asks for; return the job as it is then.

        Cancelling a job that runs makes its lease stale: from then on no attempt
        of it begins.

        Raises:
            NotFound: there is no such job.
            IllegalTransition: the job's state does not allow it.
        """
        ...

    # For the dispatcher.

    async def stage(self, now: float, *, limit: int = 1000) -> Staged:
        """Make jobs available that are due, and expire the overdue that wait.

        Each at most *limit*, so that nobody else waits long.
        """
        ...

    async def lanes(self) -> tuple[LaneLoad, ...]:
        """Return what is available, at most about `LANES_MAX` items."""
        ...

    async def claim(
        self,
        limit: int,
        now: float,
        *,
        lease_until: float,
        blocked: Blocked = NOTHING_BLOCKED,
    ) -> tuple[Claimed, ...]:
        """Claim at most *limit* jobs that may run, in the order of `core.job_order`.

        Of those available only, so `stage` first. Overdue jobs are not claimed, and
        may expire here.
        """
        ...

    async def extend(
        self, leases: Sequence[Lease], *, until: float
    ) -> tuple[Lease, ...]:
        """Prolong leases; return those that are stale."""
        ...

    async def rescue_expired(self, now: float) -> tuple[Job, ...]:
        """Take back jobs whose lease has ended, as after a crash; return them."""
        ...

    async def rescue_at_start(
        self, now: float, *, blame: bool = True
    ) -> tuple[Job, ...]:
        """Take back all jobs that an earlier life of this daemon left executing.

        All its open attempts are lost, also those of jobs that are over, and the
        open reservations of requests that were no jobs. See `core.job.rescue`.
        """
        ...

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
        """Write down that *provider* is about to be asked, why, and the reservation.

        Raises:
            StaleLease: the lease is not valid any more.
            IllegalTransition: the job has used up its attempts.
        """
        ...

    async def settle_attempt(
        self, attempt: str, settlement: Settlement, now: float
    ) -> AttemptRecord:
        """Take down how an attempt has ended, once, whatever became of its job.

        Raises:
            NotFound: there is no such attempt.
            StaleLease: it was settled already.
        """
        ...

    async def end(
        self,
        lease: Lease,
        outcome: Outcome,
        now: float,
        *,
        settled: tuple[str, Settlement] | None = None,
        deltas: tuple[str, Sequence[bytes]] | None = None,
    ) -> Job:
        """End the work under *lease*, and settle an attempt, in one commit.

        *settled* is an attempt's id and how it ended. It is taken down even if
        the lease is stale; if it was settled already, nothing is done. *deltas*
        are the last of the stream, with their attempt: see `append_deltas`.

        Raises:
            StaleLease: the lease is not valid any more, or the attempt was
                settled already. The job is as it was.
            NotFound: there is no such attempt. The job is as it was.
        """
        ...

    # For those who wait.

    async def wait_for_work(self, seen: int) -> int:
        """Wait until there was news of work after *seen*; return the number of it.

        Begin with 0, and go on with what was returned: no news is missed. News is
        that jobs have become available, were held back for a time, or have a new
        deadline: it is worth while to `stage` and to `claim`.
        """
        ...

    async def wait_final(self, job: str) -> Job:
        """Wait until the job is over; return it.

        Raises:
            NotFound: there is no such job, or not any more.
        """
        ...
