"""Durable jobs, for clients: submit, look, wait, follow, change; see `Jobs`.

    submission = read_submission(body, now=wall_clock())        # as_json
    submitted = await service.jobs.submit(submission)           # committed
    view = await service.jobs.wait(submitted.job.id, 30.0)

Everything here asks the store, and returns after its commit. Where the store cannot
do its work, every method raises `StoreUnavailable` (code ``unavailable``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Self, TypeAlias, final

import attrs
import trio

from duckservice.actors.job_board import JobBoard
from duckservice.core import job as life
from duckservice.core.job import Job, JobState, Submission
from duckservice.core.waiting_line import Priority
from duckservice.errors import Conflict, Draining, InvalidRequest, Unavailable
from duckservice.jobs.kinds import request_of
from duckservice.jobs.outlook import Outlook
from duckservice.money.fitting import able, must_fit
from duckservice.service import Service
from duckservice.store.base import (
    AttemptRecord,
    Cancel,
    Change,
    Delta,
    Existing,
    Hold,
    Inserted,
    InsertOutcome,
    JobFilter,
    NewJob,
    Patch,
    Refused,
    Release,
    Retry,
    Store,
)
from duckservice.store_room import StoreRoom

PAUSED = "paused"
"""The store's flag that no job is to be begun; it survives a restart."""
LIST_MAX = 1000
"""The most jobs on one page."""
DELTAS_PER_READ = 200


@attrs.frozen
class Submitted:
    """A job that is in the store."""

    job: Job
    created: bool
    """False: the same submission came before, under the same key."""


@attrs.frozen
class JobView:
    """A job, and why it waits if it does."""

    job: Job
    wait_reason: str | None
    """The API's word, true at this moment; None if it runs or is over."""
    wait_until: float | None
    """When that is expected to change, in seconds since the epoch, where known."""


@attrs.frozen
class ViewPage:
    """Some jobs of a list, and where it goes on."""

    jobs: tuple[JobView, ...]
    cursor: str | None


@attrs.frozen
class JobEnded:
    """The end of a job's stream: the job is over, in whichever final state."""

    id: int
    """The id of the last delta: a client that resumes after it gets the end only."""
    job: Job


JobEvent: TypeAlias = Delta | JobEnded


@final
@attrs.define(eq=False)
class Jobs:
    """The durable jobs of a service."""

    service: Service
    store: Store
    board: JobBoard
    outlook: Outlook
    room: StoreRoom = attrs.field(factory=StoreRoom)
    _changing: trio.Lock = attrs.field(factory=trio.Lock)
    """Who pauses or resumes: the flag in the store and ours must say the same."""

    # Into the store.

    async def submit(self, submission: Submission) -> Submitted:
        """Take a job; when this returns it is committed, and will be run.

        The same key with the same submission returns the old job (`created` False).

        Raises:
            Conflict: the key was used for another submission.
            QueueFull: there are `queue.max_jobs` unfinished jobs already.
            InvalidRequest, ModelNotFound: nobody here can serve it.
            BudgetExceeded: it could never be paid; see `check`.
            RequestTooLarge: its request is larger than `store.max_request`.
            Draining: the daemon is about to stop.
            Unavailable: the store cannot take it, or is full (`store.max_bytes`).
        """
        self.check(submission)
        [outcome] = await self.submit_many([submission])
        match outcome:
            case Inserted(job):
                return Submitted(job, created=True)
            case Existing(job):
                return Submitted(job, created=False)
            case Refused(error):
                raise error

    async def submit_many(
        self, submissions: Sequence[Submission]
    ) -> tuple[InsertOutcome, ...]:
        """Take many in one commit; return what became of each, in their order.

        They are not checked one by one: see `check`.

        Raises:
            Draining: the daemon is about to stop.
            Unavailable: the store cannot take them.
        """
        if self.service.draining:
            msg = "the daemon is about to stop, and takes no new jobs"
            raise Draining(msg, retry_after=1.0)
        self.room.take(submissions)
        now = self._now()
        new = [
            NewJob(
                job=life.submit(each, id_=self.new_id(), now=now), request=each.request
            )
            for each in submissions
        ]
        limit = self.service.config.queue.max_jobs
        return await self.store.insert(new, unfinished_max=limit)

    def check(self, submission: Submission) -> None:
        """Refuse what could never be served, before anything is stored.

        Raises:
            ModelNotFound: no provider serves the model, nor its fallbacks.
            InvalidRequest: a field cannot be translated by any of them.
            RequestTooLarge: the request is larger than `store.max_request`.
            BudgetExceeded: it may cost more than its own limit, or than the whole of
                a budget that binds it.
        """
        self.room.check(submission)
        request = request_of(submission.kind, submission.request)
        self.service.check(request)
        submitter = submission.submitter
        must_fit(
            self.service.parts.budgets,
            able(self.service.planner, request),
            tags=submission.tags,
            submitter=None if submitter is None else submitter.uid,
            max_cost=submission.max_cost,
        )

    def new_id(self) -> str:
        """Return an id that sorts by time."""
        return f"job_{self.service.new_id()}"

    # Out of it.

    async def get(self, job: str) -> JobView:
        """Return the job, and why it waits.

        Raises:
            NotFound: there is none of that id.
        """
        return self.view(await self.store.get(job))

    async def list_jobs(
        self, which: JobFilter, *, limit: int = 100, cursor: str | None = None
    ) -> ViewPage:
        """Return a page of jobs, the newest first.

        Raises:
            InvalidRequest: the cursor is none of ours, or *limit* not 1 to `LIST_MAX`.
        """
        if not 1 <= limit <= LIST_MAX:
            msg = f"limit must be from 1 to {LIST_MAX}"
            raise InvalidRequest(msg, param="limit")
        page = await self.store.list_jobs(which, limit=limit, cursor=cursor)
        return ViewPage(tuple(self.view(job) for job in page.jobs), page.cursor)

    async def result(self, job: str) -> bytes:
        """Return the result of a completed job: the OpenAI body as JSON.

        Raises:
            NotFound: there is none of that id.
            Conflict: the job is not completed; the message names its state.
        """
        result = await self.store.result(job)
        if result is None:
            its = await self.store.get(job)
            raise Conflict(f"job {job} is {its.state}: it has no result")
        return result

    async def request(self, job: str) -> bytes:
        """Return the request's body, byte for byte as submitted."""
        return await self.store.request(job)

    async def attempts(self, job: str) -> tuple[AttemptRecord, ...]:
        """Return the job's attempts in their order.

        Raises:
            NotFound: there is none of that id.
        """
        return await self.store.attempts(job)

    async def counts(self, *, batch: str | None = None) -> Mapping[JobState, int]:
        """Return how many jobs are in each state, all states included."""
        return await self.store.counts(batch=batch)

    def view(self, job: Job) -> JobView:
        """Return *job* with the reason why it waits now."""
        why = self.outlook.why(job)
        return JobView(job, why.reason, why.until)

    # Waiting.

    async def wait(self, job: str, seconds: float | None = None) -> JobView:
        """Return the job when it is over, or as it is after *seconds*.

        Raises:
            NotFound: there is none of that id.
        """
        with trio.move_on_after(float("inf") if seconds is None else seconds):
            return self.view(await self.store.wait_final(job))
        return await self.get(job)

    def follow(self, job: str, *, after: int = 0) -> Following:
        """Return the stream of a job, from the delta after that id to its end.

        An async iterator: deltas with increasing ids, as they are recorded; then one
        `JobEnded`. A reader may be as slow as it likes, come late, or come back.
        Where `Delta.attempt` changes, an attempt broke off and the reply begins anew.
        Iterating raises `NotFound` where there is no such job.
        """
        return Following(self.store, job, after)

    # Changing.

    async def cancel(self, job: str) -> Job:
        """Give the job up. No provider is asked for it any more once this returns.

        Raises:
            NotFound: there is none of that id.
            IllegalTransition: it is over already.
        """
        cancelled = await self.store.change(job, Cancel(), self._now())
        self.board.cancel(job)
        return cancelled

    async def retry(self, job: str) -> JobView:
        """Begin a job anew that has come to nothing, with all its attempts.

        Raises:
            NotFound, IllegalTransition: as for `cancel`.
        """
        return await self._change(job, Retry())

    async def hold(self, job: str) -> JobView:
        """Keep a waiting job from running until it is released."""
        return await self._change(job, Hold())

    async def release(self, job: str) -> JobView:
        """Let a job that is held run when it can."""
        return await self._change(job, Release())

    async def patch(
        self,
        job: str,
        *,
        priority: Priority | None = None,
        deadline: float | None = None,
    ) -> JobView:
        """Change the priority or the deadline (seconds since the epoch) of a job."""
        view = await self._change(job, Patch(priority=priority, deadline=deadline))
        if deadline is not None:
            at = trio.current_time() + deadline - self._now()
            executing = view.job.state is JobState.EXECUTING
            self.board.set_deadline(job, at, executing=executing)
        return view

    async def pause(self) -> None:
        """Begin no job, also after a restart, until `resume`; what runs goes on.

        Raises:
            Unavailable: nothing begins now, but a restart would have forgotten it.
        """
        async with self._changing:
            self.board.paused = True
            self.board.give_back_waiting("paused")
            await self.store.set_flag(PAUSED, "yes")

    async def resume(self) -> None:
        """Begin jobs again."""
        async with self._changing:
            await self.store.set_flag(PAUSED, None)
            self.board.paused = False
        self.board.wake()

    def drain(self) -> None:
        """Begin no job any more in this life of the daemon; what runs goes on."""
        self.board.draining = True
        self.board.give_back_waiting("queued")

    # Whether it works.

    async def ready(self) -> None:
        """Find out whether jobs can be taken.

        Raises:
            Unavailable: the store cannot write or read; the message says why.
        """
        health = await self.store.check()
        if not health.ok:
            msg = f"the store cannot take jobs: {health.detail}"
            raise Unavailable(msg, retryable=health.may_recover)

    async def _change(self, job: str, change: Change) -> JobView:
        return self.view(await self.store.change(job, change, self._now()))

    def _now(self) -> float:
        return self.service.seams.wall_clock()


@final
@attrs.define(eq=False)
class Following(AsyncIterator[JobEvent]):
    """One reader of a job's stream; it holds nothing, so it may be dropped anytime."""

    store: Store
    job: str
    after: int
    _read: deque[Delta] = attrs.field(factory=deque[Delta])
    _over: bool = False

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> JobEvent:
        """Return the next event, when it is there."""
        if self._over:
            raise StopAsyncIteration
        while not self._read:
            read = await self.store.read_deltas(
                self.job, after=self.after, limit=DELTAS_PER_READ
            )
            self._read.extend(read.items)
            if not read.items and read.final:
                self._over = True
                # A reader may have named an id that no piece has ever had.
                last = min(self.after, read.last)
                return JobEnded(last, await self.store.get(self.job))
            if not read.items:
                await self.store.wait_for_deltas(self.job, after=self.after)
        delta = self._read.popleft()
        self.after = delta.id
        return delta
