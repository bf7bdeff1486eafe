"""How long commits take and how many share one; written by the writer's thread."""

from __future__ import annotations

from typing import final

import attrs

from duckservice.metrics.histogram import COMMITS, SIZES, Histogram


@final
@attrs.define(eq=False)
class Commits:
    """The groups of writes that were committed since the store was opened."""

    seconds: Histogram = attrs.field(factory=lambda: Histogram(COMMITS))
    """From the beginning of the transaction until it was on the disk."""
    sizes: Histogram = attrs.field(factory=lambda: Histogram(SIZES))

    def note(self, size: int, seconds: float) -> None:
        """Take note of a group of *size* writes."""
        self.seconds.add(seconds)
        self.sizes.add(size)

    def copy(self) -> Commits:
        """Return what it is now; another thread may go on adding to this."""
        return Commits(self.seconds.copy(), self.sizes.copy())
