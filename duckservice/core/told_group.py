"""What a provider has told of the limits that some of its models have in common.

Each part of a cost may have a window of 60 s, with the limit that was told, and a
`headroom`, with what was said to be left. What is under way counts in both: in the
headroom for as long as no answer may have counted it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import attrs

from duckservice.core.headroom import Headroom
from duckservice.core.sliding_window import SlidingWindow
from duckservice.core.token_bucket import Taken

Cost: TypeAlias = tuple[int, int, int, int]
"""Requests, tokens, input tokens, output tokens."""

Numbers: TypeAlias = tuple[int | None, int | None, int | None, int | None]
"""The limits of each part, as far as they were told."""

OUTPUT = 3
MINUTE = 60.0


@attrs.define(eq=False)
class UnderWay:
    """A grant whose cost the provider may not have counted in what it said last."""

    at: float
    model: str
    cost: Cost
    group: Group | None = None
    uncounted: list[int] = attrs.field(factory=list[int])
    """What no answer has counted yet, of each part."""
    taken: list[Taken | None] = attrs.field(factory=list[Taken | None])


class Group:
    """Models whose limits look the same: they have one count; it changes."""

    def __init__(self, guard: float) -> None:
        """Start with nothing told; each minute is longer by *guard* seconds."""
        self.numbers: Numbers = (None, None, None, None)
        self.headrooms = [Headroom() for _ in self.numbers]
        self._windows: list[SlidingWindow | None] = [None] * len(self.numbers)
        self._under_way = [0] * len(self.numbers)
        self._guard = guard

    @property
    def knows_of_tokens(self) -> bool:
        """Whether it matters how many tokens a request has."""
        parts = zip(self._windows[1:], self.headrooms[1:], strict=True)
        return any(window is not None or said.knows for window, said in parts)

    # When something may be taken.

    def ready_at(self, now: float, cost: Cost) -> float:
        """Return the first time from *now* on at which *cost* may be taken."""
        at = self._headroom_at(now, cost)
        for window, part in zip(self._windows, cost, strict=True):
            if window:
                # What we were told may be too small for what a user has asked for;
                # then it goes alone.
                at = max(at, window.ready_at(now, min(part, window.limit)))
        return at

    def expected_at(self, now: float, cost: Cost) -> float:
        """Return about when all of *cost* is through, if it comes in small parts."""
        at = self._headroom_at(now, cost)
        for window, part in zip(self._windows, cost, strict=True):
            if window:
                at = max(at, window.expected_at(now, part))
        return at

    def counts_on(self, now: float, first: Cost) -> float:
        """Return until when *first* waits for the provider's own count.

        We do not know its rules: what is taken until then may put off when all is
        back.
        """
        return self._headroom_at(now, first)

    def leaves_room(
        self, at: float, first: Cost, second: Cost, second_at: float
    ) -> bool:
        """Say whether *first*, ready then, still is if *second* goes at its own time."""
        one, two, three, four = (a + b for a, b in zip(first, second, strict=True))
        if self._headroom_at(at, (one, two, three, four)) > at:
            return False
        return all(
            window is None or window.holds_both(at, its, other, second_at)
            for window, its, other in zip(self._windows, first, second, strict=True)
        )

    def room(self, now: float) -> float:
        """Return what part of the tightest limit is left: 1 is all of it."""
        parts = [1.0]
        for part, window in enumerate(self._windows):
            left = self.left(now, part)
            if window and left is not None:
                parts.append(left / window.limit)
        return min(parts)

    def left(self, now: float, part: int) -> int | None:
        """Return how much of one *part* may be taken now; None: any number."""
        window, said = self._windows[part], self.headrooms[part].left(now)
        counts = [] if window is None else [window.available(now)]
        if said is not None:
            counts.append(max(0, said - self._under_way[part]))
        return min(counts, default=None)

    # What was told.

    def limit(self, now: float, numbers: Numbers, members: Iterable[UnderWay]) -> None:
        """Have these limits from *now* on; what is under way counts in new ones, too."""
        self.numbers = numbers
        under_way = list(members)
        for part, limit in enumerate(numbers):
            window = self._windows[part]
            if limit is None:
                continue
            if window is not None:
                window.limit = limit
                continue
            window = SlidingWindow(limit, MINUTE + self._guard)
            self._windows[part] = window
            for its in under_way:
                its.taken[part] = window.add(now, its.cost[part])

    def counted(self, its: UnderWay, part: int) -> None:
        """Note that an answer has counted one *part* of what is under way."""
        self._under_way[part] -= its.uncounted[part]
        its.uncounted[part] = 0

    # What is under way.

    def join(self, now: float, its: UnderWay) -> None:
        """Count what is under way here; of what other groups heard it is no part."""
        its.group = self
        its.uncounted = list(its.cost)
        for part, cost in enumerate(its.cost):
            self._under_way[part] += cost
        its.taken = [
            window.add(now, part) if window else None
            for window, part in zip(self._windows, its.cost, strict=True)
        ]

    def leave(self, its: UnderWay) -> None:
        """Take it out as if it had never been here."""
        self._settle(its, (0, 0, 0, 0))
        for part, cost in enumerate(its.uncounted):
            self._under_way[part] -= cost
        its.group = None

    def sent(self, now: float, its: UnderWay) -> None:
        """Have it count from *now* on, and not from when it was granted."""
        self._settle(its, (0, 0, 0, 0))
        its.taken = [
            window.add(now, part) if window else None
            for window, part in zip(self._windows, its.cost, strict=True)
        ]

    def end(self, its: UnderWay, actual: Cost) -> None:
        """Have it under way no more; what no answer has counted is charged."""
        self._settle(its, actual)
        for part, cost in enumerate(its.uncounted):
            self._under_way[part] -= cost
            self.headrooms[part].charge(actual[part] if part == OUTPUT else cost)
        its.group = None

    def _settle(self, its: UnderWay, actual: Cost) -> None:
        for window, taken, reserved, part in zip(
            self._windows, its.taken, its.cost, actual, strict=True
        ):
            if window and taken:
                window.settle(taken, reserved, part)

    def _headroom_at(self, now: float, cost: Cost) -> float:
        return max(
            said.ready_at(now, part + under_way) if said.knows else now
            for said, part, under_way in zip(
                self.headrooms, cost, self._under_way, strict=True
            )
        )
