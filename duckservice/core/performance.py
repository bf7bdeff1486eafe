"""How a provider and each of its models performed lately: rates, percentiles, averages.

Two memories side by side, of the provider as a whole and of each of its models:

    window     the attempts of the last 15 minutes, at most the newest 1000, kept one
               by one, so that every figure over them is exact
    averages   moving averages, which outlive the window, for whoever routes

An attempt is judged as its breaker judges it (`circuit_breaker.outcome_of`): the
success rate leaves out what says nothing about the provider, such as a client that
has gone, a 429 or a refused request. The latency is that of whole replies, from the
sending to the end: a provider that fails quickly is not a quick provider. The time
to the first token counts as soon as there was one, however the stream has ended.

All times come from one clock that never goes back.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from typing import final

import attrs

from duckservice.core.circuit_breaker import Outcome
from duckservice.core.performance_figures import (
    Counts,
    Outlook,
    Sample,
    Statistics,
    spread,
    success_rate,
)

WINDOW = 15 * 60.0
"""Seconds after which an attempt is left out."""
SAMPLES_MAX = 1000
"""So many attempts are kept, of the provider and of each model."""
MODELS_MAX = 50
"""So many models of a provider are told apart; the one without news for longest goes."""

_NEWS = 0.2
"""How much the latest attempt weighs in a moving average, at least."""
_HALF_LIFE = 60.0
"""Seconds without news after which what was known weighs half."""


@final
class PerformanceMonitor:
    """Remembers how the attempts at one provider ended; its size is bounded."""

    def __init__(self) -> None:
        self._all = _Series()
        self._models: dict[str, _Series] = {}
        """Those with the latest news last."""

    def __repr__(self) -> str:
        kept = len(self._all.kept)
        return f"<PerformanceMonitor {len(self._models)} models, {kept} samples>"

    def track(self, model: str, sample: Sample) -> None:
        """Take note of an attempt, at the time when it ended."""
        self._all.add(sample)
        series = self._models.pop(model, None)
        if series is None:
            if sample.outcome is Outcome.NEITHER:
                return  # a name that somebody made up must not displace a model
            series = _Series()
            if len(self._models) >= MODELS_MAX:
                del self._models[next(iter(self._models))]
        self._models[model] = series
        series.add(sample)

    def models(self) -> Sequence[str]:
        """Return the models with figures of their own, by name."""
        return sorted(self._models)

    def statistics(self, now: float, model: str | None = None) -> Statistics:
        """Return everything known at *now* of one *model*, or (None) of the provider."""
        return (self._series(model) or _Series()).statistics(now)

    def outlook(self, model: str | None, now: float) -> Outlook:
        """Return what to expect of *model*, or (None) of the provider as a whole.

        Cheap enough to be asked for every request.
        """
        series = self._series(model)
        return Outlook() if series is None else series.outlook(now)

    def shortest(self, model: str, now: float) -> float:
        """Return the seconds in which *model* has never answered lately, 0 if unknown."""
        series = self._series(model)
        return 0.0 if series is None else series.shortest(now)

    def _series(self, model: str | None) -> _Series | None:
        return self._all if model is None else self._models.get(model)


@attrs.frozen
class _Average:
    """A moving average; what is old weighs less, even where news is rare."""

    value: float | None = None
    at: float = -math.inf

    def update(self, now: float, value: float) -> _Average:
        if self.value is None:
            return _Average(value, now)
        kept = (1.0 - _NEWS) * 0.5 ** ((now - self.at) / _HALF_LIFE)
        return _Average(value + kept * (self.value - value), now)


@attrs.define(eq=False)
class _Tally:
    """Attempts counted by how they ended, one at a time."""

    successes: int = 0
    failed: int = 0
    _failures: Counter[str] = attrs.field(factory=Counter[str])
    _not_counted: Counter[str] = attrs.field(factory=Counter[str])

    def add(self, sample: Sample, by: int = 1) -> None:
        if sample.outcome is Outcome.SUCCESS:
            self.successes += by
        elif sample.outcome is Outcome.FAILURE:
            self.failed += by
            self._failures[sample.code] += by
        else:
            self._not_counted[sample.code] += by

    def counts(self) -> Counts:
        return Counts(
            successes=self.successes,
            failures={code: n for code, n in sorted(self._failures.items()) if n},
            not_counted={code: n for code, n in sorted(self._not_counted.items()) if n},
        )


@attrs.define(eq=False)
class _Series:
    """Attempts at one model, or at all of a provider's."""

    kept: deque[Sample] = attrs.field(factory=deque[Sample])
    _recently: _Tally = attrs.field(factory=_Tally)
    """Of those kept, so that the outlook need not count."""
    _ever: _Tally = attrs.field(factory=_Tally)
    _latency: _Average = attrs.field(factory=_Average)
    _first_token: _Average = attrs.field(factory=_Average)

    def add(self, sample: Sample) -> None:
        if len(self.kept) >= SAMPLES_MAX:
            self._drop()
        self.kept.append(sample)
        self._recently.add(sample)
        self._ever.add(sample)
        if sample.outcome is Outcome.SUCCESS:
            self._latency = self._latency.update(sample.at, sample.duration)
        if sample.first_token is not None:
            self._first_token = self._first_token.update(sample.at, sample.first_token)

    def outlook(self, now: float) -> Outlook:
        self._expire(now)
        well, ill = self._recently.successes, self._recently.failed
        at = max(self._latency.at, self._first_token.at)
        return Outlook(
            success_rate=success_rate(well, ill),
            latency_ewma=self._latency.value,
            ttft_ewma=self._first_token.value,
            samples=well + ill,
            age=None if at == -math.inf else now - at,
        )

    def statistics(self, now: float) -> Statistics:
        self._expire(now)
        whole = [s for s in self.kept if s.outcome is Outcome.SUCCESS]
        counted = [s for s in whole if s.output_tokens > 0]
        seconds = math.fsum(s.duration for s in counted)
        tokens = sum(s.output_tokens for s in counted)
        begun = (s.first_token for s in self.kept if s.first_token is not None)
        return Statistics(
            window=self._recently.counts(),
            latency=spread(s.duration for s in whole),
            first_token=spread(begun),
            tokens_per_second=tokens / seconds if seconds > 0 else None,
            ever=self._ever.counts(),
            outlook=self.outlook(now),
        )

    def shortest(self, now: float) -> float:
        self._expire(now)
        whole = (s.duration for s in self.kept if s.outcome is Outcome.SUCCESS)
        return min(whole, default=0.0)

    def _expire(self, now: float) -> None:
        while self.kept and self.kept[0].at <= now - WINDOW:
            self._drop()

    def _drop(self) -> None:
        self._recently.add(self.kept.popleft(), -1)
