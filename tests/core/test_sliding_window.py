from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st
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

from duckservice.core import sliding_window
from duckservice.core.sliding_window import SlidingWindow
from duckservice.core.token_bucket import Never, Taken, WaitFor, full, take

REACHED: Counter[str] = Counter()
PERIOD = 60


class WindowMachine(RuleBasedStateMachine):
    """The model keeps every single cost with its time, for ever."""

    taken = Bundle("taken")

    @initialize(limit=st.integers(1, 12), start=st.sampled_from([0.0, 54321.125]))
    def start(self, limit, start):
        self.limit, self.now = limit, start
        self.latest = start
        self.window = SlidingWindow(limit, PERIOD)
        self.log: list[list] = []  # [time, cost]

    def used(self, at: float) -> int:
        return sum(cost for when, cost in self.log if at - when < PERIOD)

    def tick(self) -> float:
        # A clock that went back counts as one that stood still.
        self.latest = max(self.now, self.latest)
        return self.latest

    # Quarters of a second are exact as floats and as nanoseconds.
    @rule(quarters=st.integers(0, 100))
    def time_passes(self, quarters):
        self.now += quarters / 4

    @rule(quarters=st.integers(1, 100))
    def the_clock_goes_back(self, quarters):
        self.now = max(0.0, self.now - quarters / 4)
        REACHED["back"] += 1

    @rule(target=taken, cost=st.integers(0, 14))
    def ask(self, cost):
        at = self.tick()
        expected = self.window.ready_at(self.now, cost)
        answer = self.window.take(self.now, cost)
        if cost > self.limit:
            assert answer == Never(self.limit)
        elif self.used(at) + cost <= self.limit:
            assert isinstance(answer, Taken)
            assert expected == self.now
            self.log.append([at, cost])
            return (answer, cost, self.log[-1])
        else:
            assert isinstance(answer, WaitFor)
            REACHED["waits"] += 1
            assert self.now + answer.seconds == expected
            assert self.used(expected) + cost <= self.limit
            assert self.used(expected - 0.25) + cost > self.limit
        return multiple()

    @rule(target=taken, cost=st.integers(1, 12), early=st.sampled_from([0, 0.25]))
    def wait_until_it_fits(self, cost, early):
        ready = self.window.ready_at(self.now, cost)
        if cost <= self.limit:
            self.now = max(self.now, ready - early)
        return self.ask(cost)

    @rule(
        given=consumes(taken),
        actual=st.integers(0, 20),
        early=st.sampled_from([0, 0.25]),
    )
    def settle_when_it_leaves(self, given, actual, early):
        self.now = max(self.now, given[2][0] + PERIOD - early)
        self.settle(given, actual)

    @rule(target=taken)
    def saturate(self):
        got = []
        while self.used(self.tick()) < self.limit:
            got.append(self.ask(1))
        REACHED["saturated"] += 1
        return multiple(*got)

    @rule(given=consumes(taken), actual=st.integers(0, 20))
    def settle(self, given, actual):
        answer, reserved, entry = given
        self.window.settle(answer, reserved, actual)
        gone = self.tick() - entry[0] >= PERIOD
        REACHED["settled late"] += gone
        REACHED["more than reserved"] += not gone and actual > reserved
        entry[1] = actual

    @rule()
    def a_successor_takes_over(self):
        if self.now == self.latest:
            self.window = SlidingWindow(self.limit, PERIOD, slots=self.window.slots())
            self.window.available(self.now)

    @invariant()
    def it_knows_what_is_left(self):
        left = max(0, self.limit - self.used(self.tick()))
        assert self.window.available(self.now) == left

    @invariant()
    def it_is_never_stuck(self):
        assert self.window.ready_at(self.now, self.limit) <= self.tick() + PERIOD


def test_a_window_never_admits_more_nor_later_than_the_limit_says():
    REACHED.clear()
    run_state_machine_as_test(
        WindowMachine,
        settings=settings(max_examples=150, stateful_step_count=40, deadline=None),
    )
    for event in ("back", "waits", "saturated", "settled late", "more than reserved"):
        assert REACHED[event], REACHED


def worst_period(times: list[float], period: float = PERIOD) -> int:
    """Return the most events in any half-open period; it begins with one of them."""
    return max(sum(t <= u < t + period for u in times) for t in times)


def admitted_by_a_bucket() -> list[float]:
    bucket, times = full(60, 1.0, 0.0), []
    for tick in range(240 * 4):
        bucket, answer = take(bucket, tick / 4, 1)
        times += [tick / 4] if isinstance(answer, Taken) else []
    return times


def test_the_control_a_bucket_of_60_a_minute_admits_119_in_one():
    assert worst_period(admitted_by_a_bucket()) >= 119


@given(st.lists(st.floats(0, 20), min_size=1, max_size=100))
@settings(max_examples=50)
def test_no_period_of_60_seconds_has_more_than_the_limit(gaps):
    window, now, times = SlidingWindow(5, PERIOD), 0.0, []
    for gap in gaps:
        now += gap
        times += [now] if isinstance(window.take(now, 1), Taken) else []
    assert worst_period([round(t * 10**9) for t in times], PERIOD * 10**9) <= 5


def test_a_saturated_window_admits_all_of_its_limit_in_every_period():
    window, now, times = SlidingWindow(10, PERIOD), 0.0, []
    while len(times) < 100:
        now = window.ready_at(now, 1)
        assert isinstance(window.take(now, 1), Taken)
        times.append(now)
    assert times[-1] == 9 * PERIOD


def test_memory_is_bounded_and_the_limit_still_holds(monkeypatch):
    monkeypatch.setattr(sliding_window, "SLOTS_EXACT_MAX", 60)
    window, times = SlidingWindow(10_000, PERIOD), []
    for tick in range(40_000):
        now = tick / 256
        if isinstance(window.take(now, 1), Taken):
            times.append(now)
        assert len(window.slots()) <= 2 * 60 + 2
    # 156 s at 256 a second against 10,000 a minute: saturated after 39 s.
    assert worst_period_sorted(times) <= 10_000
    late = window.ready_at(now, 1) - now
    assert len(times) >= 20_000
    assert late <= PERIOD + 1.0


def worst_period_sorted(times: list[float]) -> int:
    worst, begin = 0, 0
    for end, t in enumerate(times):
        while t - times[begin] >= PERIOD:
            begin += 1
        worst = max(worst, end - begin + 1)
    return worst


def test_costs_a_millisecond_apart_leave_a_millisecond_apart():
    window = SlidingWindow(2, PERIOD)
    window.take(1.000, 1)
    window.take(1.001, 1)
    assert window.ready_at(2.0, 1) == 61.000
    assert window.ready_at(2.0, 2) == 61.001
    assert isinstance(window.take(61.000, 1), Taken)


def test_costs_that_are_given_back_at_once_fill_no_memory():
    window = SlidingWindow(10, PERIOD)
    for tick in range(20_000):
        taken = window.take(tick / 1000, 1)
        assert isinstance(taken, Taken)
        window.settle(taken, 1, 0)
    assert len(window.slots()) <= 2 * sliding_window.SLOTS_EXACT_MAX + 2


def test_a_successor_settles_what_its_predecessor_took_and_mixes_up_nothing():
    window = SlidingWindow(10, PERIOD)
    old = window.take(1.0, 3)
    heir = SlidingWindow(10, PERIOD, slots=window.slots())
    new = heir.take(2.0, 4)
    heir.settle(new, 4, 1)
    assert heir.available(2.0) == 10 - 3 - 1
    heir.settle(old, 3, 0)
    assert heir.available(2.0) == 9
    assert heir.ready_at(2.0, 10) == 62.0


def test_a_taken_cost_of_another_window_settles_nothing():
    old = SlidingWindow(10, PERIOD)
    taken = old.take(5.0, 3)
    new = SlidingWindow(10, PERIOD)
    new.settle(taken, 3, 0)
    new.take(6.0, 4)
    new.settle(taken, 3, 0)
    assert new.available(6.0) == 6


@pytest.mark.parametrize(("limit", "period"), [(0, 60), (1, 0), (1, float("inf"))])
def test_a_window_without_a_limit_or_a_period_is_refused(limit, period):
    with pytest.raises(ValueError, match="positive"):
        SlidingWindow(limit, period)


def test_it_says_how_full_it_is():
    window = SlidingWindow(10)
    window.take(0.0, 3)
    assert repr(window) == "<SlidingWindow 3/10 in 60 s>"
