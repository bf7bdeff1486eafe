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
    model: str = ""
    number: int = 0
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
    model: str = ""

    @property
    def lane(self) -> tuple[str, int]:
        return self.model, self.size

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

    def sharing(self) -> list[str | bool]:
        """Return who of the four that have a share waits; True: those who yield."""
        there = {each for someone in self.waiting for each in someone.kind}
        return [its for its in (*PRIORITIES, True) if its in there]

    def first(self) -> Someone | None:
        if not self.waiting:
            return None
        oldest = {}
        for someone in self.waiting:
            oldest.setdefault(someone.kind, someone)
        late = max(self.passed[kind] for kind in self.sharing())
        if late >= 17:
            owed = next(its for its in self.sharing() if self.passed[its] == late)
            oldest = {k: s for k, s in oldest.items() if owed in (k[0], k[1])}
        kind = min(oldest, key=lambda kind: self.on_top(oldest[kind]))
        uid = self.rings[kind][0]
        pid = self.rings[kind, uid][0]
        own = [s for s in self.waiting if (s.kind, s.submitter) == (kind, (uid, pid))]
        return min(own, key=lambda s: (s.due, s.name))

    def leave(self, someone: Someone, *, turn: bool, popped: bool = False) -> None:
        yielding = [s for s in self.waiting if s.yields]
        served = [someone.priority]
        if yielding and min(yielding, key=self.on_top).kind == someone.kind:
            served.append(True)
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
            there = self.sharing()
            for its in (*PRIORITIES, True):
                over = its in there and its not in served
                self.passed[its] = self.passed[its] + 1 if over else 0


@attrs.define(eq=False)
class Open:
    """A request without an end yet, as what was told of its key sees it."""

    since: float
    sent: Sent
    group: Common | None = None
    unseen: list[int] = attrs.field(factory=lambda: [0, 0])

    @property
    def cost(self) -> list[int]:
        return [1, self.sent.tokens]


@attrs.define(eq=False)
class Common:
    """What several models have in common: requests and tokens of a minute."""

    numbers: tuple[int | None, int | None] = (None, None)
    log: tuple[list, list] = attrs.field(factory=lambda: ([], []))
    """When, who, how much."""
    heard: tuple[list, list] = attrs.field(factory=lambda: ([], []))
    """How much is left, until when, and in which era it was heard."""
    charged: list[int] = attrs.field(factory=lambda: [0, 0])
    marks: list[int] = attrs.field(factory=lambda: [0, 0])
    eras: list[int] = attrs.field(factory=lambda: [0, 0])

    def is_left(self, at: float, cost: list[int], those: list[Open]) -> bool:
        return all(
            left >= cost[part] + sum(o.unseen[part] for o in those if o.group is self)
            for part in (0, 1)
            for left, until, _ in self.heard[part]
            if until > at
        )

    def fits(self, at: float, cost: list[int], those: list[Open]) -> bool:
        for limit, log, its in zip(self.numbers, self.log, cost, strict=True):
            used = sum(entry[2] for entry in log if at - entry[0] < PERIOD)
            if limit and used + min(its, limit) > limit:
                return False
        return self.is_left(at, cost, those)

    def enter(self, at: float, its: Open) -> None:
        its.group, its.unseen = self, its.cost
        for part, limit in enumerate(self.numbers):
            if limit:
                self.log[part].append([at, its.sent, its.cost[part]])

    def drop(self, its: Open) -> None:
        for log in self.log:
            log[:] = [entry for entry in log if entry[1] is not its.sent]
        its.group = None

    def hear(self, part: int, left: int, until: float, of: int, last: int) -> None:
        era = self.eras[part]
        self.heard[part].append([left - self.charged[part], until, era])
        if of > self.marks[part]:
            self.heard[part][:] = [h for h in self.heard[part] if h[2] == era]
            self.eras[part], self.marks[part], self.charged[part] = era + 1, last, 0

    def charge(self, its: Open) -> None:
        for part, cost in enumerate(its.unseen):
            if self.heard[part]:
                self.charged[part] += cost
            for entry in self.heard[part]:
                entry[0] -= cost


@attrs.define(eq=False)
class ToldOfKey:
    """What was told of one key: which models have a count in common."""

    said: dict[str, list] = attrs.field(factory=dict)
    groups: list[Common] = attrs.field(factory=list)
    open: list[Open] = attrs.field(factory=list)
    moved: int = 0

    def numbers(self, model: str) -> tuple:
        return tuple(its and its[0] for its in self.said[model])

    def group(self, model: str) -> Common | None:
        if model in self.said:
            wanted = self.numbers(model)
            return next(its for its in self.groups if its.numbers == wanted)
        return self.groups[0] if len(self.groups) == 1 else None

    def fits(self, at: float, tokens: int, model: str) -> bool:
        group = self.group(model)
        return group is None or group.fits(at, [1, tokens], self.open)

    def forget(self, now: float) -> None:
        while self.open and self.open[0].since + 120 <= now:
            self.end(self.open[0].sent, self.open[0].sent.tokens)

    def take(self, now: float, sent: Sent) -> None:
        self.open.append(Open(now, sent))
        group = self.group(sent.model)
        if group:
            group.enter(now, self.open[-1])

    def end(self, sent: Sent, tokens: int, *, unsent: bool = False) -> None:
        for its in [o for o in self.open if o.sent is sent]:
            self.open.remove(its)
            group = its.group
            if group is None:
                continue
            if unsent:
                group.drop(its)
                continue
            group.charge(its)
            for entry in group.log[1]:
                if entry[1] is sent:
                    entry[2] = tokens

    def held_up(self, now: float, sent: Sent) -> None:
        for its in [o for o in self.open if o.sent is sent]:
            self.open.remove(its)
            self.open.append(its)
            its.since = now
            for log in its.group.log if its.group else ():
                for entry in log:
                    entry[0] = now if entry[1] is sent else entry[0]

    def learn(
        self, now: float, model: str, limits: list, rests: list, of: int, last: int
    ) -> None:
        self.forget(now)
        if not any(limits) and not any(rests):
            return
        news = model not in self.said
        old = None if news else self.group(model)
        its = self.said.setdefault(model, [None, None])
        for part, limit in enumerate(limits):
            known = its[part]
            if limit and (known is None or of > known[1] or limit < known[0]):
                its[part] = limit, last
        self.regroup(now, model, old)
        group = self.group(model)
        assert group is not None
        for part, rest in enumerate(rests):
            if rest:
                for o in self.open:
                    if o.sent.number == of and o.group is group:
                        o.unseen[part] = 0
                group.hear(part, rest[0], now + rest[1], of, last)

    def regroup(self, now: float, model: str, old: Common | None) -> None:
        numbers = self.numbers(model)
        if not any(its.numbers == numbers for its in self.groups):
            others = [m for m in self.said if m != model]
            if old and not any(self.numbers(m) == old.numbers for m in others):
                before, old.numbers = old.numbers, numbers
                for part in (0, 1):
                    if numbers[part] and not before[part]:
                        old.log[part][:] = [
                            [now, o.sent, o.cost[part]]
                            for o in self.open
                            if o.group is old
                        ]
            else:
                self.groups.append(Common(numbers))
        needed = {self.numbers(m) for m in self.said}
        self.groups = [its for its in self.groups if its.numbers in needed]
        for its in self.open:
            group = self.group(its.sent.model)
            if group is not its.group:
                self.moved += 1
                if its.group:
                    its.group.drop(its)
                if group:
                    group.enter(now, its)


@attrs.define
class Model:
    """The limits of one provider, from a log of all that was ever sent."""

    limits: Limits
    now: float = 0.0
    sent: list[Sent] = attrs.field(factory=list)
    blocked: dict[int, float] = attrs.field(factory=dict)
    aside: dict[int, float] = attrs.field(factory=dict)
    told: dict[int, ToldOfKey] = attrs.field(factory=dict)
    level: float = 0.0
    level_at: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.level = float(self.limits.capacity or 0)
        self.told = {key: ToldOfKey() for key in {-1, *self.keys}}

    @property
    def keys(self) -> list[int]:
        return list(range(self.limits.keys)) if self.limits.keys > 1 else [-1]

    def in_bucket(self, at: float) -> float:
        rate = self.limits.refill_rate or 0.0
        most = self.limits.capacity or 0
        return min(most, self.level + (at - self.level_at) * rate)

    def told_of(self, key: int) -> list[ToldOfKey]:
        return [self.told[each] for each in {-1, key}]

    def fits(self, at: float, tokens: int, key: int, model: str) -> bool:
        its = self.limits
        if not all(told.fits(at, tokens, model) for told in self.told_of(key)):
            return False
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

    def fits_somewhere(self, at: float, tokens: int, model: str) -> bool:
        return any(self.fits(at, tokens, key, model) for key in self.in_use(at))

    def ready(self, tokens: int, model: str) -> float:
        """Return when it fits, if nothing else is sent until then."""
        moments = [self.now, *self.blocked.values(), *self.aside.values()]
        moments += [s.at + PERIOD for s in self.sent if self.now - s.at < PERIOD]
        if self.limits.refill_rate:
            missing = 1 - self.level
            moments.append(self.level_at + missing / self.limits.refill_rate)
        for told in self.told.values():
            for group in told.groups:
                for part in (0, 1):
                    moments += [entry[0] + PERIOD for entry in group.log[part]]
                    moments += [heard[1] for heard in group.heard[part]]
        return next(
            at
            for at in sorted(set(moments))
            if at >= self.now and self.fits_somewhere(at, tokens, model)
        )

    def take(self, tokens: int, key: int, model: str, number: int = 0) -> Sent:
        if self.limits.capacity is not None:
            self.level, self.level_at = self.in_bucket(self.now) - 1, self.now
        self.sent.append(Sent(self.now, tokens, key, model, number))
        for told in self.told_of(key):
            told.take(self.now, self.sent[-1])
        return self.sent[-1]

    def forget(self, key: int) -> None:
        for told in self.told_of(key):
            told.forget(self.now)

    def end(self, sent: Sent, tokens: int, *, unsent: bool = False) -> None:
        for told in self.told_of(sent.key):
            told.end(sent, tokens, unsent=unsent)
        sent.tokens, sent.ended = tokens, True

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
