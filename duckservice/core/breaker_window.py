"""How the requests of the last while have ended: counts in a sliding window.

Time is cut into slices, 60 to a window, and each slice keeps three whole numbers:
so memory is bounded however many requests there are, and sums are exact. The
window is the slice of now and the 59 before it. A request that ended at time *t*
counts in it from *t* on, for more than 59/60 of its length and for no longer than
all of it.
"""

from __future__ import annotations

import attrs

SLICES = 60
"""So many to a window."""


@attrs.frozen
class Slice:
    """What ended in one slice of time."""

    number: int
    """Since the clock's zero."""
    requests: int = 0
    failures: int = 0
    slow: int = 0


@attrs.frozen
class Window:
    """What ended in the last slices; the sums are those of *slices*."""

    slices: tuple[Slice, ...] = ()
    """The oldest first; only those in which something ended."""
    requests: int = 0
    failures: int = 0
    slow: int = 0

    @property
    def failure_rate(self) -> float:
        """The part of the requests that failed; 0 if there were none."""
        return self.failures / self.requests if self.requests else 0.0

    @property
    def slow_rate(self) -> float:
        """The part of the requests that were slow; 0 if there were none."""
        return self.slow / self.requests if self.requests else 0.0

    def at(self, now: float, length: float) -> Window:
        """Return what of it still counts *now*, if the window is *length* long."""
        first = _number(now, length) - SLICES + 1
        if not self.slices or self.slices[0].number >= first:
            return self
        kept = tuple(its for its in self.slices if its.number >= first)
        return Window(
            kept,
            sum(its.requests for its in kept),
            sum(its.failures for its in kept),
            sum(its.slow for its in kept),
        )

    def add(self, now: float, length: float, *, failed: bool, slow: bool) -> Window:
        """Return it with one more request that ends *now*."""
        old = self.at(now, length)
        number, before = _number(now, length), old.slices
        last = Slice(number)
        if before and before[-1].number >= number:
            before, last = before[:-1], before[-1]
        last = Slice(
            last.number,
            last.requests + 1,
            last.failures + failed,
            last.slow + slow,
        )
        return Window(
            (*before, last),
            old.requests + 1,
            old.failures + failed,
            old.slow + slow,
        )


NOTHING = Window()


def _number(now: float, length: float) -> int:
    return int(now * SLICES // length)
