"""The rate limit of one provider: bucket, requests and tokens a minute, Retry-After.

All of them must allow a request, and a grant takes from all of them or from none.
Who must wait does so in one line (see `waiting_line`); if the next one does not
fit yet, nobody overtakes it, or a large request would wait for ever behind a
stream of small ones.

The caller asks `next_wakeup` whenever something has changed, and calls `due` then.
"""

from __future__ import annotations

import math
from typing import Generic, TypeAlias

import attrs
from attrs.validators import ge, gt, optional

from duckservice.core import token_bucket
from duckservice.core.sliding_window import PlainSlot, SlidingWindow
from duckservice.core.token_bucket import Never, Taken, TokenBucket
from duckservice.core.waiting_line import Priority, W, WaitingLine

RETRY_AFTER_MAX = 120.0
"""Longer pauses than this (seconds) are not believed."""

_MINUTE = 60.0


@attrs.frozen(kw_only=True)
class Limits:
    """What one provider allows; what is None is not limited."""

    capacity: int | None = None
    """Requests that the token bucket holds; goes with ``refill_rate``."""
    refill_rate: float | None = None
    """Requests per second."""
    requests_per_minute: int | None = attrs.field(
        default=None, validator=optional(ge(1))
    )
    tokens_per_minute: int | None = attrs.field(default=None, validator=optional(ge(1)))
    guard: float = attrs.field(default=0.5, validator=ge(0))
    """Seconds by which our minute is longer than the provider's: requests that we
    send a minute apart may arrive closer together than that."""
    waiting_max: int = attrs.field(default=1000, validator=ge(0))
    aging: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds after which a waiter rises by one class."""

    def __attrs_post_init__(self) -> None:
        if (self.capacity is None) != (self.refill_rate is None):
            msg = "capacity and refill_rate go together"
            raise ValueError(msg)


@attrs.define(eq=False)
class Grant:
    """The leave to send one request now; end it with `settle` or `give_back`, once."""

    tokens: int
    """So many were reserved."""
    requests_taken: Taken | None = attrs.field(default=None, repr=False)
    tokens_taken: Taken | None = attrs.field(default=None, repr=False)
    settled: bool = False


@attrs.frozen
class Waits:
    """Not now; a grant will come from `due`, or `remove` ends it."""


@attrs.frozen
class LineFull:
    """Too many wait already; this one does not."""

    waiting_max: int


Acquired: TypeAlias = Grant | Waits | LineFull | Never


@attrs.frozen(kw_only=True)
class LimiterMemory:
    """What a limiter has to know of the past, as plain values, for its successor."""

    bucket: TokenBucket | None
    requests: tuple[PlainSlot, ...]
    tokens: tuple[PlainSlot, ...]
    blocked_until: float


@attrs.frozen(kw_only=True)
class LimiterStatistics:
    """What the dashboard shows of a limiter; None is unlimited."""

    waiting: int
    blocked_until: float | None
    requests_available: int | None
    tokens_available: int | None


class Limiter(Generic[W]):
    """Says who may send when. `W` is any hashable that names a waiter."""

    def __init__(
        self, limits: Limits, now: float, *, memory: LimiterMemory | None = None
    ) -> None:
        """Start with full limits, or with what an earlier limiter remembered."""
        self.limits = limits
        self._bucket = _bucket(limits, now, memory)
        self._requests = _window(
            limits.requests_per_minute, limits.guard, memory.requests if memory else ()
        )
        self._tokens = _window(
            limits.tokens_per_minute, limits.guard, memory.tokens if memory else ()
        )
        self._blocked_until = memory.blocked_until if memory else -math.inf
        self._line = WaitingLine[W](aging=limits.aging)
        self._cost_of: dict[W, int] = {}
        self._wakeup: float | None = None

    def acquire(
        self, now: float, tokens: int, waiter: W, priority: Priority = "normal"
    ) -> Acquired:
        """Grant one request with up to *tokens* tokens, or let *waiter* wait for it.

        What can never fit is answered `Never` at once.

        Raises:
            ValueError: *waiter* waits already.
        """
        assert tokens >= 0, "a negative number of tokens would make room"
        if self._tokens and tokens > self._tokens.limit:
            return Never(self._tokens.limit)
        if not len(self._line) and self._ready_at(now, tokens) <= now:
            return self._grant(now, tokens)
        if len(self._line) >= self.limits.waiting_max:
            return LineFull(self.limits.waiting_max)
        self._line.enter(now, priority, waiter)
        self._cost_of[waiter] = tokens
        if self._line.next() == waiter:
            self._wakeup = None
        return Waits()

    def due(self, now: float) -> list[tuple[W, Grant]]:
        """Grant what fits now; return who has a grant, to be told so."""
        granted: list[tuple[W, Grant]] = []
        while (waiter := self._line.next()) is not None:
            tokens = self._cost_of[waiter]
            if self._ready_at(now, tokens) > now:
                break
            self._line.pop()
            del self._cost_of[waiter]
            granted.append((waiter, self._grant(now, tokens)))
        self._wakeup = None
        return granted

    def next_wakeup(self, now: float) -> float | None:
        """Return when `due` will grant something next, if nothing changes until then.

        None if nobody waits. It may lie in the past: then `due` grants now.
        """
        waiter = self._line.next()
        if waiter is None:
            return None
        if self._wakeup is None:
            self._wakeup = self._ready_at(now, self._cost_of[waiter])
        return self._wakeup

    def remove(self, waiter: W) -> bool:
        """Take out one who gave up waiting; say whether it did wait.

        False means that it has a grant, or was never here.
        """
        self._wakeup = None
        self._cost_of.pop(waiter, None)
        return self._line.remove(waiter)

    def settle(self, grant: Grant, tokens: int) -> None:
        """Replace the tokens that *grant* reserved by those that were used.

        A grant that was ended already changes nothing.
        """
        assert tokens >= 0, "a negative number of tokens would make room"
        if grant.settled:
            return
        grant.settled = True
        self._wakeup = None
        if self._tokens and grant.tokens_taken:
            self._tokens.settle(grant.tokens_taken, grant.tokens, tokens)

    def give_back(self, now: float, grant: Grant) -> None:
        """Undo a *grant* whose request was never sent: all of its parts come back."""
        if grant.settled:
            return
        self.settle(grant, 0)
        if self._requests and grant.requests_taken:
            self._requests.settle(grant.requests_taken, 1, 0)
        if self._bucket:
            self._bucket = token_bucket.give_back(self._bucket, now, 1)

    def block(self, now: float, seconds: float) -> None:
        """Grant nothing for the *seconds* that a Retry-After asks for, 120 at most.

        It never shortens a pause that is under way.
        """
        pause = min(seconds, RETRY_AFTER_MAX)
        # False for a NaN too: the hint comes off the wire.
        if pause > 0:
            self._blocked_until = max(self._blocked_until, now + pause)
            self._wakeup = None

    def ready_at(self, now: float) -> float:
        """Return when one more request of no tokens would be granted, if none waits."""
        return self._ready_at(now, 0)

    @property
    def blocked_until(self) -> float:
        """Until when a Retry-After forbids every grant; in the past if none does."""
        return self._blocked_until

    def memory(self) -> LimiterMemory:
        """Return what a successor has to know, so that a crash lifts no limit."""
        return LimiterMemory(
            bucket=self._bucket,
            requests=self._requests.slots() if self._requests else (),
            tokens=self._tokens.slots() if self._tokens else (),
            blocked_until=self._blocked_until,
        )

    def statistics(self, now: float) -> LimiterStatistics:
        """Return what is left of the limits, and how many wait."""
        left: list[int] = []
        if self._bucket:
            left.append(token_bucket.available(self._bucket, now))
        if self._requests:
            left.append(self._requests.available(now))
        blocked = now < self._blocked_until
        return LimiterStatistics(
            waiting=len(self._line),
            blocked_until=self._blocked_until if blocked else None,
            requests_available=min(left, default=None),
            tokens_available=self._tokens.available(now) if self._tokens else None,
        )

    def _ready_at(self, now: float, tokens: int) -> float:
        at = max(now, self._blocked_until)
        if self._bucket:
            at = max(at, token_bucket.ready_at(self._bucket, now, 1))
        if self._requests:
            at = max(at, self._requests.ready_at(now, 1))
        if self._tokens:
            at = max(at, self._tokens.ready_at(now, tokens))
        return at

    def _grant(self, now: float, tokens: int) -> Grant:
        grant = Grant(tokens)
        if self._bucket:
            self._bucket, taken = token_bucket.take(self._bucket, now, 1)
            assert isinstance(taken, Taken), "a bucket broke its word"
        if self._requests:
            grant.requests_taken = _taken(self._requests, now, 1)
        if self._tokens:
            grant.tokens_taken = _taken(self._tokens, now, tokens)
        return grant


def _taken(window: SlidingWindow, now: float, cost: int) -> Taken:
    taken = window.take(now, cost)
    assert isinstance(taken, Taken), "a window broke its word"
    return taken


def _bucket(
    limits: Limits, now: float, memory: LimiterMemory | None
) -> TokenBucket | None:
    if limits.capacity is None or limits.refill_rate is None:
        return None
    if memory and memory.bucket:
        return memory.bucket
    return token_bucket.full(limits.capacity, limits.refill_rate, now)


def _window(
    limit: int | None, guard: float, slots: tuple[PlainSlot, ...]
) -> SlidingWindow | None:
    return None if limit is None else SlidingWindow(limit, _MINUTE + guard, slots=slots)
