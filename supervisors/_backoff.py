"""How long a restart waits: growing delays with jitter, reset after a quiet time (pure).

OTP restarts at once; so does this library, unless a child spec has a `Backoff`.
"""

from __future__ import annotations

import math
from typing import Any

import attrs


def _at_least_first(
    instance: Backoff, attribute: attrs.Attribute[Any], value: float
) -> None:
    if not instance.first <= value < math.inf:
        msg = f"{attribute.name} must be seconds from `first` on, not {value!r}"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class Backoff:
    """The delays before the restarts of one child."""

    first: float = attrs.field(default=0.1, validator=attrs.validators.gt(0))
    """Seconds before the first restart in a row."""
    factor: float = attrs.field(default=2.0, validator=attrs.validators.ge(1))
    """How much longer each delay is than the one before."""
    limit: float = attrs.field(default=30.0, validator=_at_least_first)
    """Seconds that no delay exceeds."""
    jitter: float = attrs.field(
        default=0.5, validator=[attrs.validators.ge(0), attrs.validators.le(1)]
    )
    """Which part of a delay is left to chance: 0.5 is from half of it to all of it."""
    reset_after: float = attrs.field(default=60.0, validator=attrs.validators.ge(0))
    """Seconds that a child must have run for its failures to be forgotten."""

    def delay(self, failures: int, chance: float) -> float:
        """Return the seconds before the restart after *failures* in a row (from 1).

        *chance* is from 0 (longest) to 1.
        """
        try:
            longest = min(self.limit, self.first * self.factor ** (failures - 1))
        except OverflowError:
            longest = self.limit
        return longest * (1 - self.jitter * chance)

    def failures_after(self, failures: int, ran: float) -> int:
        """Return how many failures in a row there are, with one after *ran* seconds."""
        return 1 if ran >= self.reset_after else failures + 1
