"""The dispatcher actor: begins durable jobs, as many as can run now, and no more.

    dispatch    stage what is due; for each group of models with room, claim as many
                as there is room for; start a task for each
    heartbeat   extend the leases of what runs; rescue what nobody holds any more

It looks when there is a reason to: news in the store, a task that got its turn or
has ended, a breaker that moved, a time that has come. Whose turn it is among the
jobs decides the store (`core.job_order`); what may run, the outlook. Nothing is
remembered here that a crash could lose: what runs is on the `JobBoard`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import attrs
import trio

from duckservice.actors.job_board import JobBoard, RunningJob
from duckservice.calls.asking import tell
from duckservice.core.job_order import Blocked, Lane
from duckservice.core.prospect import EmptyBudgets, MayRun, MustWait, Prospect
from duckservice.events import EventSink
from duckservice.store.base import Claimed, Store, StoreUnavailable
from supervisors import (
    ActorRef,
    ChildSpec,
    DynamicSupervisor,
    StateTimeout,
    SupervisionError,
)

LEASE = 30.0
"""Seconds after which a job without a heartbeat may be rescued."""
BEAT = LEASE / 3
PAUSE_MIN = 0.001
"""Seconds between two looks, whatever the clock says."""

STORE_PAUSE = 1.0
"""Seconds before a store that cannot do its work is asked again."""
STAGE_MAX = 1000
CLAIM_MAX = 256


class Prospects(Protocol):
    """Says what may be begun."""

    def prospect(self, model: str) -> Prospect:
        """Return whether a job for *model* may be begun now."""
        ...

    def models_for(self, model: str) -> Sequence[Sequence[str]]:
        """Return all models that may serve a job for *model*, each by all its names."""
        ...

    def empty_budgets(self) -> EmptyBudgets:
        """Return which budgets hold jobs back."""
        ...


@attrs.define(eq=False)
class Dispatcher:
    """Claims jobs and starts their tasks."""

    _store: Store
    _board: JobBoard
    _tasks: DynamicSupervisor
    _prospects: Prospects
    _task_of: Callable[[RunningJob], ChildSpec]
    _wall_clock: Callable[[], float]
    _next: StateTimeout[Dispatcher]
    _beat: StateTimeout[Dispatcher]
    _due_at: float = 0.0
    """When time alone will change a job, in seconds since the epoch."""

    @classmethod
    def start(
        cls,
        ref: ActorRef[Dispatcher],
        store: Store,
        board: JobBoard,
        tasks: DynamicSupervisor,
        prospects: Prospects,
        task_of: Callable[[RunningJob], ChildSpec],
        wall_clock: Callable[[], float],
    ) -> Dispatcher:
        """Make the next incarnation; the tasks that an earlier one began go on."""
        its = cls(
            store,
            board,
            tasks,
            prospects,
            task_of,
            wall_clock,
            StateTimeout(ref),
            StateTimeout(ref),
        )
        board.woken = False
        its._next.set(0.0, Dispatcher.dispatch)
        its._beat.set(BEAT, Dispatcher.heartbeat)
        return its

    async def dispatch(self) -> None:
        """Begin what can be begun."""
        self._next.cancel()
        board = self._board
        board.woken = False
        try:
            await self._recover()
            # Claimed, but not started when an earlier incarnation crashed.
            for running in board:
                await self._start(running)
            next_at = await self._stage()
            if not (board.paused or board.draining):
                next_at = _earliest(next_at, await self._claim())
        except StoreUnavailable:
            board.news = True
            next_at = trio.current_time() + STORE_PAUSE
        if not all(running.started for running in board):
            next_at = _earliest(next_at, trio.current_time() + STORE_PAUSE)
        if next_at is not None and not board.woken:
            # Who has looked just now and found nothing does not look again at once.
            soonest = trio.current_time() + PAUSE_MIN
            self._next.set_at(max(next_at, soonest), Dispatcher.dispatch)

    async def heartbeat(self) -> None:
        """Keep what is ours, stop what is not, and take back what nobody holds."""
        self._beat.set(BEAT, Dispatcher.heartbeat)
        now = self._wall_clock()
        leases = [running.lease for running in self._board]
        # What cannot be done now is done with the next beat.
        with suppress(StoreUnavailable):
            # In this order: a clock that jumped must not cost us our own jobs.
            for lease in await self._store.extend(leases, until=now + LEASE):
                running = self._board.find(lease)
                if running is not None:
                    running.stop("gone")
            await self._store.rescue_expired(now)
        self._board.news = True
        self._next.set(0.0, Dispatcher.dispatch)

    async def _recover(self) -> None:
        if not self._board.recovered:
            await self._store.rescue_at_start(self._wall_clock())
            self._board.recovered = True

    async def _stage(self) -> float | None:
        """Make available what is due; return when there will be more of it."""
        now = self._wall_clock()
        if self._board.news or self._due_at <= now:
            self._board.news = False
            self._due_at = math.inf
            staged = await self._store.stage(now, limit=STAGE_MAX)
            if staged.next_at is not None:
                self._due_at = staged.next_at
        if self._due_at == math.inf:
            return None
        # No further ahead than a heartbeat: the wall clock may jump meanwhile.
        return trio.current_time() + min(max(0.0, self._due_at - now), BEAT)

    async def _claim(self) -> float | None:
        """Claim and start what there is room for; return when there may be more."""
        lanes = [load.lane for load in await self._store.lanes()]
        held = self._held_by_budgets(lanes)
        times = [why.at for why in held.values()]
        models = {lane.model for lane in lanes if lane not in held}
        while True:
            rooms, closed = self._look(models)
            if not rooms:
                return _earliest(*times, *closed)
            for provider, group in _groups(rooms).items():
                limit = min(CLAIM_MAX, rooms[group[0]].room)
                blocked = Blocked(lanes=frozenset(held), only_models=frozenset(group))
                claimed = await self._claim_some(limit, blocked)
                for each in claimed:
                    self._board.add(RunningJob(each, provider))
                if self._board.paused or self._board.draining:
                    reason = "paused" if self._board.paused else "queued"
                    self._board.give_back_waiting(reason)
                    models.clear()
                for running in self._board:
                    await self._start(running)
                if len(claimed) < limit:
                    models.difference_update(group)

    def _held_by_budgets(self, lanes: Sequence[Lane]) -> dict[Lane, MustWait]:
        """Return the lanes whose jobs must wait whoever serves them, and why."""
        budgets = self._prospects.empty_budgets()
        held = dict[Lane, MustWait]()
        for lane in lanes if budgets.empty else ():
            models = self._prospects.models_for(lane.model)
            why = budgets.holds(dict(lane.tags), lane.submitter, models)
            if why is not None:
                held[lane] = why
        return held

    def _look(self, models: set[str]) -> tuple[dict[str, MayRun], list[float | None]]:
        rooms, closed = dict[str, MayRun](), list[float | None]()
        for model in sorted(models):
            match self._prospects.prospect(model):
                case MayRun() as its:
                    rooms[model] = its
                case MustWait(at=at):
                    closed.append(at)
        return rooms, closed

    async def _claim_some(self, limit: int, blocked: Blocked) -> tuple[Claimed, ...]:
        now = self._wall_clock()
        return await self._store.claim(
            limit, now, lease_until=now + LEASE, blocked=blocked
        )

    async def _start(self, running: RunningJob) -> None:
        """Start the task of a job on the board, unless it runs already."""
        if running.started:
            return
        # The task itself says that it has started: whoever crashes here cannot know.
        with suppress(SupervisionError):  # being restarted; we try again soon
            await self._tasks.start_child(self._task_of(running))


async def watch_store(store: Store, board: JobBoard) -> None:
    """Wake the dispatcher whenever there is news of work in the store."""
    seen = 0
    while True:
        try:
            seen = await store.wait_for_work(seen)
        except StoreUnavailable:
            await trio.sleep(STORE_PAUSE)
            seen = 0
        board.news = True
        board.wake()


def waker(
    ref: ActorRef[Dispatcher], board: JobBoard, emit: EventSink
) -> Callable[[], None]:
    """Return what wakes the dispatcher: one message, however often it is called."""

    def wake() -> None:
        if not board.woken:
            board.woken = True
            tell(emit, lambda: ref.cast(Dispatcher.dispatch))

    return wake


def _groups(rooms: Mapping[str, MayRun]) -> dict[str, list[str]]:
    """Return the models by the provider that their requests will go to."""
    groups = dict[str, list[str]]()
    for model, room in rooms.items():
        groups.setdefault(room.provider, []).append(model)
    return groups


def _earliest(*times: float | None) -> float | None:
    return min((at for at in times if at is not None), default=None)
