"""The limits of a provider and of each of its keys, as one: which key, and when.

A request takes from the provider's allowance and from that of one key: of those that
have room for it now, the one with the most. A key may rest by itself. One that is set aside
is not taken until its time is over; where all are, the one is whose time ends first,
as we may be wrong about it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial

import attrs

from duckservice.core import token_bucket
from duckservice.core.allowance import Ahead, Allowance, Ask, Holding
from duckservice.core.grants import (
    ANY_KEY,
    Grant,
    KeyStatistics,
    Limits,
    ModelStatistics,
)
from duckservice.core.token_bucket import TokenBucket
from duckservice.core.told_group import Group


@attrs.frozen
class Place:
    """Where and when a cost fits."""

    at: float
    key: int = ANY_KEY


@attrs.define(eq=False)
class Rooms:
    """All allowances of one provider."""

    whole: Allowance
    keys: list[Allowance]
    """Of each key, where there are several."""
    per_key: bool
    """Whether the config limits each key."""
    numbers: int = 0
    """So many grants were given."""
    layout: int = 0
    """So often keys have moved: a grant of before has no key here."""
    _latest_key: int = 0

    @classmethod
    def of(cls, limits: Limits, now: float) -> Rooms:
        """Return what *limits* allow, with nothing taken yet."""
        requests, tokens = _of_whole(limits)
        whole = Allowance(
            requests_per_minute=requests,
            tokens_per_minute=tokens,
            bucket=_bucket(limits, now),
            guard=limits.guard,
        )
        several = limits.keys if limits.keys > 1 else 0
        keys = [_of_one_key(limits) for _ in range(several)]
        return cls(whole, keys, per_key=_limits_keys(limits))

    def relimit(
        self,
        now: float,
        limits: Limits,
        kept: Sequence[int | None],
        *,
        elsewhere: bool = False,
    ) -> None:
        """Have other limits, and perhaps other keys, from *now* on.

        *kept* are the places that the keys had before, in their new order; None is
        one that is new. What was taken and told stays with the whole, and with each
        key that is kept. Grants under way belong to no key any more if one has moved.
        *elsewhere* is another server: nothing is kept.
        """
        if elsewhere:
            new = Rooms.of(limits, now)
            self.whole, self.keys, self.per_key = new.whole, new.keys, new.per_key
            self.layout += 1
            return
        self.per_key = _limits_keys(limits)
        several = kept if limits.keys > 1 else ()
        if list(several) != list(range(len(self.keys))):
            self.layout += 1
            if not several:
                self._have_one_key(kept)
            elif not self.keys:
                self._have_several_keys(several, limits)
            else:
                self.keys = [self._key_at(place, limits) for place in several]
        requests, tokens = _of_whole(limits)
        self.whole.relimit(
            now,
            requests_per_minute=requests,
            tokens_per_minute=tokens,
            capacity=limits.capacity,
            refill_rate=limits.refill_rate,
        )
        for key in self.keys:
            key.relimit(
                now,
                requests_per_minute=limits.key_requests_per_minute,
                tokens_per_minute=limits.key_tokens_per_minute,
            )

    def _key_at(self, place: int | None, limits: Limits) -> Allowance:
        """Return the limits of the key that had that place among several so far."""
        return _of_one_key(limits) if place is None else self.keys[place]

    def _have_several_keys(self, kept: Sequence[int | None], limits: Limits) -> None:
        """Limit each key by itself; what was told is of the only one of before."""
        only = self.whole.split_off() if 0 in kept else _of_one_key(limits)
        self.whole.forget_told()
        self.keys = [only if place == 0 else _of_one_key(limits) for place in kept]

    def _have_one_key(self, kept: Sequence[int | None]) -> None:
        """Limit the only key with the whole."""
        place = next(iter(kept), None)
        if place is not None:
            self.whole.take_in(self.keys[place])
        self.keys = []

    def copy(self) -> Rooms:
        """Return what a successor has to know; what happens here does not change it."""
        return copy.deepcopy(self)

    def all(self) -> Iterator[Allowance]:
        """Yield the allowance of the whole, and of each key."""
        yield self.whole
        yield from self.keys

    def of_key(self, key: int) -> Allowance:
        """Return what is told of *key*, or where there is only one, of the provider."""
        return self.keys[key] if 0 <= key < len(self.keys) else self.whole

    def holder(self, grant: Grant) -> tuple[Allowance, Holding] | None:
        """Return the key's limits that hold *grant*, and what it has taken there.

        None: none does, or the keys have moved since.
        """
        if grant.of_key is None or grant.layout != self.layout:
            return None
        return self.keys[grant.key_held], grant.of_key

    @property
    def most_tokens(self) -> int | None:
        """What no request may exceed."""
        most = self.whole.most_tokens()
        return _lower(most, self.keys[0].most_tokens()) if self.keys else most

    @property
    def blocked_until(self) -> float:
        """Until when a 429 forbids every grant; in the past if none does."""
        of_keys = [key.cooldown.until for key in self.keys]
        return max(self.whole.cooldown.until, min(of_keys, default=-math.inf))

    def place(self, now: float, ask: Ask) -> Place:
        """Return the first time from *now* on when it fits, and with which key."""
        at = self.whole.ready_at(now, ask)
        if not self.keys:
            return Place(at)
        times = self._times(now, ask)
        first = max(at, min(times.values()))
        ready = [key for key, its in times.items() if its <= first]
        return Place(first, max(ready, key=partial(self._preference, now, ask)))

    def aside(self, now: float, first: Ask, at: Place, second: Ask) -> Place | None:
        """Return where *second* fits before *first* does, and does not put it off."""
        ready_at = self.whole.may_pass_at(now, first, second)
        if not self.keys:
            goes = ready_at < at.at and self.whole.leaves_room(
                at.at, first, second, ready_at
            )
            return Place(ready_at) if goes else None
        could_take = {
            key for key, its_at in self._times(now, first).items() if its_at <= at.at
        }
        harmless: list[Place] = []
        for key, its_at in self._times(now, second).items():
            place_at = max(ready_at, its_at)
            is_needed = not could_take - {key}
            if is_needed:
                place_at = max(place_at, self.keys[key].may_pass_at(now, first, second))
            if (
                place_at < at.at
                and self.whole.leaves_room(at.at, first, second, place_at)
                and not (
                    is_needed
                    and not self.keys[key].leaves_room(at.at, first, second, place_at)
                )
            ):
                harmless.append(Place(place_at, key))
        return min(
            harmless,
            key=lambda its: (
                its.at,
                *(-part for part in self._preference(now, second, its.key)),
            ),
            default=None,
        )

    def expected_at(self, now: float, ask: Ask, ahead: Ahead) -> float:
        """Return about when it goes, if those *ahead* of it go first."""
        at = self.whole.expected_at(now, ask, ahead)
        if not self.keys:
            return at
        keys = [key for key, its in enumerate(self.keys) if its.unused_until <= now]
        keys = keys or [self._exempt(now)]
        of_each = (
            self.keys[key].expected_at(now, ask, ahead, keys=len(keys)) for key in keys
        )
        return max(at, min(of_each))

    def grant(self, now: float, ask: Ask, key: int) -> Grant:
        """Take what it asks for with *key*; it must fit."""
        self.numbers += 1
        grant = Grant(
            ask.cost[1], number=self.numbers, at=now, key_held=key, model=ask.model
        )
        grant.layout = self.layout
        grant.whole = self.whole.take(now, ask, self.numbers)
        if self.keys:
            grant.of_key = self.keys[key].take(now, ask, self.numbers)
            self._latest_key = key
            if self.grants_keys:
                grant.key = key
        return grant

    @property
    def grants_keys(self) -> bool:
        """Whether keys have limits of their own, by the config or by what was told."""
        return self.per_key or any(
            key.has_learned or key.unused_until > -math.inf for key in self.keys
        )

    def some_models(self) -> list[str]:
        """Return at least one model of each group; the nameless one if there is none."""
        return list({name for its in self.all() for name in its.told.some()}) or [""]

    def available(
        self, now: float, model: str | None = None
    ) -> tuple[int | None, int | None]:
        """Return how many requests and tokens are left; None: any number.

        Those for one *model*, or those for all models of which something was told.
        """
        requests, tokens = self.whole.available(now, model)
        if self.keys:
            of_keys = [key.available(now, model) for key in self.keys]
            requests = _lower(requests, _sum([its[0] for its in of_keys]))
            tokens = _lower(tokens, _sum([its[1] for its in of_keys]))
        return requests, tokens

    def told(self, now: float) -> tuple[ModelStatistics, ...]:
        """Return what was told of each model; of several keys, the sum."""
        found: dict[str, list[Group]] = {}
        for its in self.keys or [self.whole]:
            for model, group in its.told.models().items():
                found.setdefault(model, []).append(group)
        return tuple(
            ModelStatistics(
                model=model,
                requests_limit=_sum([its.numbers[0] for its in groups]),
                tokens_limit=_sum([its.numbers[1] for its in groups]),
                requests_available=_sum([its.left(now, 0) for its in groups]),
                tokens_available=_sum([its.left(now, 1) for its in groups]),
            )
            for model, groups in sorted(found.items())
        )

    def statistics(self, now: float) -> tuple[KeyStatistics, ...]:
        """Return how each of several keys is."""
        found: list[KeyStatistics] = []
        for its in self.keys:
            requests, tokens = its.available(now)
            until = max(its.cooldown.until, its.unused_until)
            found.append(
                KeyStatistics(
                    requests_available=requests,
                    tokens_available=tokens,
                    rests_until=until if until > now else None,
                )
            )
        return tuple(found)

    def _times(self, now: float, ask: Ask) -> dict[int, float]:
        """Return when it fits each key."""
        exempt = self._exempt(now)
        return {
            key: max(its.ready_at(now, ask), now if key == exempt else its.unused_until)
            for key, its in enumerate(self.keys)
        }

    def _exempt(self, now: float) -> int:
        """Return the key that is taken though it is set aside, or any that is not."""
        return min(
            range(len(self.keys)), key=lambda key: max(now, self.keys[key].unused_until)
        )

    def _preference(self, now: float, ask: Ask, key: int) -> tuple[float, bool, int]:
        return self.keys[key].room(now, ask.model), key == self._latest_key, -key


def _of_whole(limits: Limits) -> tuple[int | None, int | None]:
    """Return requests and tokens a minute; the only key's limits are the whole's."""
    requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
    if limits.keys < 2:
        requests = _lower(requests, limits.key_requests_per_minute)
        tokens = _lower(tokens, limits.key_tokens_per_minute)
    return requests, tokens


def _of_one_key(limits: Limits) -> Allowance:
    return Allowance(
        requests_per_minute=limits.key_requests_per_minute,
        tokens_per_minute=limits.key_tokens_per_minute,
        guard=limits.guard,
    )


def _limits_keys(limits: Limits) -> bool:
    its = limits.key_requests_per_minute, limits.key_tokens_per_minute
    return limits.keys > 1 and its != (None, None)


def _bucket(limits: Limits, now: float) -> TokenBucket | None:
    if limits.capacity is None or limits.refill_rate is None:
        return None
    return token_bucket.full(limits.capacity, limits.refill_rate, now)


def _lower(one: int | None, other: int | None) -> int | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
