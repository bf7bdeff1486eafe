"""When a breaker opens, and how it closes again: the numbers, and what they decide."""

from __future__ import annotations

import attrs
from attrs.validators import and_, ge, gt, le, optional

from duckservice.core.breaker_window import Window

_PART = and_(gt(0.0), le(1.0))


@attrs.frozen(kw_only=True)
class BreakerPolicy:
    """When a breaker opens and closes; times are in seconds."""

    failure_threshold: int = attrs.field(default=5, validator=ge(1))
    """So many failures in a row open it."""
    success_threshold: int = attrs.field(default=3, validator=ge(1))
    """So many successful probes close it."""
    reset_timeout: float = attrs.field(default=60.0, validator=ge(0))
    """How long an open breaker refuses everything."""
    half_open_max: int = attrs.field(default=1, validator=ge(1))
    """So many probes may be out at once."""
    probe_timeout: float = attrs.field(default=120.0, validator=gt(0))
    """After this time a silent probe gives its place back and counts as nothing."""
    failure_rate: float | None = attrs.field(default=None, validator=optional(_PART))
    """So large a part of the window that failed opens it."""
    slow_call: float | None = attrs.field(default=None, validator=optional(gt(0)))
    """Who waits longer for the first of a reply has a slow one; None: nobody has."""
    slow_rate: float = attrs.field(default=0.5, validator=_PART)
    """So large a part of the window that was slow opens it."""
    window: float = attrs.field(default=60.0, validator=gt(0))
    """What the rates are taken over."""
    min_requests: int = attrs.field(default=20, validator=ge(1))
    """With fewer requests in the window there is no rate."""

    @property
    def has_rates(self) -> bool:
        """Whether the window matters at all."""
        return self.failure_rate is not None or self.slow_call is not None


def why_open(policy: BreakerPolicy, failures: int, window: Window) -> str | None:
    """Return why a closed breaker opens after so many *failures* in a row.

    None: it stays closed.
    """
    if failures >= policy.failure_threshold:
        return f"{failures} failures in a row" if failures > 1 else "a failure"
    if not policy.has_rates or window.requests < policy.min_requests:
        return None
    # Whole numbers are divided, and not a rate multiplied: 6 of 10 are 0.6 exactly.
    rate, most = window.failure_rate, policy.failure_rate
    if most is not None and rate >= most:
        return f"failure rate {rate:.2f}"
    if policy.slow_call is not None and window.slow_rate >= policy.slow_rate:
        return f"slow calls: {window.slow} of {window.requests}"
    return None
