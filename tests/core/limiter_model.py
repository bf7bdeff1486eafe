"""A second limiter, as slow and plain as can be: lists, and a look at every entry.

It knows the rules of the documents and nothing of the code. Times are eighths of a
second, and rates such that a token comes at one, so all of it is exact.
"""

from __future__ import annotations

import math
from collections import Counter

import attrs

from duckservice.core.grants import Limits
from duckservice.core.waiting_line import PRIORITIES

GUARD = 0.5
PERIOD = 60 + GUARD


@attrs.define(eq=False)
class Sent:
    """A request that was granted, as the model counts it."""

    at: float
    tokens: int
    key: int
    requests: int = 1
    ended: bool = False


@attrs.define(eq=False)
class Someone:
    """One who waits."""

    name: int
    priority: str
    yields: bool
    submitter: tuple[int | None, int | None]
    entered: float
    deadline: float
    tokens: int
    due: float

    @property
    def kind(self) -> tuple[str, bool]:
        return self.priority, self.yields

    @property
    def size(self) -> int:
        return len(f"{self.tokens:b}") if self.tokens else 0


@attrs.define
class Line:
    """Who waits, in the order of the five rules of `waiting_line`."""

    aging: float
    waiting: list[Someone] = attrs.field(factory=list)
    rings: dict = attrs.field(factory=dict)
    passed: Counter = attrs.field(factory=Counter)

    def enter(self, someone: Someone) -> None:
        self.waiting.append(someone)
        uid, pid = someone.submitter
        users = self.rings.setdefault(someone.kind, [])
        if uid not in users:
            users.append(uid)
        processes = self.rings.setdefault((someone.kind, uid), [])
        if pid not in processes:
            processes.append(pid)

    def on_top(self, someone: Someone) -> tuple[float, int]:
        below = PRIORITIES.index(someone.priority) + someone.yields / 2
        return someone.entered + below * self.aging, someone.name

    def first(self) -> Someone | None:
        if not self.waiting:
            return None
        oldest = {}
        for someone in self.waiting:
            oldest.setdefault(someone.kind, someone)
        there = {kind[0] for kind in oldest}
        late = max(self.passed[p] for p in there)
        if late >= 17:
            owed = next(p for p in PRIORITIES if p in there and self.passed[p] == late)
            oldest = {kind: s for kind, s in oldest.items() if kind[0] == owed}
        kind = min(oldest, key=lambda kind: self.on_top(oldest[kind]))
        uid = self.rings[kind][0]
        pid = self.rings[kind, uid][0]
        own = [s for s in self.waiting if (s.kind, s.submitter) == (kind, (uid, pid))]
        return min(own, key=lambda s: (s.due, s.name))

    def leave(self, someone: Someone, *, turn: bool, popped: bool = False) -> None:
        self.waiting.remove(someone)
        uid, pid = someone.submitter
        users, processes = self.rings[someone.kind], self.rings[someone.kind, uid]
        own = [s for s in self.waiting if s.kind == someone.kind]
        for ring, who, left in (
            (processes, pid, [s for s in own if s.submitter == someone.submitter]),
            (users, uid, [s for s in own if s.submitter[0] == uid]),
        ):
            if turn or not left:
                ring.remove(who)
                if left:
                    ring.append(who)
        if popped:
            there = {s.priority for s in self.waiting}
            for p in PRIORITIES:
                over = p in there and p != someone.priority
                self.passed[p] = self.passed[p] + 1 if over else 0


@attrs.define
class Model:
    """The limits of one provider, from a log of all that was ever sent."""

    limits: Limits
    now: float = 0.0
    sent: list[Sent] = attrs.field(factory=list)
    blocked: dict[int, float] = attrs.field(factory=dict)
    aside: dict[int, float] = attrs.field(factory=dict)
    level: float = 0.0
    level_at: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.level = float(self.limits.capacity or 0)

    @property
    def keys(self) -> list[int]:
        return list(range(self.limits.keys)) if self.limits.keys > 1 else [-1]

    def in_bucket(self, at: float) -> float:
        rate = self.limits.refill_rate or 0.0
        most = self.limits.capacity or 0
        return min(most, self.level + (at - self.level_at) * rate)

    def fits(self, at: float, tokens: int, key: int) -> bool:
        its = self.limits
        recent = [s for s in self.sent if at - s.at < PERIOD]
        if at < max(self.blocked.get(-1, -1.0), self.blocked.get(key, -1.0)):
            return False
        if its.capacity is not None and self.in_bucket(at) < 1:
            return False
        for those, requests, most in (
            (recent, its.requests_per_minute, its.tokens_per_minute),
            (
                [s for s in recent if s.key == key],
                its.key_requests_per_minute,
                its.key_tokens_per_minute,
            ),
        ):
            if requests and sum(s.requests for s in those) + 1 > requests:
                return False
            if most and sum(s.tokens for s in those) + tokens > most:
                return False
        return True

    def in_use(self, at: float) -> list[int]:
        free = [key for key in self.keys if self.aside.get(key, -1.0) <= at]
        return free or [min(self.keys, key=lambda key: self.aside[key])]

    def fits_somewhere(self, at: float, tokens: int) -> bool:
        return any(self.fits(at, tokens, key) for key in self.in_use(at))

    def ready(self, tokens: int) -> float:
        """Return when it fits, if nothing else is sent until then."""
        moments = [self.now, *self.blocked.values(), *self.aside.values()]
        moments += [s.at + PERIOD for s in self.sent if self.now - s.at < PERIOD]
        if self.limits.refill_rate:
            missing = 1 - self.level
            moments.append(self.level_at + missing / self.limits.refill_rate)
        return min(
            at for at in moments if at >= self.now and self.fits_somewhere(at, tokens)
        )

    def take(self, tokens: int, key: int) -> Sent:
        if self.limits.capacity is not None:
            self.level, self.level_at = self.in_bucket(self.now) - 1, self.now
        self.sent.append(Sent(self.now, tokens, key))
        return self.sent[-1]

    def untake(self, sent: Sent) -> None:
        self.level_at, self.level = self.now, self.in_bucket(self.now) + 1
        self.level = min(self.level, self.limits.capacity or 0)
        sent.requests = sent.tokens = 0

    @property
    def floor(self) -> float:
        """Before that no 429 lets anything go."""
        of_keys = min(self.blocked.get(key, -math.inf) for key in self.keys)
        return max(self.blocked.get(-1, -math.inf), of_keys)


def worst_window(arrivals: list[tuple[float, int]]) -> int:
    """Return the most that arrived in any half-open window of 60 s."""
    arrivals = sorted(arrivals)
    worst = total = begin = 0
    for at, cost in arrivals:
        total += cost
        while at - arrivals[begin][0] >= 60:
            total -= arrivals[begin][1]
            begin += 1
        worst = max(worst, total)
    return worst
