"""Time as whole nanoseconds, so that limits can be counted exactly.

The clock gives seconds as floats, whose sums drift. Here is the one place where
they become integers and where integers become seconds again; the way back is
rounded up, so that who waits until then does not come a nanosecond early.
"""

from __future__ import annotations

import math

PER_SECOND = 1_000_000_000


def to_ns(seconds: float) -> int:
    """Return *seconds* in nanoseconds."""
    return round(seconds * PER_SECOND)


def instant(ns: int) -> float:
    """Return the earliest time in seconds that is not before *ns*."""
    seconds = ns / PER_SECOND
    while to_ns(seconds) < ns:
        seconds = math.nextafter(seconds, math.inf)
    return seconds


def seconds_until(ns: int, now: float) -> float:
    """Return the seconds to wait from *now*, so that ``now + seconds`` reaches *ns*."""
    seconds = max(0.0, instant(ns) - now)
    while to_ns(now + seconds) < ns:
        seconds += math.ulp(now + seconds)
    return seconds
