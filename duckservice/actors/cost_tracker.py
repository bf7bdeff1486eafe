"""The cost tracker actor: adds up what requests cost, and tells.

The sums themselves belong to the tree, not to an incarnation, and adding to
them is all or nothing: a crash here loses no cent.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from duckservice.completion import Usage
from duckservice.core.cost_sums import By, CostSums, Summary, Timeframe


@attrs.define
class CostTracker:
    """Knows what was spent: in total, by day and hour, by provider and model."""

    _sums: CostSums
    _wall_clock: Callable[[], float]

    def track(
        self,
        provider: str,
        model: str,
        usage: Usage,
        cost: int | None,
        *,
        ok: bool = True,
    ) -> None:
        """Add one attempt; *cost* is in picodollars, None if it is not known."""
        self._sums.add(self._wall_clock(), provider, model, usage, cost, ok=ok)

    def summary(self, timeframe: Timeframe = "all", by: By = "total") -> Summary:
        """Return what was spent in *timeframe*, split *by*."""
        return self._sums.summary(self._wall_clock(), timeframe, by)

    def summary_since(self, since: float, by: By = "total") -> Summary:
        """Return what was spent since then (seconds since the epoch), split *by*."""
        return self._sums.summary_since(self._wall_clock(), since, by)
