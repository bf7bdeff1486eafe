"""The task that runs one job: from its claim to the commit of what became of it.

Whatever stops it decides what is left to do:

    a result, or an error        end with it; while the store cannot, wait
    the job was cancelled        settle the attempt; the job is not ours any more
    the deadline                 the job expires
    shutdown, or a pause         the job waits again, and no attempt was used up
    a crash                      counted against the job; the third is the last

A reply that is here is never thrown away, whatever stops the task after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import cast, final

import attrs
import trio

from duckservice.actors.job_board import JobBoard, RunningJob
from duckservice.calls.call import CallOptions, NotBegun
from duckservice.core.job import IllegalTransition, JobError, Settlement
from duckservice.core.retry import RetriesSpent
from duckservice.errors import DuckError, InvalidRequest, forget_frames
from duckservice.jobs.attempts import JobAttempts
from duckservice.jobs.deltas import StreamKeeper
from duckservice.jobs.verdict import Situation, after
from duckservice.jobs.work import JobWork
from duckservice.service import Service
from duckservice.store.base import (
    Crash,
    Expire,
    Fail,
    Finish,
    Outcome,
    Snooze,
    Store,
)

LAST_WORDS = 4.0
"""Seconds in which a task that is being stopped must have put its job back."""


@final
@attrs.define(eq=False)
class JobRun:
    """Runs one claimed job."""

    its: RunningJob
    service: Service
    store: Store
    board: JobBoard
    _attempts: JobAttempts = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: JobAttempts(
                self.its, self.store, self.board, self.service.seams.wall_clock
            ),
            takes_self=True,
        ),
    )
    _kept: StreamKeeper = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: StreamKeeper(self.store, self.its.lease), takes_self=True
        ),
    )
    _work: JobWork = attrs.field(
        init=False,
        default=attrs.Factory(
            # It must not hold what holds it: a job's body would outlive the job.
            lambda self: JobWork(
                self.service, partial(_record, self._attempts, self._kept)
            ),
            takes_self=True,
        ),
    )

    async def run(self) -> None:
        """Run the job, and see to it that the store learns what became of it."""
        if self.its.started:
            return  # a dispatcher that crashed in between has started it twice
        self.its.started = True
        try:
            await self._run()
        except BaseException as error:
            with trio.move_on_after(LAST_WORDS, shield=True):
                await self._stopped_by(error)
            raise
        finally:
            self.board.remove(self.its)

    async def _run(self) -> None:
        its, outcome = self.its, None
        # Unless it was moved since the claim.
        if its.job.deadline is not None and its.scope.deadline == math.inf:
            its.scope.deadline = trio.current_time() + its.job.deadline - self._now()
        with its.scope:
            outcome = await self._outcome()
        if isinstance(outcome, Crash):
            await self._interrupted(outcome)
        elif outcome is not None:
            await self._end(outcome)
        elif its.stop_reason == "gone":
            await self._leave()
        elif its.stop_reason == "give_back":
            await self._give_back()
        else:
            await self._expire()

    async def _outcome(self) -> Outcome:
        """Ask for the reply; return what becomes of the job."""
        job = self.its.job
        options = CallOptions(
            priority=job.priority,
            tags=job.tags,
            max_cost=None if job.max_cost is None else max(0, job.max_cost - job.cost),
            request_id=f"req_{job.id}.{self.its.lease.number}",
            submitter=job.submitter,
            job=job.id,
            watch=self._attempts,
        )
        try:
            body = self.its.claimed.request
            return Finish(result=await self._work.ask(job.kind, body, options))
        except NotBegun:
            if self._attempts.must_not_repeat:
                return Crash(blame=False)
            return self._attempts.refused or self._again()
        except DuckError as error:
            forget_frames(error)
            if self._attempts.must_not_repeat:
                return Crash(blame=False)
            if isinstance(error, RetriesSpent) and error.retry_after is not None:
                # The budget may have room before; this is when it needs none.
                left = max(0.1, self._attempts.memory_left)
                error.retry_after = min(error.retry_after, left)
            return after(error, self._situation())

    # What becomes of the job.

    async def _stopped_by(self, error: BaseException) -> None:
        """End after a crash, or as the task is being stopped from outside."""
        if self.its.stop_reason == "gone":
            await self._leave()
        elif _is_crash(error):
            finished = self._finished()
            if finished is None and self._attempts.must_not_repeat:
                await self._interrupted(Crash())
            else:
                await self._end(finished or Crash())
        else:
            await self._give_back()

    async def _end(self, outcome: Outcome) -> None:
        """End the job, settle its last attempt, and its stream, in one commit."""
        attempt, pieces = self._attempts.current, self._work.pieces
        await self._attempts.tidy_up()
        settled = self._attempts.settled()

        async def end() -> None:
            left = (
                pieces if attempt is None else await self._kept.missing(attempt, pieces)
            )
            deltas = (attempt, left) if attempt is not None and left else None
            await self._end_storable(outcome, settled, deltas)

        await self._attempts.persist(end)

    async def _end_storable(
        self,
        outcome: Outcome,
        settled: tuple[str, Settlement] | None,
        deltas: tuple[str, Sequence[bytes]] | None,
    ) -> None:
        """End the job with as much of it as the store can keep.

        Who leaves it executing has it run again, and pays again.
        """
        lease, now, reason = self.its.lease, self._now(), ""
        unknown = None if settled is None else (settled[0], settled[1].without_cost())
        for paid in [settled] if unknown is None else [settled, unknown]:
            try:
                await self.store.end(lease, outcome, now, settled=paid, deltas=deltas)
            except InvalidRequest as error:
                reason = error.message
            else:
                return
        failed = self._unstorable(outcome, reason)
        await self.store.end(lease, failed, now, settled=unknown)

    async def _leave(self) -> None:
        """The job is not ours any more, but what it has cost is still to be told."""
        await self._attempts.tidy_up()
        await self._attempts.settle()

    async def _give_back(self) -> None:
        """Have the job run again; this time counts as no attempt."""
        finished = self._finished()
        if finished is None and self._attempts.must_not_repeat:
            await self._interrupted(Crash(blame=False))
        else:
            await self._end(finished or self._again())

    async def _interrupted(self, crash: Crash) -> None:
        """End as after a crash in flight; then settle what is known of the cost."""
        await self._attempts.persist(
            lambda: self.store.end(self.its.lease, crash, self._now())
        )
        await self._leave()

    async def _expire(self) -> None:
        finished = self._finished()
        if finished is not None:
            await self._end(finished)
            return
        try:
            await self._end(Expire())
        except IllegalTransition:  # the deadline was moved just now
            await self._give_back()

    def _finished(self) -> Finish | None:
        result = self._work.result
        return None if result is None else Finish(result=result)

    def _again(self) -> Snooze:
        return Snooze(until=self._now(), reason=self.its.wait_reason)

    # Helpers.

    def _unstorable(self, outcome: Outcome, reason: str) -> Fail:
        """Return what is told in the place of *outcome*; nobody is asked for it again."""
        message = f"what has become of it cannot be kept: {reason}"
        if isinstance(outcome, Fail):
            error = attrs.evolve(outcome.error, message=message)
            return Fail(error=error, retry_at=outcome.retry_at)
        used = self.its.job.attempt + self._attempts.used
        error = JobError(
            at=self._now(), attempt=used, code="internal_error", message=message
        )
        return Fail(error=error, retry_at=None)

    def _situation(self) -> Situation:
        return Situation(
            now=self._now(),
            attempts=self.its.job.attempt + self._attempts.used,
            attempts_before=self.its.job.attempts_before,
            attempts_max=self.its.job.max_attempts,
            policy=self.service.retry_policy,
            chance=self.service.seams.random.random(),
        )

    def _now(self) -> float:
        return self.service.seams.wall_clock()


async def _record(
    attempts: JobAttempts, kept: StreamKeeper, pieces: Sequence[bytes]
) -> None:
    """Keep what has come of the stream of the attempt that is under way."""
    attempt = attempts.current
    if pieces and attempt is not None:
        await attempts.persist(lambda: kept.append(attempt, pieces))


def _is_crash(error: BaseException) -> bool:
    """Say whether it is a failure, and not a cancellation or a signal."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.subgroup(Exception) is not None
    return isinstance(error, Exception)
