"""All the limits of one key, or of a provider as a whole, and what was taken of them.

A cost has four parts, in this order: requests, tokens, input tokens, output tokens.
Each part may have a window of 60 s, with the lower of the configured limit and the one
that the provider tells, and a `headroom`. Requests may have a bucket too, and all of
it rests in a `cooldown`. All of them must allow a cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import attrs

from duckservice.core import token_bucket
from duckservice.core.cooldown import Cooldown
from duckservice.core.headroom import Headroom
from duckservice.core.rate_hints import RateHints
from duckservice.core.sliding_window import SlidingWindow
from duckservice.core.token_bucket import Taken, TokenBucket

Cost: TypeAlias = tuple[int, int, int, int]
"""Requests, tokens, input tokens, output tokens."""

RESET_MAX = 120.0
"""Seconds; what a provider says is left is not believed for longer."""

COUNT_MAX = 10**15
"""What a provider says above this is no count."""

UNHEARD_MAX = 120.0
"""Seconds after which a request that nobody has ended counts as sent and lost."""

_MINUTE = 60.0
_OUTPUT = 3
_NOTHING: Cost = (0, 0, 0, 0)


@attrs.define
class _UnderWay:
    """A grant whose cost the provider may not have counted in what it said last."""

    at: float
    cost: list[int]


@attrs.define
class Holding:
    """What one grant has taken here."""

    number: int
    cost: Cost
    taken: tuple[Taken | None, ...]


class Allowance:
    """What may be sent with one key, or to one provider; not a value, it changes."""

    def __init__(
        self,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        bucket: TokenBucket | None = None,
        guard: float = 0.0,
    ) -> None:
        """Start with full limits; each minute is longer by *guard* seconds."""
        self.configured = (requests_per_minute, tokens_per_minute, None, None)
        self.cooldown = Cooldown()
        self.unused_until = -math.inf
        """Until then another key is taken, if there is one."""
        self._guard = guard
        self._bucket = bucket
        self._windows = [self._window(limit) for limit in self.configured]
        self._headrooms = [Headroom() for _ in self.configured]
        self._told: list[tuple[int, int] | None] = [None] * len(self.configured)
        """The limit that the provider tells, and the last grant before it did."""
        self._under_way: dict[int, _UnderWay] = {}
        self._under_way_cost = [0, 0, 0, 0]

    def most_tokens(self) -> int | None:
        """Return what no request may exceed, as it is configured."""
        return self.configured[1]

    @property
    def knows_of_tokens(self) -> bool:
        """Whether it matters how many tokens a request has."""
        parts = zip(self._windows[1:], self._headrooms[1:], strict=True)
        return any(window is not None or said.knows for window, said in parts)

    @property
    def has_learned(self) -> bool:
        """Whether the provider has told anything of it."""
        return any(self._told) or any(said.knows for said in self._headrooms)

    # When something may be taken.

    def ready_at(self, now: float, cost: Cost) -> float:
        """Return the first time from *now* on at which *cost* may be taken."""
        at = max(now, self.cooldown.until, self._headroom_at(now, cost))
        if self._bucket:
            at = max(at, token_bucket.ready_at(self._bucket, now, cost[0]))
        for window, part in zip(self._windows, cost, strict=True):
            if window:
                # A limit that we were told may be too small for what a user has
                # asked for; then it goes alone. What is configured never is.
                at = max(at, window.ready_at(now, min(part, window.limit)))
        return at

    def expected_at(self, now: float, cost: Cost) -> float:
        """Return about when all of *cost* is through, if it comes in small parts."""
        at = max(now, self.cooldown.until)
        if self._bucket:
            at = max(at, token_bucket.expected_at(self._bucket, now, cost[0]))
        for window, said, part, under_way in zip(
            self._windows, self._headrooms, cost, self._under_way_cost, strict=True
        ):
            if window:
                at = max(at, window.expected_at(now, part))
            at = max(at, said.ready_at(now, part + under_way))
        return at

    def leaves_room(
        self, now: float, at: float, first: Cost, second: Cost, second_at: float
    ) -> bool:
        """Say whether *first*, ready then, still is if *second* goes at its own time."""
        if self._headroom_at(now, first) > now:
            # It waits for the provider's own count, and we do not know its rules:
            # what we take now may put off when all is back.
            return False
        if self._bucket and not token_bucket.lasts(
            self._bucket, second_at, second[0], at, first[0]
        ):
            return False
        for window, its, other in zip(self._windows, first, second, strict=True):
            if window and not window.holds_both(at, its, other, second_at):
                return False
        return True

    def room(self, now: float) -> float:
        """Return what part of the tightest limit is left: 1 is all of it."""
        parts = [1.0]
        for window, said, under_way in zip(
            self._windows, self._headrooms, self._under_way_cost, strict=True
        ):
            if not window:
                continue
            left = window.available(now)
            told = said.left(now)
            if told is not None:
                left = max(0, min(left, told - under_way))
            parts.append(left / window.limit)
        return min(parts)

    def available(self, now: float) -> tuple[int | None, int | None]:
        """Return how many requests and tokens are left; None: any number."""
        counts: list[list[int]] = [[], []]
        if self._bucket:
            counts[0].append(token_bucket.available(self._bucket, now))
        for part, found in enumerate(counts):
            window = self._windows[part]
            told = self._headrooms[part].left(now)
            if window:
                found.append(window.available(now))
            if told is not None:
                found.append(max(0, told - self._under_way_cost[part]))
        return min(counts[0], default=None), min(counts[1], default=None)

    # What was taken.

    def take(self, now: float, cost: Cost, number: int) -> Holding:
        """Take *cost* for the grant of that *number*; it must be ready."""
        self._forget_lost(now)
        if self._bucket:
            self._bucket, taken = token_bucket.take(self._bucket, now, cost[0])
            assert isinstance(taken, Taken), "a bucket broke its word"
        self._under_way[number] = _UnderWay(now, list(cost))
        for part, its in enumerate(cost):
            self._under_way_cost[part] += its
        return Holding(number, cost, self._add(now, cost))

    def was_sent(self, now: float, holding: Holding) -> None:
        """Have it count from *now* on, and not from when it was granted."""
        for window, taken, part in zip(
            self._windows, holding.taken, holding.cost, strict=True
        ):
            if window and taken:
                window.settle(taken, part, 0)
        holding.taken = self._add(now, holding.cost)

    def settle(self, holding: Holding, actual: Cost) -> None:
        """Replace what *holding* has taken by what was used."""
        self._change(holding, actual)
        self._end(holding.number, actual[_OUTPUT])

    def give_back(self, now: float, holding: Holding) -> None:
        """Undo *holding*: nothing was sent."""
        if self._bucket:
            self._bucket = token_bucket.give_back(self._bucket, now, holding.cost[0])
        self._change(holding, _NOTHING)
        its = self._under_way.pop(holding.number, None)
        if its is not None:
            for part, cost in enumerate(its.cost):
                self._under_way_cost[part] -= cost

    # What the provider tells.

    def learn(self, now: float, hints: RateHints, *, of: int, last: int) -> None:
        """Take what was said with the answer to grant number *of*; see `headroom`.

        *last* is the last grant that was made. It may be any nonsense: what cannot
        be true is left out, and nothing holds for longer than 120 s.
        """
        self._forget_lost(now)
        for part, (limit, left, reset) in enumerate(_said(hints)):
            if limit is not None:
                self._tell(part, limit, of=of, last=last)
            if left is not None and reset is not None:
                if part != _OUTPUT:
                    # Counted as it comes in; of the output nobody knew yet.
                    self._counted(of, part)
                said, until = self._headrooms[part], now + reset
                said.hear(left, until, of=of, last=last)

    def _tell(self, part: int, limit: int, *, of: int, last: int) -> None:
        told = self._told[part]
        if told is None or of > told[1] or limit < told[0]:
            self._told[part] = limit, last
        elif limit > told[0]:
            return
        configured = self.configured[part]
        effective = limit if configured is None else min(limit, configured)
        window = self._windows[part]
        if window is None:
            self._windows[part] = self._window(effective)
        else:
            window.limit = effective

    def _counted(self, number: int, part: int) -> None:
        its = self._under_way.get(number)
        if its is not None:
            self._under_way_cost[part] -= its.cost[part]
            its.cost[part] = 0

    def _end(self, number: int, output: int) -> None:
        """Have it under way no more; what no answer has counted is charged."""
        its = self._under_way.pop(number, None)
        if its is None:
            return
        for part, cost in enumerate(its.cost):
            self._under_way_cost[part] -= cost
            self._headrooms[part].charge(output if part == _OUTPUT else cost)

    def _forget_lost(self, now: float) -> None:
        while self._under_way:
            number, its = next(iter(self._under_way.items()))
            if its.at + UNHEARD_MAX > now:
                return
            self._end(number, its.cost[_OUTPUT])

    def _headroom_at(self, now: float, cost: Cost) -> float:
        return max(
            said.ready_at(now, part + under_way) if said.knows else now
            for said, part, under_way in zip(
                self._headrooms, cost, self._under_way_cost, strict=True
            )
        )

    def _add(self, now: float, cost: Cost) -> tuple[Taken | None, ...]:
        return tuple(
            window.add(now, part) if window else None
            for window, part in zip(self._windows, cost, strict=True)
        )

    def _change(self, holding: Holding, actual: Cost) -> None:
        for window, taken, reserved, part in zip(
            self._windows, holding.taken, holding.cost, actual, strict=True
        ):
            if window and taken:
                window.settle(taken, reserved, part)
        holding.cost = actual

    def _window(self, limit: int | None) -> SlidingWindow | None:
        return None if limit is None else SlidingWindow(limit, _MINUTE + self._guard)


def _said(
    hints: RateHints,
) -> Sequence[tuple[int | None, int | None, float | None]]:
    """Return limit, rest and seconds of each part, as far as they make sense."""
    said = (
        (hints.requests_limit, hints.requests_remaining, hints.requests_reset),
        (hints.tokens_limit, hints.tokens_remaining, hints.tokens_reset),
        (
            hints.input_tokens_limit,
            hints.input_tokens_remaining,
            hints.input_tokens_reset,
        ),
        (
            hints.output_tokens_limit,
            hints.output_tokens_remaining,
            hints.output_tokens_reset,
        ),
    )
    return [(_count(a, 1), _count(b, 0), _seconds(c)) for a, b, c in said]


def _count(value: int | None, least: int) -> int | None:
    return None if value is None or not least <= value <= COUNT_MAX else value


def _seconds(value: float | None) -> float | None:
    # False for a NaN, too.
    return min(value, RESET_MAX) if value is not None and value >= 0 else None
