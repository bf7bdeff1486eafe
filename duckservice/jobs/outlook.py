"""Whether a job can run now, and if not, why and until when.

The one place that knows: the dispatcher asks before it claims, and whoever looks at
a job is told the same. It reads the board, and asks nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import attrs
import trio

from duckservice.actors.job_board import JobBoard
from duckservice.core import circuit_breaker
from duckservice.core.circuit_breaker import HalfOpen, Open
from duckservice.core.job import Job, JobState
from duckservice.core.prospect import (
    EmptyBudgets,
    MayRun,
    MustWait,
    Prospect,
)
from duckservice.service import Service
from duckservice.tree import Guarded

UNSERVED_MAX = 8
"""So many jobs at a time are told that nobody serves their model any more."""


@attrs.frozen
class WhyItWaits:
    """Why a job waits, in the API's word, and until when, in seconds since the epoch."""

    reason: str | None
    until: float | None = None


@final
@attrs.define(eq=False)
class Outlook:
    """Looks at providers, limits and budgets with the eyes of a job."""

    service: Service
    board: JobBoard

    def prospect(self, model: str) -> Prospect:
        """Return whether a job for *model* may be begun now."""
        now = trio.current_time()
        serving = self.service.candidates(model)
        if not serving:
            # It was served when it was submitted. Let it run: it will be told.
            room = UNSERVED_MAX - self.board.not_yet_permitted("")
            return MayRun("", room) if room > 0 else MustWait("queued", None)
        held = list[MustWait]()
        for guarded in serving:
            its = self._at(guarded, model, now)
            if isinstance(its, MayRun) or not its.passed_over:
                # Requests go to the first that is up, and wait there for their turn.
                return its
            held.append(its)
        known = [its for its in held if its.at is not None]
        return min(known, key=lambda its: its.at or 0.0) if known else held[0]

    def empty_budgets(self) -> EmptyBudgets:
        """Return which budgets have nothing left."""
        return self.service.parts.budgets.empty(trio.current_time())

    def models_for(self, model: str) -> Sequence[Sequence[str]]:
        """Return all models that may serve a job for *model*, each by all its names."""
        return self.service.planner.models_for(model)

    def why(self, job: Job) -> WhyItWaits:
        """Return why *job* waits at this moment."""
        match job.state:
            case JobState.AVAILABLE:
                return self._why_available(job)
            case JobState.SCHEDULED | JobState.RETRYABLE:
                if job.due_at <= self.service.seams.wall_clock():
                    return self._why_available(job)
                return WhyItWaits(job.wait_reason, job.due_at)
            case JobState.SUSPENDED:
                return WhyItWaits("held")
            case JobState.EXECUTING:
                return WhyItWaits(self._in_line(job))
            case _:
                return WhyItWaits(None)

    def _why_available(self, job: Job) -> WhyItWaits:
        if self.board.paused:
            return WhyItWaits("paused")
        its = self._held_by_budget(job) or self.prospect(job.model)
        if isinstance(its, MayRun):
            return WhyItWaits("queued")
        if its.at is None:
            return WhyItWaits(its.reason)
        in_ = its.at - trio.current_time()
        return WhyItWaits(its.reason, self.service.seams.wall_clock() + in_)

    def _in_line(self, job: Job) -> str | None:
        """Return whose turn a claimed job still waits for: nobody is asked yet."""
        its = self.board.latest(job.id)
        if its is None or its.permitted:
            return None
        for guarded in self.service.candidates(job.model):
            board = guarded.board
            if guarded.config.name == its.provider:
                full = len(board.turns) >= board.max_concurrency
                return f"concurrency:{its.provider}" if full else None
        return None

    def _held_by_budget(self, job: Job) -> MustWait | None:
        uid = None if job.submitter is None else job.submitter.uid
        models = self.models_for(job.model)
        return self.empty_budgets().holds(job.tags, uid, models)

    def _at(self, guarded: Guarded, model: str, now: float) -> Prospect:
        """Return what one provider has to offer."""
        name, its = guarded.config.name, guarded.board
        own = guarded.provider.own_name(model)
        closed = self.empty_budgets().closes(name, own, model)
        # Who does not serve the model itself serves one that stands in for it.
        if closed is not None and guarded.provider.supports_model(model):
            return closed
        waiting = self.board.not_yet_permitted(name)
        breaker = its.breaker_of(own)
        room = its.max_concurrency - len(its.turns) - waiting
        if isinstance(breaker, HalfOpen):
            # A probe at a time; more would only be refused.
            out = circuit_breaker.outstanding(breaker, now)
            places = breaker.places - len(out) - waiting
            if places <= 0:
                # At the latest when a probe has expired; mostly its end wakes us.
                at = min((probe.expires_at for probe in out), default=None)
                return MustWait(f"breaker_open:{name}", at, passed_over=True)
            room = min(room, places)
        elif not circuit_breaker.eligible(breaker, now):
            at = circuit_breaker.retry_at(breaker)
            return MustWait(f"breaker_open:{name}", at, passed_over=True)
        elif isinstance(breaker, Open):
            room = min(room, 1 - waiting)
            if room <= 0:
                return MustWait(f"breaker_open:{name}", None, passed_over=True)
        limited = _limited(guarded, own, now, waiting)
        if isinstance(limited, MustWait):
            return limited
        room = min(room, limited)
        if room <= 0 and not waiting:
            # One may stand in the provider's line: so jobs get their share of
            # turns, however many requests wait there, and it wakes us when it has.
            room = 1
        if room <= 0:
            return MustWait(f"concurrency:{name}", None)
        return MayRun(name, room)


def _limited(guarded: Guarded, model: str, now: float, waiting: int) -> int | MustWait:
    """Return how many requests the rate limit has left, or until when it has none."""
    limiter = guarded.board.limiter
    if limiter is None:
        return guarded.config.max_concurrency
    name = guarded.config.name
    if limiter.blocked_until > now:
        until = limiter.blocked_until
        return MustWait(f"rate_limited:{name}", until, passed_over=True)
    left = limiter.requests_left(now, model)
    if left is None:
        return guarded.config.max_concurrency
    left -= waiting
    if left > 0:
        return left
    at = limiter.ready_at(now, model)
    # What is left is for those that have been claimed; the first of them wakes us.
    return MustWait(f"rate_limited:{name}", None if waiting and at <= now else at)
