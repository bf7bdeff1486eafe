"""Which providers to ask for a model, in which order, and why.

The strategies, each with its tie-breaks; the provider's name is always the last:

    priority     lowest number, then health, load, weight (the largest)
    cheapest     price of this request, then priority
    fastest      latency, then priority
    least_busy   load, then priority
    weighted     at random, in proportion to the weights

In all but the first, providers that fail more often than not come last. In all of
them, whoever could not send the request soon, because its limits are used up, comes
behind who can: a limit that is reached spills over. And before all strategies, the
provider that has served a session keeps it, as long as it can serve at once: there
the prompt is cached.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, assert_never

import attrs

from duckservice.core.pricing import usd

Strategy: TypeAlias = Literal[
    "priority", "cheapest", "fastest", "least_busy", "weighted"
]

_NEWS = 0.2
"""How much the latest request weighs in a moving average."""
_LATENCY_HALF_LIFE = 300.0
"""Seconds: of two providers the one that is ten times slower is tried every quarter
of an hour."""
_SICK = 0.5
_STEP = 5.0
"""Seconds; who is late by less than that is as late as others."""


@attrs.frozen
class Health:
    """How a provider did lately: moving averages over its requests."""

    score: float = 1.0
    """From 0, all fail, to 1, all succeed."""
    latency: float | None = None
    """Seconds, of requests that succeeded; None before the first."""

    def update(self, *, ok: bool, latency: float) -> Health:
        """Return the health after one more request.

        The latency of a failure does not count: a provider that refuses quickly
        would seem fast.
        """
        score = self.score + _NEWS * (float(ok) - self.score)
        if not ok:
            return Health(score, self.latency)
        if self.latency is None:
            return Health(score, latency)
        return Health(score, self.latency + _NEWS * (latency - self.latency))

    def rested(self, seconds: float, half_life: float = 60.0) -> Health:
        """Return the health after *seconds* without news.

        Bad records fade: who is ranked last gets no requests, and could
        otherwise never show that it has recovered. Half of one is forgotten after
        *half_life*: no later than its breaker lets a provider come back.
        """
        fading = 0.5 ** (max(0.0, seconds) / half_life)
        return Health(1.0 - (1.0 - self.score) * fading, self.latency)


def faded(latency: float, age: float) -> float:
    """Return what a *latency* in seconds is worth *age* seconds after it was measured.

    Less with time: who is never asked because it was slow once could otherwise never
    show that it is not any more.
    """
    kept: float = 0.5 ** (max(0.0, age) / _LATENCY_HALF_LIFE)
    return latency * kept


@attrs.frozen(kw_only=True)
class Candidate:
    """A provider that serves the model, as it is now."""

    name: str
    priority: int = 1
    weight: int = 1
    eligible: bool = True
    """Whether its breaker would admit a request; see `circuit_breaker.eligible`."""
    retry_at: float | None = None
    """When it may be eligible again; None of one that is not: it has been disabled."""
    health: float = 1.0
    load: float = 0.0
    """Requests under way, as a part of those that may be."""
    latency: float | None = None
    """Seconds; None where it was not measured yet."""
    catch_all: bool = False
    """Whether it serves the model only because it serves any name; a server that does
    may answer with another model."""
    price: int | None = None
    """Estimate for this request in picodollars; None where it is unknown."""
    wait: float = 0.0
    """Seconds until its limits allow the request; infinity: nobody knows."""


@attrs.frozen
class Ranked:
    """A provider's place in the order, in words."""

    name: str
    reason: str


@attrs.frozen
class Route:
    """Providers to ask, the best first, and those passed over."""

    ranked: tuple[Ranked, ...]
    passed_over: tuple[Ranked, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The providers to ask, the best first."""
        return tuple(ranked.name for ranked in self.ranked)


@attrs.frozen
class NoneEligible:
    """Every candidate's breaker refuses."""

    retry_at: float | None
    """When the first of them may be asked again; None where that is not known."""
    passed_over: tuple[Ranked, ...] = ()


def order(
    candidates: Sequence[Candidate],
    strategy: Strategy,
    chance: float,
    *,
    spill_after: float = 1.0,
    keeps: str | None = None,
) -> Route | NoneEligible:
    """Return the eligible *candidates*, the best first; *chance* is random in [0, 1).

    Who needs more than *spill_after* seconds to send the request comes behind who
    does not. *keeps* names the provider that has served the request's session.

    That there are no candidates at all, because nobody serves the model, is for
    the caller to notice: it is another error.
    """
    eligible = [c for c in candidates if c.eligible]
    passed_over = tuple(_passed_over(c) for c in candidates if not c.eligible)
    if not eligible:
        times = [c.retry_at for c in candidates if c.retry_at is not None]
        return NoneEligible(min(times, default=None), passed_over)
    ranked = _soonest(_ranked(eligible, strategy, chance), spill_after)
    reasons = {c.name: _reason(c, strategy, spill_after) for c in ranked}
    kept = next((c for c in ranked if c.name == keeps), None)
    if kept is not None and not _sick(kept) and not _late(kept, spill_after):
        ranked.remove(kept)
        ranked.insert(0, kept)
        reasons[kept.name] = f"it keeps its session; {reasons[kept.name]}"
    return Route(tuple(Ranked(c.name, reasons[c.name]) for c in ranked), passed_over)


def _soonest(ranked: list[Candidate], spill_after: float) -> list[Candidate]:
    """Return the same with those behind that are late, the latest last.

    In steps and not by the very wait: seconds do not outweigh the strategy where
    all are late.
    """
    return sorted(ranked, key=lambda c: _late(c, spill_after))


def _late(c: Candidate, spill_after: float) -> float:
    """Return how late a candidate would be, in steps of 5 s; 0: not late at all."""
    if c.wait <= spill_after:
        return 0
    return math.inf if c.wait == math.inf else 1 + c.wait // _STEP


def _ranked(
    candidates: list[Candidate], strategy: Strategy, chance: float
) -> list[Candidate]:
    if strategy == "priority":
        return sorted(candidates, key=_by_priority)
    ranked = _by(strategy, candidates, chance)
    return sorted(ranked, key=lambda c: c.catch_all)  # else as they are


def _by(
    strategy: Literal["cheapest", "fastest", "least_busy", "weighted"],
    candidates: list[Candidate],
    chance: float,
) -> list[Candidate]:
    match strategy:
        case "cheapest":
            return sorted(candidates, key=_by_price)
        case "fastest":
            return sorted(candidates, key=_by_latency)
        case "least_busy":
            return sorted(candidates, key=_by_load)
        case "weighted":
            well = _drawn([c for c in candidates if not _sick(c)], chance)
            return well + _drawn([c for c in candidates if _sick(c)], chance)
        case _:
            assert_never(strategy)


def _by_priority(c: Candidate) -> tuple[int, bool, int, float, int, str]:
    # Health in tenths: a single failure long ago must not outweigh the load.
    health = -round(c.health * 10)
    return c.priority, c.catch_all, health, c.load, -c.weight, c.name


def _by_price(c: Candidate) -> tuple[bool, bool, int, int, str]:
    # An unknown price may be any price.
    return _sick(c), c.price is None, c.price or 0, c.priority, c.name


def _by_latency(c: Candidate) -> tuple[bool, float, int, str]:
    # Who was not measured yet goes first, or it would never be measured.
    return _sick(c), c.latency or 0.0, c.priority, c.name


def _by_load(c: Candidate) -> tuple[bool, float, int, str]:
    return _sick(c), c.load, c.priority, c.name


def _sick(c: Candidate) -> bool:
    return c.health < _SICK


def _drawn(candidates: list[Candidate], chance: float) -> list[Candidate]:
    """Return the candidates in random order; a weight of 0 means after all others."""
    rest = sorted((c for c in candidates if c.weight > 0), key=lambda c: c.name)
    last = sorted((c for c in candidates if c.weight <= 0), key=lambda c: c.name)
    drawn: list[Candidate] = []
    while rest:
        point = chance * sum(c.weight for c in rest)
        index = 0
        while point >= rest[index].weight and index < len(rest) - 1:
            point -= rest[index].weight
            index += 1
        # Where in its share the point fell is as random as the point was.
        chance = min(point / rest[index].weight, 1.0)
        drawn.append(rest.pop(index))
    return drawn + last


def _reason(c: Candidate, strategy: Strategy, spill_after: float) -> str:
    return _merit(c, strategy) + _delay(c, spill_after)


def _merit(c: Candidate, strategy: Strategy) -> str:
    match strategy:
        case "priority":
            return f"priority {c.priority}, health {c.health:.1f}, load {c.load:.2f}"
        case "cheapest":
            price = "price unknown" if c.price is None else f"{usd(c.price)} USD"
            return price + _ailment(c)
        case "fastest":
            known = c.latency is not None
            latency = f"latency {c.latency:.3f} s" if known else "latency unknown"
            return latency + _ailment(c)
        case "least_busy":
            return f"load {c.load:.2f}{_ailment(c)}"
        case "weighted":
            return f"weight {c.weight}{_ailment(c)}"
        case _:
            assert_never(strategy)


def _ailment(c: Candidate) -> str:
    return f", last because of health {c.health:.1f}" if _sick(c) else ""


def _delay(c: Candidate, spill_after: float) -> str:
    if not _late(c, spill_after):
        return ""
    if c.wait == math.inf:
        return ", its limit has no room"
    return f", its limit has no room for {c.wait:.0f} s"


def _passed_over(c: Candidate) -> Ranked:
    # Time alone brings back whom a breaker refuses; only a user, whom one has disabled.
    disabled = c.retry_at is None
    return Ranked(
        c.name, "it is disabled" if disabled else "its circuit breaker refuses"
    )
