"""What came of a scenario."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from duckservice.chaos.judge import Outcome, Verdict
from duckservice.chaos.scenarios import Scenario
from duckservice.chaos.wire import Json

_BADNESS: Final[dict[Outcome, int]] = {"rescued": 0, "safe": 1, "failed": 2}


@attrs.frozen(kw_only=True)
class Run:
    """One run of a scenario."""

    verdict: Verdict
    took: float
    """Seconds until the client had its answer; of many requests, of all."""
    calls: int
    """At all providers."""
    wasted: int
    """Of them, at a sick one."""
    requests: int = 1

    @property
    def badness(self) -> int:
        """The worse, the more."""
        return _BADNESS[self.verdict.outcome]


@attrs.frozen(kw_only=True)
class Result:
    """A row of the table: its runs, by what was asked for."""

    scenario: Scenario
    model: str
    runs: dict[str, Run]
    """By ``whole`` and ``stream``, or ``load``."""

    @property
    def worst(self) -> Run:
        """The run that decides."""
        return max(self.runs.values(), key=lambda run: run.badness)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the scenario."""
        return self.worst.verdict

    def as_json(self) -> Json:
        """Return it as data."""
        return {
            "scenario": self.scenario.name,
            "title": self.scenario.title,
            "model": self.model,
            "verdict": self.verdict.outcome,
            "reason": self.verdict.reason,
            "runs": {name: _run(run) for name, run in self.runs.items()},
        }


def _run(run: Run) -> Json:
    return {
        "verdict": run.verdict.outcome,
        "reason": run.verdict.reason,
        "seconds": round(run.took, 3),
        "requests": run.requests,
        "calls": run.calls,
        "wasted_calls": run.wasted,
    }


def tally(results: Sequence[Result]) -> dict[str, int]:
    """Return how many of each outcome there are."""
    outcomes = [result.verdict.outcome for result in results]
    return {name: outcomes.count(name) for name in _BADNESS}
