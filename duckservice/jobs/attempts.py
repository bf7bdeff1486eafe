"""The record of a running job's attempts: durable before the first byte, settled once.

The watch of `call.AttemptWatch` for one run of a job. The last attempt is settled
with the end of the job, in one commit; those before it, when the next is begun.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, final

import attrs
import trio

from duckservice.actors.job_board import RETRY_MEMORY, JobBoard, RunningJob
from duckservice.calls.call import AttemptEnd, AttemptInfo, NotBegun
from duckservice.completion import Usage
from duckservice.core.job import IllegalTransition, JobError, Settlement
from duckservice.errors import (
    InternalError,
    InvalidRequest,
    NotFound,
    ProviderError,
    Unavailable,
)
from duckservice.jobs.verdict import counts
from duckservice.store.base import (
    Fail,
    Outcome,
    Snooze,
    StaleLease,
    Store,
    StoreUnavailable,
)

STORE_PAUSE = 1.0
"""Seconds before a store that cannot do its work is asked again."""

BEGIN_MAX = 30.0
"""Seconds in which the store must have written an attempt down: a disk may hang."""

T = TypeVar("T")


@final
@attrs.define(eq=False)
class JobAttempts:
    """Writes down what providers are asked for a job."""

    its: RunningJob
    store: Store
    board: JobBoard
    wall_clock: Callable[[], float]
    current: str | None = None
    """The id of the attempt that was written down last and is not settled."""
    used: int = 0
    """Attempts that this run has used up."""
    refused: Outcome | None = None
    """What becomes of the job where the store did not let an attempt begin."""
    memory_left: float = 0.0
    """Seconds for which asking somebody again, whom it wanted to ask, is a retry."""
    _end: AttemptEnd | None = None
    """How the current one has ended, if it has."""
    _sent: bool = False
    """Whether a byte of it may have left."""
    _maybe_open: bool = False
    """Whether one may have been written down although the store said no."""
    _maybe_settled: bool = False
    """Whether the current one may have been settled although the store said no."""

    # What the service tells (`AttemptWatch`).

    @property
    def attempts_max(self) -> int:
        """How many attempts are left to this run."""
        return self.its.job.max_attempts - self.its.job.attempt

    def asked_before(self, provider: str) -> bool:
        """Say whether *provider* has failed the job within the last minute.

        An attempt that was lost leaves no error: who died was not the provider. One
        that failed more than a minute ago counts no more: retries are limited in
        every minute, and what has waited through an outage is to go on after it.
        """
        left = self._memory_of(provider)
        self.memory_left = max(self.memory_left, left)
        return left > 0

    def _memory_of(self, provider: str) -> float:
        """Return the seconds for which asking *provider* is a retry."""
        ago = trio.current_time() - self.board.failed_at(self.its.job.id, provider)
        job, left = self.its.job, RETRY_MEMORY - ago
        begun = job.attempt > job.attempts_before
        if begun and job.errors and job.provider == provider:
            # In another life of the process, perhaps.
            before = self.wall_clock() - job.errors[-1].at
            left = max(left, RETRY_MEMORY - before)
        return left

    def permitted(self, provider: str) -> None:  # noqa: ARG002 - the protocol's
        """Take note that the turn has come: the next job may be claimed."""
        if not self.its.permitted:
            self.its.permitted = True
            self.board.wake()

    async def before_send(self, info: AttemptInfo) -> None:
        """Write the attempt down.

        Raises:
            NotBegun: the job is not ours any more, the store refuses it, or it would
                be sent twice against its submitter's wish.
        """
        if self._must_stop() or self.must_not_repeat:
            raise NotBegun
        # Shielded: whoever is cancelled here would not know whether it is written.
        with trio.move_on_after(BEGIN_MAX, shield=True) as scope:
            await self._begin(info)
        if scope.cancelled_caught:
            self._in_doubt()
            raise NotBegun
        if self._must_stop():
            # It was cancelled, or its time has run out, while this was written.
            self._end = AttemptEnd(outcome="cancelled", usage=Usage(), cost=0)
            self._sent = False
            raise NotBegun

    def ended(self, end: AttemptEnd) -> None:
        """Take note of how the attempt has ended; it is settled with what follows."""
        self._end = end
        if not counts(end.error):
            self.used -= 1
        error = end.error
        if isinstance(error, ProviderError) and error.provider is not None:
            self.board.note_failure(self.its.job.id, error.provider)

    # What its task asks.

    @property
    def broken_off(self) -> bool:
        """Whether a request was sent, and we left before the answer was here.

        By our own doing: we were stopped, the provider's client has crashed, or a bug.
        """
        end = self._end
        if not self._sent or end is None:
            return False
        ours = isinstance(end.error, Unavailable | InternalError)
        return ours or end.outcome == "cancelled"

    @property
    def must_not_repeat(self) -> bool:
        """Whether what was broken off may be billed, and once is enough."""
        return self.broken_off and self.its.job.on_interrupt == "fail"

    async def tidy_up(self) -> None:
        """Settle what a store that failed in between has left in doubt."""
        if self._maybe_settled:
            await self.settle()
        if self._maybe_open:
            await self.persist(self._settle_unsent)

    def settled(self) -> tuple[str, Settlement] | None:
        """Return the current attempt and how it has ended, if it has."""
        end = self._end
        if self.current is None or end is None:
            return None
        settlement = Settlement(
            outcome=end.outcome,
            usage=end.usage,
            cost=end.cost,
            estimated=end.usage.estimated,
            counts=end.outcome != "cancelled" and counts(end.error),
        )
        return self.current, settlement

    async def settle(self) -> None:
        """Settle the current attempt by itself, whatever became of the job."""
        settled = self.settled()
        if settled is not None:
            now = self.wall_clock()
            await self.persist(lambda: self._settle(*settled, now))
            self.current = None
        self._maybe_settled = False

    async def persist(self, write: Callable[[], Awaitable[T]]) -> T | None:
        """Have it written, however long the store takes; None if it is not ours."""
        while True:
            try:
                return await write()
            except StoreUnavailable:
                await trio.sleep(STORE_PAUSE)
            except (StaleLease, NotFound):
                # Cancelled, rescued, or written by a try that seemed to fail.
                return None

    # Helpers.

    def _must_stop(self) -> bool:
        return self.its.scope.cancel_called

    async def _begin(self, info: AttemptInfo) -> None:
        now = self.wall_clock()
        try:
            await self._settle_last(now)
            record = await self.store.begin_attempt(
                self.its.lease,
                provider=info.provider,
                model=info.model,
                reserved=info.reserved,
                now=now if info.at is None else info.at,
                why=info.why,
            )
        except StaleLease as error:
            self.its.stop("gone")
            raise NotBegun from error
        except IllegalTransition as error:
            self.refused = Fail(error=self._used_up(now), retry_at=None)
            raise NotBegun from error
        except StoreUnavailable as error:
            self._in_doubt()
            raise NotBegun from error
        self.current, self._end, self._sent = record.id, None, True
        self.used += 1

    def _in_doubt(self) -> None:
        """The attempt may be written down, and is not to be sent."""
        self._maybe_open = True
        until = self.wall_clock() + STORE_PAUSE
        self.refused = Snooze(until=until, reason="queued")

    async def _settle_last(self, now: float) -> None:
        """Settle the attempt before this one, which another provider has failed."""
        settled = self.settled()
        if settled is not None:
            self._maybe_settled = True
            await self._settle(*settled, now)
            self._maybe_settled, self.current = False, None

    async def _settle(self, attempt: str, settlement: Settlement, now: float) -> None:
        """Settle an attempt; without its figures, where the store cannot keep them."""
        try:
            await self.store.settle_attempt(attempt, settlement, now)
        except InvalidRequest:
            unknown = settlement.without_cost()
            await self.store.settle_attempt(attempt, unknown, now)

    async def _settle_unsent(self) -> None:
        """Settle what was written down, as it turns out, but never sent."""
        unsent = Settlement(outcome="cancelled", counts=False)
        for record in await self.store.attempts(self.its.job.id):
            if record.state == "open" and record.id != self.current:
                await self.store.settle_attempt(record.id, unsent, self.wall_clock())
        self._maybe_open = False

    def _used_up(self, now: float) -> JobError:
        job = self.its.job
        return JobError(
            at=now,
            attempt=job.attempt + self.used,
            code="provider_error",
            message=f"all of its {job.max_attempts} attempts are used up",
            provider=job.provider,
        )
