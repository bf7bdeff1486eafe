"""A histogram that costs next to nothing to add to: counts between fixed bounds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, final

import attrs

SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""For what may take a moment or many minutes."""
WAITS: Final = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)  # fmt: skip
"""For what may wait for a day."""
COMMITS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
    5.0,
)  # fmt: skip
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


@final
@attrs.define(eq=False)
class Histogram:
    """How many values were at most as large as each of some bounds."""

    bounds: tuple[float, ...]
    """In rising order."""
    sum: float = 0.0
    _counts: list[int] = attrs.field(init=False)
    """For each bound those above the one before; last, those above all."""

    def __attrs_post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def cumulated(self) -> Iterator[tuple[float, int]]:
        """Yield each bound, infinity last, with how many were at most as large."""
        total = 0
        for bound, count in zip(
            (*self.bounds, float("inf")), self._counts, strict=True
        ):
            total += count
            yield bound, total

    def copy(self) -> Histogram:
        """Return one that stays as this one is now."""
        twin = Histogram(self.bounds, self.sum)
        twin._counts = list(self._counts)
        return twin
