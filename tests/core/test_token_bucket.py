from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from duckservice.core.token_bucket import (
    Never,
    Taken,
    TokenBucket,
    WaitFor,
    available,
    empty,
    full,
    give_back,
    ready_at,
    take,
)

RATES = st.sampled_from([0.1, 0.3, 1.0, 3.0, 7.7, 10.0, 1000.0, 1 / 3, 1e-3])
REACHED: Counter[str] = Counter()


class BucketMachine(RuleBasedStateMachine):
    """The model keeps rational tokens and the latest time it has seen."""

    @initialize(
        capacity=st.integers(1, 20),
        rate=RATES,
        start=st.sampled_from([0.0, 12345.678, 987654.321]),
        filled=st.booleans(),
    )
    def start(self, capacity, rate, start, filled):
        self.capacity, self.rate = capacity, Fraction(repr(rate))
        self.now = start
        self.latest = self.ns(start)
        self.bucket = (full if filled else empty)(capacity, rate, start)
        self.tokens = Fraction(capacity if filled else 0)

    @staticmethod
    def ns(seconds: float) -> Fraction:
        return Fraction(round(seconds * 10**9), 10**9)

    def level(self) -> Fraction:
        gained = max(Fraction(0), self.ns(self.now) - self.latest) * self.rate
        return min(self.tokens + gained, Fraction(self.capacity))

    def refill(self) -> None:
        self.tokens = self.level()
        self.latest = max(self.latest, self.ns(self.now))

    @rule(seconds=st.one_of(st.floats(0, 100), st.floats(0, 1e-6)))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(seconds=st.floats(0, 50))
    def the_clock_goes_back(self, seconds):
        self.now = max(0.0, self.now - seconds)
        REACHED["back"] += 1

    @rule(cost=st.integers(0, 25))
    def ask(self, cost):
        if cost <= self.capacity:
            self.refill()
        expected = ready_at(self.bucket, self.now, cost)
        self.bucket, answer = take(self.bucket, self.now, cost)
        if cost > self.capacity:
            assert answer == Never(self.capacity)
        elif cost <= self.tokens:
            assert isinstance(answer, Taken)
            assert expected == self.now
            self.tokens -= cost
        else:
            assert isinstance(answer, WaitFor)
            self.check_the_wait(cost, answer.seconds)
            assert take(self.bucket, expected, cost)[1] == Taken()

    def check_the_wait(self, cost: int, seconds: float) -> None:
        REACHED["waits"] += 1
        assert take(self.bucket, self.now + seconds, cost)[1] == Taken()
        exact = (cost - self.tokens) / self.rate + self.latest
        # Rounded up to a nanosecond and to the next float of the clock.
        assert self.ns(self.now + seconds) - exact <= Fraction(3, 10**9)

    @rule()
    def drain(self):
        while available(self.bucket, self.now) > 0:
            self.ask(1)
        REACHED["drained"] += 1

    @rule(cost=st.integers(1, 20), early=st.sampled_from([0, 4e-9]))
    def wait_until_it_is_enough(self, cost, early):
        answer = take(self.bucket, self.now, cost)[1]
        if isinstance(answer, WaitFor):
            self.now += max(0.0, answer.seconds - early)
            self.ask(cost)

    @rule(cost=st.integers(0, 25))
    def return_some(self, cost):
        self.refill()
        self.bucket = give_back(self.bucket, self.now, cost)
        self.tokens = min(self.tokens + cost, Fraction(self.capacity))

    @invariant()
    def it_holds_exactly_what_the_model_holds(self):
        assert available(self.bucket, self.now) == int(self.level())

    @invariant()
    def it_is_never_stuck(self):
        later = float(self.latest + self.capacity / self.rate) + 1e-6
        assert isinstance(take(self.bucket, later, self.capacity)[1], Taken)


def test_a_bucket_never_gains_or_loses_a_token():
    REACHED.clear()
    run_state_machine_as_test(
        BucketMachine,
        settings=settings(max_examples=100, stateful_step_count=30, deadline=None),
    )
    for event in ("back", "waits", "drained"):
        assert REACHED[event], REACHED


def test_a_million_small_steps_give_what_one_large_step_gives():
    slow = empty(10**9, 0.1, 0.0)
    quick = slow
    for step in range(1, 100_001):
        slow, _ = take(slow, step / 1000, 0)
    quick, _ = take(quick, 100.0, 0)
    assert slow == quick


def test_three_takers_at_a_rate_of_a_tenth_wait_exactly_ten_seconds_each():
    bucket = full(1, 0.1, 0.0)
    bucket, _ = take(bucket, 0.0, 1)
    for turn in range(3):
        now = turn * 10.0
        bucket, answer = take(bucket, now, 1)
        assert answer == WaitFor(10.0)
        bucket, answer = take(bucket, now + 10.0, 1)
        assert answer == Taken()


def test_what_is_larger_than_the_bucket_is_refused_at_once_and_takes_nothing():
    bucket = full(5, 1.0, 0.0)
    assert take(bucket, 0.0, 6) == (bucket, Never(5))
    assert ready_at(bucket, 0.0, 6) == float("inf")


def test_an_earlier_time_fills_nothing_twice():
    bucket = empty(10, 1.0, 100.0)
    bucket, _ = take(bucket, 105.0, 0)
    bucket, _ = take(bucket, 50.0, 0)
    assert available(bucket, 105.0) == 5


def test_one_sleep_does_not_let_all_waiters_in():
    bucket = empty(10, 1.0, 0.0)
    _, first = take(bucket, 0.0, 1)
    assert first == WaitFor(1.0)
    bucket, answer = take(bucket, 1.0, 1)
    assert answer == Taken()
    _, second = take(bucket, 1.0, 1)
    assert second == WaitFor(1.0)


@given(st.integers(1, 50), RATES, st.lists(st.floats(0, 10), max_size=40))
def test_in_any_period_it_gives_at_most_its_capacity_and_the_refill(cap, rate, gaps):
    bucket, now, taken = full(cap, rate, 0.0), 0.0, []
    for gap in gaps:
        now += gap
        bucket, answer = take(bucket, now, 1)
        taken += [now] if isinstance(answer, Taken) else []
    for i, begin in enumerate(taken):
        for j in range(i, len(taken)):
            assert j - i + 1 <= cap + rate * (taken[j] - begin) + 1e-6


@pytest.mark.parametrize(
    ("capacity", "rate"),
    [(0, 1.0), (1, 0.0), (1, -1.0), (1, float("nan")), (1, float("inf"))],
)
def test_a_bucket_that_never_fills_is_refused(capacity, rate):
    with pytest.raises(ValueError, match="must be"):
        full(capacity, rate, 0.0)


def test_whole_numbers_do_as_rates():
    bucket: TokenBucket = empty(5, 2, 0.0)
    assert available(bucket, 1.0) == 2
