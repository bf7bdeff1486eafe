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
from duckservice.core.allowance import Allowance
from duckservice.core.cooldown import Cooldown
from duckservice.core.grants import Grant, Late
from duckservice.core.headroom import Headroom
from duckservice.core.limiter import Limiter, LimiterMemory
from duckservice.core.rooms import Rooms
from duckservice.core.shares import Shares
from duckservice.core.sliding_window import SlidingWindow
from duckservice.core.token_bucket import Taken
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


def _counts_at_the_end(self: Allowance, now: float, cost: Any, number: int) -> Any:
    holding = _TAKE(self, now, (0, 0, 0, 0), number)
    holding.cost = cost
    return holding


def _shortens(self: Cooldown, now: float, seconds: float) -> None:
    if seconds > 0:
        self.until = now + min(seconds, 120.0)


def _believes_all(self: Cooldown, now: float, seconds: float) -> None:
    if seconds > 0:
        self.until = max(self.until, now + min(seconds, 86_400.0))


def _never_doubles(
    self: Cooldown, now: float, retry_after: float | None, **_: int
) -> None:
    named = retry_after is not None and retry_after >= 0
    self.block(now, retry_after if named and retry_after is not None else 1.0)


def _each_of_a_burst_counts(
    self: Cooldown, now: float, retry_after: float | None, *, of: int, last: int
) -> None:
    _REFUSED(self, now, retry_after, of=max(of, last + 1), last=last)


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
_WINDOW = Allowance._window


def _shorter_window(self: Allowance, limit: int | None) -> SlidingWindow | None:
    return None if limit is None else SlidingWindow(limit, 60.0)


def _leaking_window(self: Allowance, limit: int | None) -> SlidingWindow | None:
    return None if limit is None else Leaks(limit, 60.0 + self._guard)


def _tells(self: Allowance, part: int, limit: int, **_: int) -> None:
    window = self._windows[part]
    if window is None:
        self._windows[part] = _WINDOW(self, limit)
    else:
        window.limit = limit


def _stays(self: Limiter[int], waiter: int) -> bool:
    return waiter in self._cost_of


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
                Allowance,
                "_headroom_at",
                lambda self, now, cost: max(
                    said.ready_at(now, part)
                    for said, part in zip(self._headrooms, cost, strict=True)
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
        ((Allowance, "learn", lambda *_, **__: None),),
        "upstream",
    ),
    Mutant(
        "a higher limit than the configured one is believed",
        ((Allowance, "_tell", _tells),),
        "upstream",
    ),
)
