"""The jobs that run in this process, and what all may know of the dispatcher's state.

It survives crashes of the dispatcher and of the tasks, as the `Board` does for
requests: a job is here from the moment it was claimed to the moment its task has
ended, so that nothing is claimed beyond what can run and nothing is forgotten.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import attrs
import trio

from duckservice.core.job import Job
from duckservice.store.job_values import Claimed, Lease

Stop: TypeAlias = Literal["gone", "give_back"]
"""Why a job's task is stopped: somebody else decides about the job now; or it is to
wait again. None of them: its deadline has passed."""


@attrs.define(eq=False)
class RunningJob:
    """One claimed job and its task."""

    claimed: Claimed
    provider: str | None
    """Whom it will ask first, as far as could be told when it was claimed."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    started: bool = False
    """Whether its task runs, as that says itself; if not, it is to be started."""
    permitted: bool = False
    """Whether it has had the turn that it was claimed for."""
    stop_reason: Stop | None = None
    wait_reason: str = "queued"
    """What it waits for when it was given back."""

    @property
    def job(self) -> Job:
        """The job as it was claimed."""
        return self.claimed.job

    @property
    def lease(self) -> Lease:
        """The right to work on it."""
        return self.claimed.lease

    def stop(self, reason: Stop, wait_reason: str = "queued") -> None:
        """End its task; the first reason counts."""
        if self.stop_reason is None:
            self.stop_reason, self.wait_reason = reason, wait_reason
        self.scope.cancel()


RETRY_MEMORY = 60.0
"""Seconds after which an attempt is no retry any more: the retry budget's minute."""


@attrs.define(eq=False)
class JobBoard:
    """What runs, and whether more may begin."""

    paused: bool = False
    """Whether somebody has paused the queue; it is a flag of the store, too."""
    draining: bool = False
    recovered: bool = False
    """Whether the jobs of the process's previous life were rescued."""
    woken: bool = False
    """Whether the dispatcher has been told to look, and has not begun to."""
    news: bool = True
    """Whether the store has said that there is news, and was not asked yet."""
    wake_up: Callable[[], None] | None = None
    """Set by the tree: tells the dispatcher to look."""
    _running: dict[tuple[str, int], RunningJob] = attrs.field(
        factory=dict[tuple[str, int], RunningJob]
    )
    _latest: dict[str, RunningJob] = attrs.field(factory=dict[str, RunningJob])
    """Of each job what was claimed last: a list of jobs asks about hundreds."""
    _moved: dict[str, float] = attrs.field(factory=dict[str, float])
    """Deadlines that were moved between a claim and the news of it."""
    _failed: OrderedDict[tuple[str, str], float] = attrs.field(
        factory=OrderedDict[tuple[str, str], float]
    )
    """When a job was refused by a provider, on trio's clock; the latest last."""
    _idle: trio.Event = attrs.field(factory=trio.Event)

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[RunningJob]:
        return iter(tuple(self._running.values()))

    def wake(self) -> None:
        """Have the dispatcher look what may run now."""
        if self.wake_up is not None:
            self.wake_up()

    def add(self, running: RunningJob) -> None:
        """Take note of a job that was claimed."""
        self._running[_key(running.lease)] = running
        self._latest[running.job.id] = running
        running.scope.deadline = self._moved.pop(running.job.id, math.inf)

    def remove(self, running: RunningJob) -> None:
        """Take note that its task has ended."""
        self._running.pop(_key(running.lease), None)
        if self._latest.get(running.job.id) is running:
            del self._latest[running.job.id]
        if not self._running:
            self._idle.set()
            self._idle = trio.Event()
        self.wake()

    def find(self, lease: Lease) -> RunningJob | None:
        """Return what runs under *lease*."""
        return self._running.get(_key(lease))

    def cancel(self, job: str) -> None:
        """Stop what runs of a job that was cancelled in the store."""
        for running in self.of(job):
            running.stop("gone")

    def set_deadline(self, job: str, at: float, *, executing: bool) -> None:
        """Move the deadline, on trio's clock, of what runs of a job.

        If it is *executing* and not here, its claim is on its way with the old one.
        """
        running = self.of(job)
        for each in running:
            each.scope.deadline = at
        self._moved.pop(job, None)
        if executing and not running:
            self._moved[job] = at

    def give_back_waiting(self, reason: str) -> None:
        """Give back what was claimed, but has not got its turn at a provider."""
        for running in self:
            if not running.permitted:
                running.stop("give_back", reason)

    def of(self, job: str) -> list[RunningJob]:
        """Return what runs of a job: at most one that counts."""
        return [its for (id_, _), its in self._running.items() if id_ == job]

    def latest(self, job: str) -> RunningJob | None:
        """Return what was claimed last of a job and runs still, if anything does."""
        return self._latest.get(job)

    def not_yet_permitted(self, provider: str) -> int:
        """Return how many have been claimed for a turn of *provider*, and wait for it."""
        return sum(
            its.provider == provider and not its.permitted
            for its in self._running.values()
        )

    def note_failure(self, job: str, provider: str) -> None:
        """Take note that *provider* has failed a job: to ask it again is a retry.

        Also where the job keeps no record of it, as of a 429.
        """
        now = trio.current_time()
        self._failed[job, provider] = now
        self._failed.move_to_end((job, provider))
        while next(iter(self._failed.values())) + RETRY_MEMORY <= now:
            self._failed.popitem(last=False)

    def failed_at(self, job: str, provider: str) -> float:
        """Return when *provider* has failed a job in this process; -inf: it has not."""
        return self._failed.get((job, provider), -math.inf)

    async def wait_idle(self) -> None:
        """Wait until nothing runs."""
        while self._running:
            await self._idle.wait()


def _key(lease: Lease) -> tuple[str, int]:
    return lease.job, lease.number
