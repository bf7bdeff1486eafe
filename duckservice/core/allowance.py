"""All the limits of one key, or of a provider as a whole, and what was taken of them.

A cost has four parts, in this order: requests, tokens, input tokens, output tokens.
Requests and tokens may have a window of 60 s each, with the configured limit. Requests
may have a bucket too, and all of it rests in a `cooldown`. Beside that is what the
provider has `told` of the model that a request is for. All of them must allow it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence

import attrs

from duckservice.core import token_bucket
from duckservice.core.cooldown import Cooldown
from duckservice.core.sliding_window import SlidingWindow
from duckservice.core.token_bucket import Taken, TokenBucket
from duckservice.core.told import Told
from duckservice.core.told_group import MINUTE, Cost, Group

_NOTHING: Cost = (0, 0, 0, 0)


@attrs.frozen
class Ask:
    """What one request asks for."""

    cost: Cost
    model: str = ""


@attrs.frozen
class Ahead:
    """Those who go before a request: so many of those who wait."""

    number: int = 0
    waiting: int = 1
    costs: Mapping[str, Sequence[int]] = attrs.field(factory=dict[str, Sequence[int]])
    """What all who wait cost, by model."""


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
        self.cooldown = Cooldown()
        self.unused_until = -math.inf
        """Until then another key is taken, if there is one."""
        self.told = Told(guard)
        self._guard = guard
        self._bucket = bucket
        self._most_tokens = tokens_per_minute
        self._windows = [
            self._window(limit) for limit in (requests_per_minute, tokens_per_minute)
        ]

    def relimit(
        self,
        now: float,
        *,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        capacity: int | None = None,
        refill_rate: float | None = None,
    ) -> None:
        """Have other limits from *now* on; what was taken under the old ones counts.

        Where there was no limit, nobody has counted, and it is full.
        """
        self._most_tokens = tokens_per_minute
        for part, limit in enumerate((requests_per_minute, tokens_per_minute)):
            window = self._windows[part]
            if window is None or limit is None:
                self._windows[part] = self._window(limit)
            else:
                window.limit = limit
        if capacity is None or refill_rate is None:
            self._bucket = None
        elif self._bucket is None:
            self._bucket = token_bucket.full(capacity, refill_rate, now)
        else:
            its = token_bucket.resized(self._bucket, capacity, refill_rate, now)
            self._bucket = its

    def split_off(self) -> Allowance:
        """Return the limits of the only key, which is one of several from now on.

        What the provider has told was about that key.
        """
        its = copy.deepcopy(self)
        self.cooldown = Cooldown()
        self.forget_told()
        return its

    def forget_told(self) -> None:
        """Believe no more what the provider has told: other keys are asked with."""
        self.told = Told(self._guard)

    def take_in(self, key: Allowance) -> None:
        """Hold what *key* held, too: it is the only one from now on."""
        self.told = key.told
        self.cooldown = max(self.cooldown, key.cooldown, key=lambda its: its.until)
        self._windows = [
            of_key if window is None else window
            for window, of_key in zip(self._windows, key._windows, strict=True)
        ]

    def most_tokens(self) -> int | None:
        """Return what no request may exceed, as it is configured."""
        return self._most_tokens

    def knows_of_tokens(self, model: str | None) -> bool:
        """Say whether it matters how many tokens a request to *model* has; None: any."""
        return self._windows[1] is not None or self.told.knows_of_tokens(model)

    @property
    def has_learned(self) -> bool:
        """Whether the provider has told anything of it."""
        return any(self.told.groups())

    # When something may be taken.

    def ready_at(self, now: float, ask: Ask) -> float:
        """Return the first time from *now* on at which it may be taken."""
        at = max(now, self.cooldown.until)
        if self._bucket:
            at = max(at, token_bucket.ready_at(self._bucket, now, ask.cost[0]))
        for window, part in zip(self._windows, ask.cost, strict=False):
            if window:
                at = max(at, window.ready_at(now, part))
        group = self.told.group(ask.model)
        return at if group is None else max(at, group.ready_at(now, ask.cost))

    def expected_at(
        self, now: float, ask: Ask, ahead: Ahead, *, keys: int = 1
    ) -> float:
        """Return about when it goes, if a share of all goes first, one of *keys* here."""
        at = max(now, self.cooldown.until)
        cost = _share(ask.cost, ahead, ahead.costs.values(), keys)
        if self._bucket:
            at = max(at, token_bucket.expected_at(self._bucket, now, cost[0]))
        for window, part in zip(self._windows, cost, strict=False):
            if window:
                at = max(at, window.expected_at(now, part))
        group = self.told.group(ask.model)
        if group is None:
            return at
        own = [
            costs
            for model, costs in ahead.costs.items()
            if self.told.group(model) is group
        ]
        return max(at, group.expected_at(now, _share(ask.cost, ahead, own, keys)))

    def may_pass_at(self, now: float, first: Ask, second: Ask) -> float:
        """Return when *second* fits and *first* waits for no count that both are of."""
        at = self.ready_at(now, second)
        group = self._common(first, second)
        return at if group is None else max(at, group.counts_on(now, first.cost))

    def leaves_room(self, at: float, first: Ask, second: Ask, second_at: float) -> bool:
        """Say whether *first*, ready then, still is if *second* goes at its own time."""
        one, other = first.cost, second.cost
        if self._bucket and not token_bucket.lasts(
            self._bucket, second_at, other[0], at, one[0]
        ):
            return False
        for window, its, others in zip(self._windows, one, other, strict=False):
            if window and not window.holds_both(at, its, others, second_at):
                return False
        group = self._common(first, second)
        return group is None or group.leaves_room(at, one, other, second_at)

    def room(self, now: float, model: str) -> float:
        """Return what part of the tightest limit is left: 1 is all of it."""
        parts = [
            window.available(now) / window.limit for window in self._windows if window
        ]
        group = self.told.group(model)
        if group is not None:
            parts.append(group.room(now))
        return min(parts, default=1.0)

    def available(
        self, now: float, model: str | None = None
    ) -> tuple[int | None, int | None]:
        """Return how many requests and tokens are left; None: any number.

        Those for one *model*, or those for all models of which something was told.
        """
        counts: list[list[int]] = [[], []]
        if self._bucket:
            counts[0].append(token_bucket.available(self._bucket, now))
        group = None if model is None else self.told.group(model)
        groups = [group] if group else [] if model is not None else self.told.groups()
        of_groups = list(groups)
        for part, found in enumerate(counts):
            window = self._windows[part]
            if window:
                found.append(window.available(now))
            lefts = [its.left(now, part) for its in of_groups]
            known = [left for left in lefts if left is not None]
            if lefts and len(known) == len(lefts):
                found.append(sum(known))
        return min(counts[0], default=None), min(counts[1], default=None)

    # What was taken.

    def take(self, now: float, ask: Ask, number: int) -> Holding:
        """Take it for the grant of that *number*; it must be ready."""
        if self._bucket:
            self._bucket, taken = token_bucket.take(self._bucket, now, ask.cost[0])
            assert isinstance(taken, Taken), "a bucket broke its word"
        self.told.take(now, ask.model, ask.cost, number)
        return Holding(number, ask.cost, self._add(now, ask.cost))

    def was_sent(self, now: float, holding: Holding) -> None:
        """Have it count from *now* on, and not from when it was granted."""
        self._change(holding, _NOTHING)
        holding.taken = self._add(now, holding.cost)
        self.told.sent(now, holding.number)

    def settle(self, holding: Holding, actual: Cost) -> None:
        """Replace what *holding* has taken by what was used."""
        self._change(holding, actual)
        holding.cost = actual
        self.told.end(holding.number, actual)

    def give_back(self, now: float, holding: Holding) -> None:
        """Undo *holding*: nothing was sent."""
        if self._bucket:
            self._bucket = token_bucket.give_back(self._bucket, now, holding.cost[0])
        self._change(holding, _NOTHING)
        holding.cost = _NOTHING
        self.told.give_back(holding.number)

    def _common(self, first: Ask, second: Ask) -> Group | None:
        group = self.told.group(first.model)
        return group if group is self.told.group(second.model) else None

    def _add(self, now: float, cost: Cost) -> tuple[Taken | None, ...]:
        return tuple(
            window.add(now, part) if window else None
            for window, part in zip(self._windows, cost, strict=False)
        )

    def _change(self, holding: Holding, actual: Cost) -> None:
        for window, taken, reserved, part in zip(
            self._windows, holding.taken, holding.cost, actual, strict=False
        ):
            if window and taken:
                window.settle(taken, reserved, part)

    def _window(self, limit: int | None) -> SlidingWindow | None:
        return None if limit is None else SlidingWindow(limit, MINUTE + self._guard)


def _share(cost: Cost, ahead: Ahead, costs: Iterable[Sequence[int]], keys: int) -> Cost:
    """Return *cost* and that of those ahead, as one of so many *keys* bears it."""
    sums = [0, 0, 0, 0]
    if ahead.number:
        for its in costs:
            for part, more in enumerate(its):
                sums[part] += more
    one, two, three, four = (
        -(-(its + total * ahead.number // ahead.waiting) // keys)
        for its, total in zip(cost, sums, strict=True)
    )
    return one, two, three, four
