"""The request queue: whose turn it is to use a provider. No clock, no task, no I/O.

Each provider has a lane, and each lane so many turns as the provider may have
requests under way. Who finds no turn free waits in the lane's own line (see
`waiting_line`), so that a slow provider delays nobody but its own callers.
Only the number of those who wait is limited over all lanes together.

A queue that is made anew after a crash is told which turns are `running`, and
draws new ones from the same `turn_ids`, so no turn is ever given twice: a late
`leave` would otherwise end somebody else's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Generic, TypeAlias

import attrs

from duckservice.core.shares import ANYBODY, Submitters, W
from duckservice.core.waiting_line import PRIORITIES, Priority, WaitingLine


@attrs.frozen
class Turn:
    """The leave to have one request under way; give it back with `leave`."""

    lane: str
    id: int


@attrs.frozen
class Waiting:
    """No turn is free; one will come from `leave` or `resume`, or `remove` ends it."""


@attrs.frozen
class Full:
    """Too many wait already; this one does not."""

    max_size: int


Entrance: TypeAlias = Turn | Waiting | Full


@attrs.frozen(kw_only=True)
class QueueStatistics:
    """What the dashboard shows of a queue."""

    waiting: int
    waiting_by_priority: Mapping[Priority, int]
    waiting_by_lane: Mapping[str, int]
    running_by_lane: Mapping[str, int]
    oldest_wait: float
    """How long, in seconds, the one has waited who waits longest; 0 if nobody does."""
    paused: bool
    max_size: int


@attrs.define
class _Lane(Generic[W]):
    max_concurrency: int
    running: set[int]
    line: WaitingLine[W]


class RequestQueue(Generic[W]):
    """Gives turns, by lane and priority. `W` is any hashable that names a waiter."""

    def __init__(
        self,
        lanes: Mapping[str, int],
        *,
        max_size: int = 1000,
        aging: float = 30.0,
        running: Mapping[str, Iterable[int]] | None = None,
        turn_ids: Iterator[int] | None = None,
    ) -> None:
        """*lanes* maps each provider to its turns; *aging* is in seconds.

        *running* are the ids of turns that an earlier queue gave and that were
        not left yet. They count, even if there are more than a lane now has.
        """
        running = running or {}
        self._aging = aging
        self._lanes = {
            name: _Lane[W](turns, set(running.get(name, ())), WaitingLine(aging=aging))
            for name, turns in lanes.items()
        }
        self._lane_of: dict[W, _Lane[W]] = {}
        known = [turn for lane in self._lanes.values() for turn in lane.running]
        self._turn_ids = turn_ids or count(max(known, default=0) + 1)
        self._paused = False
        self.max_size = max_size

    def __repr__(self) -> str:
        running = sum(len(lane.running) for lane in self._lanes.values())
        state = ", paused" if self._paused else ""
        return f"<RequestQueue {running} running, {len(self._lane_of)} waiting{state}>"

    def set_lanes(self, lanes: Mapping[str, int]) -> list[tuple[W, Turn]]:
        """Have these lanes, with so many turns; return who has a turn now.

        Turns that were given are kept, even if there are more than a lane now has.
        A lane that is named no more, and that nobody uses, is taken away; who waits
        in one, or has a turn of it, must come first.
        """
        admitted: list[tuple[W, Turn]] = []
        for name, its in list(self._lanes.items()):
            if name not in lanes and not its.running and not len(its.line):
                del self._lanes[name]
        for name, turns in lanes.items():
            if name not in self._lanes:
                line = WaitingLine[W](aging=self._aging)
                self._lanes[name] = _Lane[W](turns, set(), line)
            else:
                self._lanes[name].max_concurrency = turns
                admitted += self._admit(name, self._lanes[name])
        return admitted

    def enter(
        self,
        now: float,
        lane: str,
        priority: Priority,
        waiter: W,
        *,
        yields: bool = False,
        submitter: Submitters = ANYBODY,
        deadline: float = math.inf,
    ) -> Entrance:
        """Give *waiter* a turn of *lane*, or let it wait for one.

        Who *yields* waits behind others of its priority; those of one priority take
        turns by *submitter*, and its own go by *deadline* (see `waiting_line`).

        Raises:
            KeyError: there is no such lane.
            ValueError: *waiter* waits already.
        """
        its = self._lanes[lane]
        if waiter in self._lane_of:
            msg = f"{waiter!r} waits already"
            raise ValueError(msg)
        # Where a turn is free nobody waits, so nobody is overtaken here.
        if self._may_admit(its):
            return self._turn(lane, its)
        if len(self._lane_of) >= self.max_size:
            return Full(self.max_size)
        its.line.enter(
            now,
            priority,
            waiter,
            yields=yields,
            submitter=submitter,
            deadline=deadline,
        )
        self._lane_of[waiter] = its
        return Waiting()

    def leave(self, turn: Turn) -> list[tuple[W, Turn]]:
        """Take *turn* back; return who has a turn now, to be told so.

        A turn that was left already, or that nobody was given, changes nothing.
        """
        lane = self._lanes.get(turn.lane)
        if lane is None:
            return []
        lane.running.discard(turn.id)
        return self._admit(turn.lane, lane)

    def remove(self, waiter: W) -> bool:
        """Take out one who gave up waiting; say whether it did wait.

        False means that it has a turn, which must be left, or has none at all.
        """
        lane = self._lane_of.pop(waiter, None)
        return lane is not None and lane.line.remove(waiter)

    def pause(self) -> None:
        """Give no more turns, until `resume`; those under way go on."""
        self._paused = True

    def resume(self) -> list[tuple[W, Turn]]:
        """Give turns again; return who has one now, to be told so."""
        self._paused = False
        return [
            admitted
            for name, lane in self._lanes.items()
            for admitted in self._admit(name, lane)
        ]

    def statistics(self, now: float) -> QueueStatistics:
        """Return how many run and wait."""
        lanes = self._lanes
        depths = [lane.line.depths() for lane in lanes.values()]
        entered = [lane.line.oldest() for lane in lanes.values()]
        oldest = min((at for at in entered if at is not None), default=now)
        return QueueStatistics(
            waiting=len(self._lane_of),
            waiting_by_priority={p: sum(d[p] for d in depths) for p in PRIORITIES},
            waiting_by_lane={name: len(lane.line) for name, lane in lanes.items()},
            running_by_lane={name: len(lane.running) for name, lane in lanes.items()},
            oldest_wait=max(0.0, now - oldest),
            paused=self._paused,
            max_size=self.max_size,
        )

    def _admit(self, name: str, lane: _Lane[W]) -> list[tuple[W, Turn]]:
        admitted: list[tuple[W, Turn]] = []
        while len(lane.line) and self._may_admit(lane):
            waiter = lane.line.pop()
            del self._lane_of[waiter]
            admitted.append((waiter, self._turn(name, lane)))
        return admitted

    def _may_admit(self, lane: _Lane[W]) -> bool:
        return not self._paused and len(lane.running) < lane.max_concurrency

    def _turn(self, name: str, lane: _Lane[W]) -> Turn:
        turn = Turn(name, next(self._turn_ids))
        lane.running.add(turn.id)
        return turn
