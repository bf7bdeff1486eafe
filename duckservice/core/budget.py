"""A spending limit as a value: reserve the worst case, settle the actual cost.

Amounts are whole picodollars. What is reserved counts as spent until it is
settled, so requests that run at the same time cannot overspend together:

    settled + reserved <= limit

holds after every `reserve`. Only a provider that bills more than the worst case
can break it, by exactly the difference; nothing is reserved then until a new
budget starts.
"""

from __future__ import annotations

import attrs
from attrs.validators import ge

SHARES = (50, 80, 100)
"""Percent of a limit at which somebody is to be told."""


@attrs.frozen
class Budget:
    """How much may be spent, is spent, and may yet be spent by what is under way."""

    limit: int = attrs.field(validator=ge(0))
    settled: int = attrs.field(default=0, validator=ge(0))
    reserved: int = attrs.field(default=0, validator=ge(0))

    @property
    def remaining(self) -> int:
        """What may still be reserved."""
        return max(0, self.limit - self.settled - self.reserved)

    @property
    def reached(self) -> int:
        """The highest of `SHARES` that is spent; 0: none, as where nothing may be."""
        shares = (
            s for s in SHARES if self.limit and self.settled * 100 >= self.limit * s
        )
        return max(shares, default=0)


def reserve(budget: Budget, worst_case: int) -> Budget | None:
    """Return the budget with *worst_case* reserved, or None if it does not fit."""
    assert worst_case >= 0, "a negative reservation would raise the limit"
    if worst_case > budget.remaining:
        return None
    return attrs.evolve(budget, reserved=budget.reserved + worst_case)


def settle(budget: Budget, worst_case: int, actual: int) -> Budget:
    """Return the budget after the request that reserved *worst_case* cost *actual*."""
    assert actual >= 0, "nobody is paid for a request"
    return attrs.evolve(release(budget, worst_case), settled=budget.settled + actual)


def release(budget: Budget, worst_case: int) -> Budget:
    """Return the budget after the request that reserved *worst_case* was not sent."""
    assert 0 <= worst_case <= budget.reserved, "it was not reserved, or twice settled"
    return attrs.evolve(budget, reserved=budget.reserved - worst_case)
