"""The sliding window: at most so much in *every* period of a given length.

A bucket that holds 60 and refills 60 a minute admits 119 in one minute: a full
bucket and what comes in while it empties. Where a limit is promised for every
minute, the window remembers what it admitted and when, and each cost counts for
exactly one period.

    ... [slot] [slot] [slot] ... [slot]      a slot: when, and how much
         ^ leaves first           ^ now

Costs of the same instant share a slot. Once 4,096 slots are remembered, an
instant is a 4,096th of the period long, and a shared slot counts until its latest
cost may go: for up to that much too long, never too short. What is in them is summed
in a tree (see `running_sums`), so nothing takes long where there are many.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeAlias

import attrs

from duckservice.core.nanoseconds import instant, seconds_until, to_ns
from duckservice.core.running_sums import RunningSums
from duckservice.core.token_bucket import Never, Take, Taken, WaitFor

SLOTS_EXACT_MAX = 4096
"""Up to so many slots each instant has its own; there are never twice as many + 2."""

PlainSlot: TypeAlias = tuple[int, int, int, int]
"""A slot as plain values: serial, first, last (nanoseconds), cost."""


@attrs.define
class _Slot:
    serial: int
    first: int
    last: int
    cost: int


class SlidingWindow:
    """Admits at most *limit* in every *period* seconds; not a value, it changes."""

    def __init__(
        self, limit: int, period: float = 60.0, *, slots: Sequence[PlainSlot] = ()
    ) -> None:
        """Start with the *slots* of an earlier window, from its `slots()`, or empty.

        Raises:
            ValueError: *limit* or *period* is not positive.
        """
        if limit < 1 or not 0 < period < math.inf:
            msg = f"limit and period must be positive, not {limit} and {period}"
            raise ValueError(msg)
        self.limit = limit
        """It may be changed; what was admitted under another one counts."""
        self.period = period
        self._period = to_ns(period)
        self._grain = self._period // SLOTS_EXACT_MAX
        self._slots = [_Slot(*slot) for slot in slots]
        self._begin = 0
        """So many slots have left the window, and hold nothing any more."""
        self._sums = RunningSums(slot.cost for slot in self._slots)
        self._used = sum(slot.cost for slot in self._slots)
        self._next_serial = self._slots[-1].serial + 1 if self._slots else 1
        self._at = self._slots[-1].last if self._slots else 0

    def __repr__(self) -> str:
        return f"<SlidingWindow {self._used}/{self.limit} in {self.period:g} s>"

    def take(self, now: float, cost: int) -> Take:
        """Take *cost* if it fits now, otherwise say when it will."""
        assert cost >= 0, "a negative cost would make room"
        if cost > self.limit:
            return Never(self.limit)
        self._forget(now)
        if self._used + cost > self.limit:
            return WaitFor(seconds_until(self._room_at(cost), now))
        return self.add(now, cost)

    def add(self, now: float, cost: int) -> Taken:
        """Count *cost* from now on, whether it fits or not."""
        assert cost >= 0, "a negative cost would make room"
        at = self._forget(now)
        slot = self._slot(at)
        slot.cost += cost
        self._sums.add(len(self._slots) - 1, cost)
        self._used += cost
        return Taken(slot.serial, at)

    def ready_at(self, now: float, cost: int) -> float:
        """Return the first time from *now* on when `take` succeeds, infinity if never."""
        if cost > self.limit:
            return math.inf
        self._forget(now)
        return now if self._used + cost <= self.limit else instant(self._room_at(cost))

    def expected_at(self, now: float, cost: int) -> float:
        """Return when all of *cost* is through, if it comes in small parts.

        What is admitted now leaves in a period, and makes room for as much again.
        """
        periods, rest = divmod(max(0, cost - 1), self.limit)
        return self.ready_at(now, min(cost, rest + 1)) + periods * self.period

    def holds_both(self, at: float, cost: int, other: int, other_at: float) -> bool:
        """Say whether *cost* fits at a later time, if *other* is taken at its own."""
        horizon = to_ns(at) - self._period
        gone = bisect_right(self._slots, horizon, lo=self._begin, key=_last)
        used = self._used - self._sums.before(gone)
        if to_ns(other_at) > horizon:
            used += other
        return used + min(cost, self.limit) <= self.limit

    def settle(self, taken: Taken, reserved: int, actual: int) -> None:
        """Replace the *reserved* cost of *taken* by the *actual* one, from its own time on.

        An actual cost above the reserved one may exceed the limit; nothing more
        fits then until it has left. What has left the window already, or was
        taken from another window, changes nothing.
        """
        if not self._slots:
            return
        index = taken.serial - self._slots[0].serial
        if not self._begin <= index < len(self._slots):
            return
        slot = self._slots[index]
        if slot.first <= taken.at <= slot.last:
            slot.cost += actual - reserved
            self._sums.add(index, actual - reserved)
            self._used += actual - reserved

    def available(self, now: float) -> int:
        """Return how much could be taken now."""
        self._forget(now)
        return max(0, self.limit - self._used)

    def slots(self) -> tuple[PlainSlot, ...]:
        """Return what is remembered as plain values, for a successor to start with."""
        live = self._slots[self._begin :]
        return tuple((s.serial, s.first, s.last, s.cost) for s in live)

    def _forget(self, now: float) -> int:
        # A clock that went back counts as one that stands still: what has left the
        # window does not come back, and no cost goes before an older one.
        self._at = max(self._at, to_ns(now))
        horizon = self._at - self._period
        while self._begin < len(self._slots):
            slot = self._slots[self._begin]
            if slot.last > horizon:
                break
            self._used -= slot.cost
            self._sums.add(self._begin, -slot.cost)
            self._begin += 1
        if self._begin == len(self._slots) or self._begin > SLOTS_EXACT_MAX:
            self._sweep()
        return self._at

    def _sweep(self) -> None:
        # In steps of thousands, so that each slot costs a moment once.
        if self._begin:
            del self._slots[: self._begin]
            self._begin = 0
            self._sums = RunningSums(slot.cost for slot in self._slots)

    def _slot(self, at: int) -> _Slot:
        live = len(self._slots) - self._begin
        grain = 0 if live < SLOTS_EXACT_MAX else self._grain
        if live and at - self._slots[-1].first <= grain:
            self._slots[-1].last = at
        else:
            self._slots.append(_Slot(self._next_serial, at, at, 0))
            self._sums.append(0)
            self._next_serial += 1
        return self._slots[-1]

    def _room_at(self, cost: int) -> int:
        # The slots that have left hold nothing, so the sums begin with the others.
        index = self._sums.reaching(self._used + cost - self.limit)
        assert index < len(self._slots), "a cost within the limit fits some time"
        return self._slots[index].last + self._period


def _last(slot: _Slot) -> int:
    return slot.last
