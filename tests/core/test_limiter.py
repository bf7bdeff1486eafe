from __future__ import annotations

import gc
import weakref
from collections import Counter, deque

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from duckservice.core.limiter import Grant, Limiter, Limits, LineFull, Waits
from duckservice.core.token_bucket import Never
from duckservice.core.waiting_line import PRIORITIES

REACHED: Counter[str] = Counter()
CLASSES = st.sampled_from(PRIORITIES)
AGING = 30
MINUTE = 60


class LimiterMachine(RuleBasedStateMachine):
    """The model remembers all grants, and finds the next one by trying each quarter second.

    All times are quarters of a second, and rates such that a token comes at a
    whole quarter, so that trying each of them is exact.
    """

    grants = Bundle("grants")

    @initialize(
        bucket=st.sampled_from([None, (3, 1.0), (5, 0.5), (2, 4.0)]),
        requests=st.sampled_from([None, 3, 8]),
        tokens=st.sampled_from([None, 100, 250]),
        waiting_max=st.sampled_from([3, 100]),
    )
    def start(self, bucket, requests, tokens, waiting_max):
        capacity, rate = bucket or (None, None)
        self.capacity, self.rate = capacity, rate
        self.requests, self.tokens = requests, tokens
        self.limits = Limits(
            capacity=capacity,
            refill_rate=rate,
            requests_per_minute=requests,
            tokens_per_minute=tokens,
            guard=0.0,
            waiting_max=waiting_max,
            aging=AGING,
        )
        self.now = 0.0
        self.names = 0
        self.limiter: Limiter[int] = Limiter(self.limits, 0.0)
        self.level, self.level_at = float(capacity or 0), 0.0
        self.sent: list[list[float]] = []  # [time, requests, tokens]
        self.of: dict[int, list[float]] = {}
        self.blocked_until = -1.0
        self.waiting: dict[int, tuple[str, float, int]] = {}
        self.passed = dict.fromkeys(PRIORITIES, 0)

    def in_bucket(self, at: float) -> float:
        if self.capacity is None:
            return 1.0
        return min(self.capacity, self.level + (at - self.level_at) * self.rate)

    def fits(self, at: float, tokens: int) -> bool:
        recent = [entry for entry in self.sent if at - entry[0] < MINUTE]
        return (
            at >= self.blocked_until
            and self.in_bucket(at) >= 1
            and (self.requests is None or sum(e[1] for e in recent) < self.requests)
            and (
                self.tokens is None or sum(e[2] for e in recent) + tokens <= self.tokens
            )
        )

    def debit(self, grant: Grant) -> Grant:
        assert self.fits(self.now, grant.tokens), "granted more than a limit allows"
        assert not grant.settled
        if self.capacity is not None:
            self.level = self.in_bucket(self.now) - 1
            self.level_at = self.now
        self.sent.append([self.now, 1, grant.tokens])
        self.of[id(grant)] = self.sent[-1]
        return grant

    def standing(self, name: int) -> tuple[float, float, int]:
        priority, entered, _ = self.waiting[name]
        rank = PRIORITIES.index(priority)
        risen = min(rank, (self.now - entered) // AGING)
        return rank - risen, entered + risen * AGING, name

    def first(self) -> int:
        there = {priority for priority, _, _ in self.waiting.values()}
        overdue = [p for p in PRIORITIES if p in there and self.passed[p] >= 17]
        if overdue:
            worst = max(overdue, key=lambda p: self.passed[p])
            return min(n for n, (p, _, _) in self.waiting.items() if p == worst)
        return min(self.waiting, key=self.standing)

    def grant_what_is_due(self) -> list[Grant]:
        granted = self.limiter.due(self.now)
        for name, grant in granted:
            assert name == self.first(), "somebody was overtaken"
            its_class, _, tokens = self.waiting.pop(name)
            assert grant.tokens == tokens
            self.debit(grant)
            there = {p for p, _, _ in self.waiting.values()}
            for p in PRIORITIES:
                over = p in there and p != its_class
                self.passed[p] = self.passed[p] + 1 if over else 0
        if self.waiting:
            assert not self.fits(self.now, self.waiting[self.first()][2]), (
                "kept waiting"
            )
        REACHED["granted late"] += len(granted)
        return [grant for _, grant in granted]

    @rule(target=grants, quarters=st.integers(0, 60))
    def time_passes(self, quarters):
        self.now += quarters / 4
        return multiple(*self.grant_what_is_due())

    @rule(target=grants, early=st.sampled_from([0, 0.25]))
    def wait_for_the_wakeup(self, early):
        at = self.limiter.next_wakeup(self.now)
        if at is None:
            return multiple()
        self.now = max(self.now, at - early)
        granted = self.grant_what_is_due()
        assert granted or self.now < at, "woken up for nothing"
        return multiple(*granted)

    @rule(
        target=grants, tokens=st.sampled_from([0, 1, 30, 99, 100, 250, 251]), p=CLASSES
    )
    def acquire(self, tokens, p):
        self.names += 1
        answer = self.limiter.acquire(self.now, tokens, self.names, p)
        if self.tokens is not None and tokens > self.tokens:
            REACHED["never"] += 1
            assert answer == Never(self.tokens)
        elif not self.waiting and self.fits(self.now, tokens):
            assert isinstance(answer, Grant)
            assert answer.tokens == tokens
            return self.debit(answer)
        elif len(self.waiting) >= self.limits.waiting_max:
            REACHED["line full"] += 1
            assert answer == LineFull(self.limits.waiting_max)
        else:
            assert answer == Waits()
            self.waiting[self.names] = (p, self.now, tokens)
        return multiple()

    @rule(target=grants, p=CLASSES, number=st.integers(2, 25))
    def a_crowd_comes(self, p, number):
        got = [self.acquire(1, p) for _ in range(number)]
        REACHED["crowd"] += 1
        return multiple(*[grant for grant in got if isinstance(grant, Grant)])

    @rule(data=st.data())
    def give_up(self, data):
        name = data.draw(st.integers(1, self.names + 1))
        assert self.limiter.remove(name) == (name in self.waiting)
        self.waiting.pop(name, None)

    @rule()
    def the_first_gives_up(self):
        if self.waiting:
            self.limiter.next_wakeup(self.now)
            name = self.first()
            assert self.limiter.remove(name)
            del self.waiting[name]

    @rule(grant=grants, tokens=st.sampled_from([0, 1, 30, 300]))
    def settle(self, grant, tokens):
        if not grant.settled:
            self.of[id(grant)][2] = tokens
        else:
            REACHED["settled twice"] += 1
        self.limiter.settle(grant, tokens)

    @rule(grant=consumes(grants))
    def give_back(self, grant):
        if not grant.settled:
            self.of[id(grant)][1:] = [0, 0]
            if self.capacity is not None:
                self.level = min(self.capacity, self.in_bucket(self.now) + 1)
                self.level_at = self.now
        self.limiter.give_back(self.now, grant)
        self.limiter.give_back(self.now, grant)

    @rule(
        seconds=st.sampled_from(
            [
                -1.0,
                0.0,
                5.0,
                30.0,
                119.75,
                120.0,
                121.0,
                1e9,
                float("inf"),
                float("nan"),
            ]
        )
    )
    def the_provider_says_429(self, seconds):
        self.limiter.block(self.now, seconds)
        if seconds > 0:
            until = self.now + (120.0 if seconds > 120 else seconds)
            REACHED["not shortened"] += until < self.blocked_until
            self.blocked_until = max(self.blocked_until, until)

    @rule(target=grants)
    def the_actor_is_restarted(self):
        self.limiter = Limiter(self.limits, self.now, memory=self.limiter.memory())
        self.waiting.clear()
        self.passed = dict.fromkeys(PRIORITIES, 0)
        return multiple()

    @invariant()
    def it_wakes_up_at_the_first_instant_that_the_limits_allow(self):
        at = self.limiter.next_wakeup(self.now)
        assert (at is None) == (not self.waiting)
        if at is not None:
            tokens = self.waiting[self.first()][2]
            at = max(at, self.now)
            assert self.fits(at, tokens)
            assert at == self.now or not self.fits(at - 0.25, tokens)

    @invariant()
    def its_statistics_are_true(self):
        seen = self.limiter.statistics(self.now)
        recent = [entry for entry in self.sent if self.now - entry[0] < MINUTE]
        left = [] if self.capacity is None else [int(self.in_bucket(self.now))]
        if self.requests is not None:
            left.append(self.requests - int(sum(e[1] for e in recent)))
        assert seen.requests_available == min(left, default=None)
        blocked = self.now < self.blocked_until
        assert seen.blocked_until == (self.blocked_until if blocked else None)
        assert seen.waiting == len(self.waiting)
        if self.tokens is not None:
            used = sum(e[2] for e in recent)
            assert seen.tokens_available == max(0, self.tokens - used)


def test_no_order_of_events_breaks_a_limit_or_keeps_anybody_too_long():
    REACHED.clear()
    run_state_machine_as_test(
        LimiterMachine,
        settings=settings(max_examples=150, stateful_step_count=40, deadline=None),
    )
    for event in (
        "granted late",
        "never",
        "line full",
        "settled twice",
        "not shortened",
        "crowd",
    ):
        assert REACHED[event], REACHED


def granted(limiter: Limiter[int], now: float) -> list[int]:
    return [waiter for waiter, _ in limiter.due(now)]


def test_a_grant_debits_all_limits_or_none():
    limiter: Limiter[int] = Limiter(
        Limits(
            capacity=2, refill_rate=0.25, requests_per_minute=5, tokens_per_minute=100
        ),
        0.0,
    )
    assert isinstance(limiter.acquire(0.0, 90, 1), Grant)
    before = limiter.statistics(0.0)
    assert limiter.acquire(0.0, 50, 2) == Waits()
    assert limiter.due(0.0) == []
    after = limiter.statistics(0.0)
    assert after.requests_available == before.requests_available == 1
    assert after.tokens_available == before.tokens_available == 10


def test_a_small_request_does_not_overtake_a_large_one():
    limiter: Limiter[int] = Limiter(Limits(tokens_per_minute=100, guard=0.0), 0.0)
    limiter.acquire(0.0, 50, 0)
    assert limiter.acquire(1.0, 100, 1) == Waits()
    assert limiter.acquire(2.0, 1, 2) == Waits()
    assert granted(limiter, 59.75) == []
    assert granted(limiter, 60.0) == [1]
    assert granted(limiter, 119.75) == []
    assert granted(limiter, 120.0) == [2]


def test_one_wakeup_lets_in_only_as_many_as_fit():
    limiter: Limiter[int] = Limiter(Limits(capacity=1, refill_rate=1.0), 0.0)
    limiter.acquire(0.0, 0, 0)
    for waiter in (1, 2, 3):
        limiter.acquire(0.0, 0, waiter)
    assert [granted(limiter, float(second)) for second in (1, 2, 3)] == [[1], [2], [3]]


def test_a_reservation_larger_than_a_minutes_tokens_is_refused_at_once():
    limiter: Limiter[int] = Limiter(Limits(tokens_per_minute=100), 0.0)
    assert limiter.acquire(0.0, 101, 1) == Never(100)
    assert limiter.next_wakeup(0.0) is None


def test_unused_tokens_come_back_as_soon_as_they_are_known():
    limiter: Limiter[int] = Limiter(Limits(tokens_per_minute=100), 0.0)
    grant = limiter.acquire(0.0, 100, 1)
    assert isinstance(grant, Grant)
    limiter.acquire(0.0, 60, 2)
    limiter.settle(grant, 40)
    assert limiter.next_wakeup(0.0) == 0.0
    assert granted(limiter, 0.0) == [2]


def test_a_request_that_was_sent_counts_though_it_failed():
    limiter: Limiter[int] = Limiter(Limits(requests_per_minute=1), 0.0)
    grant = limiter.acquire(0.0, 5, 1)
    assert isinstance(grant, Grant)
    limiter.settle(grant, 0)
    assert limiter.acquire(1.0, 5, 2) == Waits()


def test_a_longer_retry_after_than_the_cap_is_cut_and_none_is_shortened():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    limiter.block(0.0, 1e9)
    limiter.block(1.0, 5.0)
    assert limiter.acquire(2.0, 0, 1) == Waits()
    assert limiter.next_wakeup(2.0) == 120.0
    assert granted(limiter, 119.99) == []
    assert granted(limiter, 120.0) == [1]


def test_a_crash_of_the_actor_lifts_no_limit():
    limits = Limits(capacity=10, refill_rate=1.0, requests_per_minute=3)
    limiter: Limiter[int] = Limiter(limits, 0.0)
    for waiter in range(3):
        assert isinstance(limiter.acquire(0.0, 0, waiter), Grant)
    limiter.block(0.0, 90.0)
    heir: Limiter[int] = Limiter(limits, 5.0, memory=limiter.memory())
    assert heir.acquire(5.0, 0, 1) == Waits()
    assert heir.next_wakeup(5.0) == 90.0


def test_no_60_seconds_at_the_provider_exceed_the_limit_though_requests_travel():
    """Each request takes up to half a second to arrive, in the worst order."""
    limiter: Limiter[int] = Limiter(Limits(requests_per_minute=10), 0.0)
    now, arrivals = 0.0, deque[float]()
    for number in range(100):
        limiter.acquire(now, 0, number)
        now = max(now, limiter.next_wakeup(now) or now)
        limiter.due(now)
        arrivals.append(now + (0.49 if number % 20 < 10 else 0.0))
    ordered = sorted(arrivals)
    for i in range(len(ordered) - 10):
        assert ordered[i + 10] - ordered[i] >= 60


def test_who_takes_the_place_of_one_who_gave_up_is_woken_in_its_own_time():
    limiter: Limiter[int] = Limiter(Limits(tokens_per_minute=100, guard=0.0), 0.0)
    limiter.acquire(0.0, 50, 0)
    limiter.acquire(0.0, 100, 1)
    limiter.acquire(0.0, 50, 2)
    assert limiter.next_wakeup(0.0) == 60.0
    assert limiter.remove(1)
    assert limiter.next_wakeup(0.0) == 0.0


class Caller:
    """Something whose end can be seen."""


def test_nothing_remembers_who_was_granted_or_gave_up():
    limiter: Limiter[Caller] = Limiter(Limits(capacity=1, refill_rate=1.0), 0.0)
    callers = [Caller() for _ in range(3)]
    seen = [weakref.ref(caller) for caller in callers]
    for caller in callers:
        limiter.acquire(0.0, 1, caller)
    limiter.remove(callers[1])
    limiter.due(1.0)
    del caller, callers
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3


def test_nobody_waits_twice():
    limiter: Limiter[int] = Limiter(Limits(requests_per_minute=1), 0.0)
    limiter.acquire(0.0, 0, 0)
    limiter.acquire(0.0, 0, 1)
    with pytest.raises(ValueError, match="waits already"):
        limiter.acquire(0.0, 0, 1)


@pytest.mark.parametrize(
    "half", [{"capacity": 5}, {"refill_rate": 1.0}, {"requests_per_minute": 0}]
)
def test_half_a_limit_is_refused(half):
    with pytest.raises(ValueError, match=r"go together|must be"):
        Limits(**half)


def test_without_limits_everything_is_granted():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    assert all(isinstance(limiter.acquire(0.0, 10**9, n), Grant) for n in range(100))
    seen = limiter.statistics(0.0)
    assert (seen.requests_available, seen.tokens_available) == (None, None)
