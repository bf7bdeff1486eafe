"""The token bucket as a value, in integers: it neither drifts nor forgets.

A bucket holds up to ``capacity`` tokens and gets ``refill_rate`` of them a
second. Tokens are counted in units so small that each nanosecond brings a whole
number of them, so a million small steps give exactly what one large step gives.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TypeAlias

import attrs

from duckservice.core.nanoseconds import PER_SECOND, instant, seconds_until, to_ns


@attrs.frozen
class Taken:
    """The cost was taken. A sliding window names here what to settle later."""

    serial: int = 0
    at: int = 0


@attrs.frozen
class WaitFor:
    """There is not enough now; there will be after so many seconds."""

    seconds: float


@attrs.frozen
class Never:
    """The cost is larger than the limit: no waiting helps."""

    limit: int


Take: TypeAlias = Taken | WaitFor | Never

_TAKEN = Taken()


@attrs.frozen
class TokenBucket:
    """Tokens that come in steadily and are taken in lumps; see `full` and `empty`."""

    capacity: int
    units_per_token: int = attrs.field(repr=False)
    units_per_ns: int = attrs.field(repr=False)
    units: int
    """What was in it at that time."""
    at: int
    """Nanoseconds."""


def full(capacity: int, refill_rate: float, now: float) -> TokenBucket:
    """Return a bucket with all its tokens; the rate is in tokens per second."""
    bucket = empty(capacity, refill_rate, now)
    return attrs.evolve(bucket, units=capacity * bucket.units_per_token)


def empty(capacity: int, refill_rate: float, now: float) -> TokenBucket:
    """Return a bucket without tokens, as after a crash that forgot how many there were.

    Raises:
        ValueError: *capacity* or *refill_rate* is not a positive number.
    """
    if capacity < 1:
        msg = f"capacity must be at least 1, not {capacity}"
        raise ValueError(msg)
    if not 0 < refill_rate < math.inf:
        msg = f"refill_rate must be a positive number, not {refill_rate}"
        raise ValueError(msg)
    # The shortest decimal of the float is what the user wrote: 0.1 is a tenth.
    per_ns = Fraction(repr(refill_rate)) / PER_SECOND
    return TokenBucket(
        capacity,
        units_per_token=per_ns.denominator,
        units_per_ns=per_ns.numerator,
        units=0,
        at=to_ns(now),
    )


def resized(
    bucket: TokenBucket, capacity: int, refill_rate: float, now: float
) -> TokenBucket:
    """Return a bucket of another size with what is in this one, as far as it holds it.

    A larger one fills up with time: else making it small and large again filled it.

    Raises:
        ValueError: *capacity* or *refill_rate* is not a positive number.
    """
    its = empty(capacity, refill_rate, now)
    left = min(capacity, available(bucket, now))
    return attrs.evolve(its, units=left * its.units_per_token)


def take(bucket: TokenBucket, now: float, cost: int) -> tuple[TokenBucket, Take]:
    """Take *cost* tokens if there are so many now, otherwise say when there will be."""
    assert cost >= 0, "a negative cost would fill the bucket"
    if cost > bucket.capacity:
        return bucket, Never(bucket.capacity)
    bucket = _refilled(bucket, now)
    units = bucket.units - cost * bucket.units_per_token
    if units < 0:
        return bucket, WaitFor(seconds_until(_enough_at(bucket, cost), now))
    return _holding(bucket, units, bucket.at), _TAKEN


def ready_at(bucket: TokenBucket, now: float, cost: int) -> float:
    """Return the first time from *now* on at which `take` succeeds, infinity if never."""
    if cost > bucket.capacity:
        return math.inf
    bucket = _refilled(bucket, now)
    if bucket.units >= cost * bucket.units_per_token:
        return now
    return instant(_enough_at(bucket, cost))


def expected_at(bucket: TokenBucket, now: float, cost: int) -> float:
    """Return when all of *cost* is through, if it is taken in parts as tokens come."""
    bucket = _refilled(bucket, now)
    if bucket.units >= cost * bucket.units_per_token:
        return now
    return instant(_enough_at(bucket, cost))


def lasts(bucket: TokenBucket, now: float, cost: int, later: float, other: int) -> bool:
    """Say whether *other* can be taken *later*, if *cost* is taken now."""
    bucket, answer = take(bucket, now, cost)
    return isinstance(answer, Taken) and ready_at(bucket, later, other) <= later


def give_back(bucket: TokenBucket, now: float, cost: int) -> TokenBucket:
    """Return what was taken and not used; the bucket never gets more than full."""
    assert cost >= 0, "a negative cost would empty the bucket"
    bucket = _refilled(bucket, now)
    units = bucket.units + cost * bucket.units_per_token
    most = bucket.capacity * bucket.units_per_token
    return _holding(bucket, min(most, units), bucket.at)


def available(bucket: TokenBucket, now: float) -> int:
    """Return how many whole tokens could be taken now."""
    return _refilled(bucket, now).units // bucket.units_per_token


def _refilled(bucket: TokenBucket, now: float) -> TokenBucket:
    at = to_ns(now)
    if at <= bucket.at:
        # The same instant again, or a clock that went back: no time has passed
        # that the bucket was not paid for already.
        return bucket
    units = bucket.units + (at - bucket.at) * bucket.units_per_ns
    most = bucket.capacity * bucket.units_per_token
    return _holding(bucket, min(most, units), at)


def _enough_at(bucket: TokenBucket, cost: int) -> int:
    missing = cost * bucket.units_per_token - bucket.units
    return bucket.at + -(-missing // bucket.units_per_ns)


def _holding(bucket: TokenBucket, units: int, at: int) -> TokenBucket:
    """Return the same bucket with *units* in it; `attrs.evolve` takes 3 times as long."""
    return TokenBucket(
        bucket.capacity, bucket.units_per_token, bucket.units_per_ns, units, at
    )
