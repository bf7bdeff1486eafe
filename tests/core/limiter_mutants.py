"""Mistakes that rate limiters make, each put into ours: the tests must find all.

Each is a change of one method while it is in force. What finds it is a search over
programs (`limiter_conformance`) or a provider that tells its limits
(`limiter_upstream`).
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal
from unittest.mock import patch

import attrs

from duckservice.core import rooms, shares, waiting_line
from duckservice.core.allowance import Allowance, Ask
from duckservice.core.cooldown import Cooldown
from duckservice.core.grants import Grant, Late
from duckservice.core.headroom import Headroom
from duckservice.core.limiter import Limiter, LimiterMemory
from duckservice.core.rooms import Rooms
from duckservice.core.shares import Shares
from duckservice.core.sliding_window import SlidingWindow
from duckservice.core.token_bucket import Taken
from duckservice.core.told import Told, _Model
from duckservice.core.told_group import Group, UnderWay
from duckservice.core.waiting_line import WaitingLine


@attrs.frozen
class Mutant:
    """A mistake, and who has to find it."""

    name: str
    changes: tuple[tuple[object, str, object], ...]
    found_by: Literal["programs", "upstream"] = "programs"

    @contextmanager
    def in_force(self) -> Generator[None]:
        """Make the mistake while the block runs."""
        with ExitStack() as stack:
            for where, name, instead in self.changes:
                stack.enter_context(patch.object(where, name, instead))
            yield


class Leaks(SlidingWindow):
    """Refills steadily, as a bucket does: a full one and its refill in one minute."""

    def ready_at(self, now: float, cost: int) -> float:
        level = self._level(now)
        over = level + cost - self.limit
        return now if over <= 0 else now + over * self.period / self.limit

    def add(self, now: float, cost: int) -> Taken:
        self.level, self.since = self._level(now) + cost, now
        return Taken()

    def settle(self, taken: Taken, reserved: int, actual: int) -> None:
        self.level = max(0.0, getattr(self, "level", 0.0) + actual - reserved)

    def available(self, now: float) -> int:
        return max(0, int(self.limit - self._level(now)))

    def _level(self, now: float) -> float:
        gone = (now - getattr(self, "since", now)) * self.limit / self.period
        return max(0.0, getattr(self, "level", 0.0) - gone)


def _settle_twice(self: Limiter[int], grant: Grant, tokens: int, **more: Any) -> None:
    grant.settled = False
    _SETTLE(self, grant, tokens, **more)


def _counts_at_the_end(self: Allowance, now: float, ask: Ask, number: int) -> Any:
    holding = _TAKE(self, now, attrs.evolve(ask, cost=(0, 0, 0, 0)), number)
    holding.cost = ask.cost
    return holding


def _shortens(self: Cooldown, now: float, seconds: float) -> None:
    if seconds > 0:
        self.until = now + min(seconds, 120.0)


def _believes_all(self: Cooldown, now: float, seconds: float) -> None:
    if seconds > 0:
        self.until = max(self.until, now + min(seconds, 86_400.0))


def _never_doubles(
    self: Cooldown, now: float, retry_after: float | None, **_: float
) -> None:
    named = retry_after is not None and retry_after >= 0
    self.block(now, retry_after if named and retry_after is not None else 1.0)


def _each_of_a_burst_counts(
    self: Cooldown,
    now: float,
    retry_after: float | None,
    *,
    of: int,
    last: int,
    **more: float,
) -> None:
    _REFUSED(self, now, retry_after, of=max(of, last + 1), last=last, **more)


def _guesses_for_a_minute(
    self: Cooldown, now: float, retry_after: float | None, **more: Any
) -> None:
    _REFUSED(self, now, retry_after, **{**more, "guess_max": 60.0})


def _last_come_first(self: Shares[int]) -> int:
    user = next(iter(self._users.values()))
    process = next(iter(user.processes.values()))
    return process.waiters[shares._turned(process.order[0])]


def _no_turns(self: Shares[int], submitter: Any, standing: Any, **_: bool) -> None:
    _REMOVE(self, submitter, standing, turn_taken=False)


def _believes_the_latest(
    self: Headroom, left: int, until: float, *, of: int, last: int
) -> None:
    self._caps = ((left, until),)
    self._mark = max(of, last)


def _gives_all_but_the_bucket(self: Limiter[int], now: float, grant: Grant) -> None:
    bucket = self._rooms.whole._bucket
    _GIVE_BACK(self, now, grant)
    self._rooms.whole._bucket = bucket


def _nobody_leaves(self: Limiter[int], now: float) -> Any:
    return iter(())


def _always_late(
    self: Limiter[int], now: float, *args: Any, deadline: float = math.inf, **more: Any
) -> Any:
    if deadline < now + 20:
        return Late(deadline + 1)
    return _ACQUIRE(self, now, *args, deadline=deadline, **more)


def _forgets(self: Limiter[int]) -> LimiterMemory:
    return LimiterMemory(rooms=Rooms.of(self.limits, 0.0))


_SETTLE = Limiter.settle
_TAKE = Allowance.take
_REFUSED = Cooldown.refused
_REMOVE = Shares.remove
_GIVE_BACK = Limiter.give_back
_ACQUIRE = Limiter.acquire
_READY_AT = Allowance.ready_at
_NUMBERS = _Model.numbers
_SORT = Told._sort


def _shorter_window(self: Allowance, limit: int | None) -> SlidingWindow | None:
    return None if limit is None else SlidingWindow(limit, 60.0)


def _leaking_window(self: Allowance, limit: int | None) -> SlidingWindow | None:
    return None if limit is None else Leaks(limit, 60.0 + self._guard)


def _loosens(self: Allowance, now: float, ask: Ask) -> float:
    group = self.told.group(ask.model)
    limit = None if group is None else group.numbers[0]
    window = self._windows[0]
    if window is not None and limit is not None:
        window.limit = limit
    return _READY_AT(self, now, ask)


def _stays(self: Limiter[int], waiter: int) -> bool:
    return waiter in self._asks


def _the_first_group(self: Told, model: str) -> Group | None:
    return next(self.groups(), None)


def _its_own_group(self: Told, model: str) -> Group | None:
    its = self._models.get(model)
    return None if its is None else its.group


def _a_group_each(self: _Model) -> Any:
    # Equal to nothing but itself.
    return _Unlike(_NUMBERS(self), id(self))


class _Unlike(tuple[Any, ...]):
    """Numbers that are those of one model alone."""

    __slots__ = ()
    owner: int

    def __new__(cls, numbers: Any, owner: int) -> Any:
        return _UNLIKE.setdefault((tuple(numbers), owner), tuple.__new__(cls, numbers))

    __hash__ = object.__hash__
    __eq__ = object.__eq__


_UNLIKE: dict[Any, Any] = {}


def _stays_where_it_was(self: Told, now: float, latest: str) -> None:
    under_way, self._under_way = self._under_way, {}
    _SORT(self, now, latest)
    self._under_way = under_way


def _believes_a_higher_one(
    self: _Model, part: int, limit: int, *, of: int, last: int
) -> None:
    self.said[part] = limit, last


def _by_size_alone(self: Limiter[int], ask: Ask) -> Any:
    return "", ask.cost[1].bit_length()


def _counts_what_left(self: Group, its: UnderWay) -> None:
    its.group = None


MUTANTS = (
    Mutant(
        "a bucket of 60 a minute for a limit of 60 a minute",
        ((Allowance, "_window", _leaking_window),),
    ),
    Mutant(
        "a minute that is not longer than the provider's",
        ((Allowance, "_window", _shorter_window),),
    ),
    Mutant("counted when it ends", ((Allowance, "take", _counts_at_the_end),)),
    Mutant("settled twice", ((Limiter, "settle", _settle_twice),)),
    Mutant("a crash forgets what was granted", ((Limiter, "memory", _forgets),)),
    Mutant(
        "who overtakes puts the first off",
        ((Allowance, "leaves_room", lambda *_: True),),
    ),
    Mutant(
        "a large one holds up all behind it",
        ((Limiter, "_passing", lambda *_: iter(())),),
    ),
    Mutant("last come, first served", ((Shares, "next", _last_come_first),)),
    Mutant("one submitter has all the turns", ((Shares, "remove", _no_turns),)),
    Mutant("low priority starves", ((waiting_line, "PASSED_OVER_MAX", 10**9),)),
    Mutant(
        "nobody rises",
        (
            (
                waiting_line,
                "_classes_below",
                lambda p, yields: 1e6 * (waiting_line.PRIORITIES.index(p) + yields / 2),
            ),
        ),
    ),
    Mutant(
        "a deadline gives no right of way",
        ((WaitingLine, "_due", lambda self, now, _: now + self._patience),),
    ),
    Mutant("a later 429 shortens the pause", ((Cooldown, "block", _shortens),)),
    Mutant("a Retry-After of a day is obeyed", ((Cooldown, "block", _believes_all),)),
    Mutant(
        "429s in a row make no longer pauses", ((Cooldown, "refused", _never_doubles),)
    ),
    Mutant(
        "a burst of 429s makes the longest pause",
        ((Cooldown, "refused", _each_of_a_burst_counts),),
    ),
    Mutant(
        "guessed pauses are longer than configured",
        ((Cooldown, "refused", _guesses_for_a_minute),),
    ),
    Mutant("who is too late waits on", ((Limiter, "_leave_late", _nobody_leaves),)),
    Mutant("who could be in time is refused", ((Limiter, "acquire", _always_late),)),
    Mutant(
        "what was not sent is not given back",
        ((Limiter, "give_back", _gives_all_but_the_bucket),),
    ),
    Mutant("who gave up waits on", ((Limiter, "remove", _stays),)),
    Mutant(
        "what is held up counts from its grant",
        ((Limiter, "was_sent", lambda *_: None),),
    ),
    Mutant(
        "keys have no limits of their own",
        (
            (
                rooms.Rooms,
                "_times",
                lambda self, now, _: dict.fromkeys(range(len(self.keys)), now),
            ),
        ),
    ),
    Mutant(
        "what is under way is forgotten",
        (
            (
                Group,
                "_headroom_at",
                lambda self, now, cost: max(
                    said.ready_at(now, part)
                    for said, part in zip(self.headrooms, cost, strict=True)
                ),
            ),
        ),
        "upstream",
    ),
    Mutant(
        "a stale number replaces a newer one",
        ((Headroom, "hear", _believes_the_latest),),
        "upstream",
    ),
    Mutant(
        "what the provider says is not heard",
        ((Told, "learn", lambda *_, **__: None),),
        "upstream",
    ),
    Mutant(
        "a higher limit than the configured one is believed",
        ((Allowance, "ready_at", _loosens),),
        "upstream",
    ),
    Mutant(
        "one model's limit holds back the others",
        ((Told, "group", _the_first_group),),
    ),
    Mutant(
        "of whom nothing is known nothing holds", ((Told, "group", _its_own_group),)
    ),
    Mutant(
        "a limit that all models share is each one's own",
        ((_Model, "numbers", _a_group_each),),
        "upstream",
    ),
    Mutant(
        "what is under way stays in the group it was in",
        ((Told, "_sort", _stays_where_it_was),),
    ),
    Mutant(
        "what moves to another group counts in both",
        ((Group, "leave", _counts_what_left),),
    ),
    Mutant(
        "an outdated limit raises a newer one",
        ((_Model, "hear", _believes_a_higher_one),),
    ),
    Mutant(
        "a model that has nothing left holds up the others",
        ((Limiter, "_lane", _by_size_alone),),
    ),
    Mutant(
        "who overtakes takes what the first will need of what is left",
        ((Group, "leaves_room", lambda *_: True),),
    ),
)
