"""The store keeper actor: deletes what is old, and finds out how the store is.

    look     every few seconds: how full is the store; has one that failed recovered?
    prune    every few minutes, or when it is too full: delete what was kept for long
             enough, a little at a time

A store that is fuller than it may be keeps what is over for shorter: for half of its
time, a quarter, and so on, until it fits; but for `KEPT_LEAST` in any case, so that
who waits for a result gets it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import attrs
import trio

from duckservice.config import RetentionConfig
from duckservice.events import EventSink, StorePruned
from duckservice.store.base import Pruned, Retention, StoreUnavailable
from duckservice.store_room import RETRY_AFTER, StoreRoom
from duckservice.store_slot import StoreSlot
from supervisors import ActorRef, StateTimeout

LOOK_EVERY = RETRY_AFTER
LOOK_AGAIN = 1.0
"""Seconds between looks at a store that has failed."""
PRUNE_EVERY = 300.0
PRUNE_MAX = 100
"""So many of each kind in one transaction at most; fewer where that takes longer than
`PRUNE_TIME`, for who writes meanwhile waits for it."""
PRUNE_TIME = 0.03
KEPT_LEAST = 3600.0


@attrs.define
class StoreKeeper:
    """Looks after the store."""

    _slot: StoreSlot
    _room: StoreRoom
    _retention: Retention
    _wall_clock: Callable[[], float]
    _emit: EventSink
    _next_look: StateTimeout[StoreKeeper]
    _next_prune: StateTimeout[StoreKeeper]
    _share: float = 1.0
    """Of the time that things are to be kept; less where the store is too full."""
    _limit: int = PRUNE_MAX
    _pruned: Pruned = attrs.field(factory=Pruned)
    """So far, of what is old at present."""

    @classmethod
    def start(
        cls,
        ref: ActorRef[StoreKeeper],
        slot: StoreSlot,
        room: StoreRoom,
        wall_clock: Callable[[], float],
        emit: EventSink,
    ) -> StoreKeeper:
        """Make the next incarnation."""
        its = cls(
            slot,
            room,
            retention_of(room.limits.retention),
            wall_clock,
            emit,
            StateTimeout(ref),
            StateTimeout(ref),
        )
        its._next_look.set(0.0, StoreKeeper.look)
        its._next_prune.set(PRUNE_EVERY, StoreKeeper.prune)
        return its

    async def look(self) -> None:
        """Measure the store; try out one that has failed."""
        with suppress(StoreUnavailable):  # the slot has told; we look again
            await self._look()
        failed = self._slot.failure is not None
        self._next_look.set(LOOK_AGAIN if failed else LOOK_EVERY, StoreKeeper.look)

    async def prune(self) -> None:
        """Delete some of what is old; if there is more, go on in a moment."""
        since = trio.current_time()
        try:
            some = await self._slot.store.prune(
                shorter(self._retention, self._share),
                self._wall_clock(),
                limit=self._limit,
            )
        except StoreUnavailable:
            some = Pruned()  # there is a next time
        self._pruned = _sum(self._pruned, some)
        took = trio.current_time() - since
        slow = took > PRUNE_TIME
        self._limit = (
            max(1, self._limit // 2) if slow else min(PRUNE_MAX, self._limit * 2)
        )
        # As long as it took: others get half of the writer's time at least.
        pause = took if some.more else PRUNE_EVERY
        self._next_prune.set(pause, StoreKeeper.prune)
        if not some.more:
            self._tell()

    async def _look(self) -> None:
        store = self._slot.store
        if self._slot.failure is not None:
            await store.check()  # the slot hears what comes of it, and tells
        self._room.measured((await store.statistics()).used)
        if not self._room.full:
            self._share = min(1.0, self._share * 2)
        elif self._can_keep_shorter():
            self._share /= 2
            self._next_prune.set(0.0, StoreKeeper.prune)

    def _can_keep_shorter(self) -> bool:
        its = self._retention
        longest = max(its.completed, its.discarded, its.cancelled, its.expired)
        return longest * self._share > KEPT_LEAST

    def _tell(self) -> None:
        its, self._pruned = self._pruned, Pruned()
        if its != Pruned():
            self._emit(
                StorePruned(
                    jobs=its.jobs,
                    streams=its.streams,
                    entries=its.entries,
                    files=its.files,
                )
            )


def retention_of(config: RetentionConfig) -> Retention:
    """Return what the config says, in the store's words."""
    return Retention(
        completed=config.completed,
        discarded=config.discarded,
        cancelled=config.cancelled,
        expired=config.expired,
        deltas=config.streams,
    )


def shorter(its: Retention, share: float) -> Retention:
    """Return a part of the time for jobs and streams, but never less than an hour.

    What is configured to be shorter than that stays as it is. Money is remembered.
    """

    def part(seconds: float) -> float:
        return min(seconds, max(KEPT_LEAST, seconds * share))

    return attrs.evolve(
        its,
        completed=part(its.completed),
        discarded=part(its.discarded),
        cancelled=part(its.cancelled),
        expired=part(its.expired),
        deltas=part(its.deltas),
    )


def _sum(one: Pruned, other: Pruned) -> Pruned:
    return Pruned(
        jobs=one.jobs + other.jobs,
        streams=one.streams + other.streams,
        entries=one.entries + other.entries,
        files=one.files + other.files,
    )
