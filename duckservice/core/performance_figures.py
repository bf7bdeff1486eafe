"""What is said of performance: one attempt, and the figures over many of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import attrs

from duckservice.core.circuit_breaker import Outcome


@attrs.frozen(kw_only=True)
class Sample:
    """One attempt that has ended."""

    at: float
    """When it ended."""
    code: str
    """``ok``, ``cancelled`` or the code of its error."""
    outcome: Outcome
    duration: float
    """Seconds from the sending to the end."""
    first_token: float | None = None
    """Seconds from the sending to the first content; None where nothing was streamed."""
    output_tokens: int = 0
    """As the provider counts them; 0 where it does not."""


@attrs.frozen(kw_only=True)
class Spread:
    """Some measured times, in seconds; percentiles by nearest rank."""

    average: float
    p50: float
    p90: float
    p99: float


@attrs.frozen(kw_only=True)
class Counts:
    """Some attempts, by how they ended."""

    successes: int = 0
    failures: Mapping[str, int] = attrs.field(factory=dict[str, int])
    """By code: those that count against the provider."""
    not_counted: Mapping[str, int] = attrs.field(factory=dict[str, int])
    """By code: those that say nothing about it."""

    @property
    def requests(self) -> int:
        """All of them."""
        return self.successes + self.failed + sum(self.not_counted.values())

    @property
    def failed(self) -> int:
        """Those that count against the provider."""
        return sum(self.failures.values())

    @property
    def success_rate(self) -> float | None:
        """From 0 to 1, of those that were judged; None where none was."""
        return success_rate(self.successes, self.failed)


@attrs.frozen(kw_only=True)
class Outlook:
    """What is to be expected of the next attempt; None where nothing is known."""

    success_rate: float | None = None
    """Over the window."""
    latency_ewma: float | None = None
    """Seconds to the end of a whole reply."""
    ttft_ewma: float | None = None
    """Seconds to the first content of a streamed one."""
    samples: int = 0
    """So many judged attempts are behind the success rate."""
    age: float | None = None
    """Seconds since either average has changed. An old average may be wrong by now,
    and who is avoided for it gets no chance to mend it."""


@attrs.frozen(kw_only=True)
class Statistics:
    """Everything that is known of a provider, or of one model of it."""

    window: Counts
    latency: Spread | None
    """Of the window's successes."""
    first_token: Spread | None
    """Of those of the window that streamed anything."""
    tokens_per_second: float | None
    """All output tokens of the window's successes, by all the time that they took."""
    ever: Counts
    """Since the start."""
    outlook: Outlook


def success_rate(successes: int, failures: int) -> float | None:
    """Return the share of successes, from 0 to 1; None where nothing was judged."""
    judged = successes + failures
    return successes / judged if judged else None


def spread(times: Iterable[float]) -> Spread | None:
    """Return how some measured *times* spread; None where there are none."""
    ranked = sorted(times)
    if not ranked:
        return None

    def nearest(percent: int) -> float:
        return ranked[-(-percent * len(ranked) // 100) - 1]

    return Spread(
        average=math.fsum(ranked) / len(ranked),
        p50=nearest(50),
        p90=nearest(90),
        p99=nearest(99),
    )
