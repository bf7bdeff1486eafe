from __future__ import annotations

import math
from collections import Counter

import attrs
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from duckservice.core.waiting_line import PRIORITIES, WaitingLine

REACHED: Counter[str] = Counter()
CLASSES = st.sampled_from(PRIORITIES)


@attrs.define(eq=False)
class Someone:
    name: int
    priority: str
    entered: int


class LineMachine(RuleBasedStateMachine):
    """The model asks each one, at each pop, which class it has risen to by now."""

    @initialize(aging=st.integers(1, 30))
    def start(self, aging):
        self.aging = aging
        self.line: WaitingLine[int] = WaitingLine(aging=aging)
        self.now = 0
        self.names = 0
        self.waiting: list[Someone] = []
        self.passed = dict.fromkeys(PRIORITIES, 0)

    def standing(self, someone: Someone) -> tuple[int, int, int]:
        """Return the class it stands in now, since when, and its number."""
        rank = PRIORITIES.index(someone.priority)
        risen = min(rank, (self.now - someone.entered) // self.aging)
        return rank - risen, someone.entered + risen * self.aging, someone.name

    def expected(self) -> Someone:
        there = {s.priority for s in self.waiting}
        overdue = [p for p in PRIORITIES if p in there and self.passed[p] >= 17]
        if overdue:
            worst = max(overdue, key=lambda p: self.passed[p])
            its = [s for s in self.waiting if s.priority == worst]
            REACHED["share"] += 1
            return min(its, key=lambda s: s.name)
        best = min(self.waiting, key=self.standing)
        if any(s.priority == "high" != best.priority for s in self.waiting):
            REACHED["aged one goes before high"] += best.priority != "high"
        return best

    @rule(seconds=st.integers(0, 10))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(priority=CLASSES)
    def enter(self, priority):
        self.names += 1
        self.line.enter(self.now, priority, self.names)
        self.waiting.append(Someone(self.names, priority, self.now))

    @rule(number=st.integers(1, 5))
    def some_of_each(self, number):
        for priority in PRIORITIES * number:
            self.enter(priority)

    @precondition(lambda self: self.waiting)
    @rule(early=st.integers(0, 1))
    def wait_until_somebody_rises(self, early):
        someone = self.waiting[-1]
        rises = [someone.entered + n * self.aging - early for n in (1, 2)]
        self.now = max(self.now, min((t for t in rises if t >= self.now), default=0))

    @precondition(lambda self: self.waiting)
    @rule()
    def pop(self):
        expected = self.expected()
        assert self.line.next() == expected.name
        assert self.line.pop() == expected.name
        self.waiting.remove(expected)
        there = {s.priority for s in self.waiting}
        for p in PRIORITIES:
            self.passed[p] = (
                self.passed[p] + 1 if p in there - {expected.priority} else 0
            )
            assert self.passed[p] <= 19, "a class that waits gets one turn of 20"

    @rule(number=st.integers(20, 45))
    def a_stream_of_high_ones(self, number):
        for _ in range(number):
            self.enter("high")
            self.pop()

    @rule(data=st.data())
    def give_up(self, data):
        name = data.draw(st.integers(1, self.names + 1))
        there = [s for s in self.waiting if s.name == name]
        assert self.line.remove(name) == bool(there)
        self.waiting = [s for s in self.waiting if s.name != name]
        assert name not in self.line

    @rule()
    def nobody_waits_twice(self):
        for someone in self.waiting[:1]:
            with pytest.raises(ValueError, match="waits already"):
                self.line.enter(self.now, "high", someone.name)

    @invariant()
    def it_can_be_counted(self):
        depths = Counter(s.priority for s in self.waiting)
        assert self.line.depths() == {p: depths[p] for p in PRIORITIES}
        assert len(self.line) == len(self.waiting)
        assert self.line.oldest() == min(
            (s.entered for s in self.waiting), default=None
        )
        assert (self.line.next() is None) == (not self.waiting)


def test_the_next_one_is_who_stands_highest_longest_or_is_overdue():
    REACHED.clear()
    run_state_machine_as_test(
        LineMachine,
        settings=settings(max_examples=100, stateful_step_count=40, deadline=None),
    )
    assert REACHED["share"], REACHED
    assert REACHED["aged one goes before high"], REACHED


def saturated(line: WaitingLine[int], turns: int, *kinds: str) -> Counter[str]:
    """Keep 30 of each kind waiting, and count whose the turns are."""
    kind_of: dict[int, str] = {}
    got: Counter[str] = Counter()

    def fill(kind):
        kind_of[len(kind_of)] = kind
        line.enter(0.0, kind, len(kind_of) - 1)

    for kind in kinds * 30:
        fill(kind)
    for _ in range(turns):
        kind = kind_of[line.pop()]
        got[kind] += 1
        fill(kind)
    return got


def test_each_class_gets_a_twentieth_of_the_turns_however_many_high_ones_come():
    got = saturated(WaitingLine(aging=1e9), 2000, "high", "normal", "low")
    assert got["normal"] >= 100
    assert got["low"] >= 100
    assert got["high"] >= 1700


def test_a_low_one_never_starves_behind_a_stream_of_normal_ones():
    line: WaitingLine[int] = WaitingLine(aging=30)
    line.enter(0.0, "low", 0)
    for second in range(10, 41, 10):
        line.enter(second, "normal", second)
    assert [line.pop() for _ in range(4)] == [10, 20, 0, 30]


def test_a_crowd_of_aged_low_ones_does_not_shut_high_out():
    line: WaitingLine[int] = WaitingLine(aging=1)
    for number in range(100):
        line.enter(0.0, "low", number)
    line.enter(1000.0, "high", -1)
    assert -1 in [line.pop() for _ in range(20)]


def test_popping_from_nobody_is_an_error():
    with pytest.raises(IndexError):
        WaitingLine(aging=1).pop()


def test_a_small_crowd_goes_strictly_by_class_and_then_by_arrival():
    line: WaitingLine[str] = WaitingLine(aging=30)
    for who in ("l1", "n1", "h1", "l2", "n2", "h2"):
        line.enter(0.0, {"l": "low", "n": "normal", "h": "high"}[who[0]], who)
    assert [line.pop() for _ in range(6)] == ["h1", "h2", "n1", "n2", "l1", "l2"]


def of(*names: str) -> WaitingLine[str]:
    """Let them wait, each as `user.process:number`, all at the same time."""
    line: WaitingLine[str] = WaitingLine(aging=30)
    for name in names:
        uid, pid = name.split(":")[0].split(".")
        line.enter(0.0, "normal", name, submitter=(int(uid), int(pid)))
    return line


def test_who_has_a_thousand_waiting_delays_another_user_by_one_turn():
    line = of(*(f"1.1:{number}" for number in range(1000)))
    line.pop()
    line.enter(1.0, "normal", "2.9:0", submitter=(2, 9))
    assert [line.pop() for _ in range(3)] == ["1.1:1", "2.9:0", "1.1:2"]


def test_processes_of_one_user_take_turns_within_its_own():
    line = of("1.1:0", "1.1:1", "1.1:2", "1.2:0", "2.3:0", "2.3:1", "2.3:2")
    order = [line.pop() for _ in range(7)]
    assert order == ["1.1:0", "2.3:0", "1.2:0", "2.3:1", "1.1:1", "2.3:2", "1.1:2"]


def test_turns_hold_within_a_class_and_never_between_classes():
    line = of("1.1:0", "1.1:1", "2.1:0")
    line.enter(1.0, "high", "1.1:2", submitter=(1, 1))
    assert line.pop() == "1.1:2"
    assert [line.pop() for _ in range(3)] == ["1.1:0", "2.1:0", "1.1:1"]


def test_among_what_one_submitter_has_waiting_the_earliest_deadline_goes_first():
    line: WaitingLine[str] = WaitingLine(aging=30, patience=60.0)
    for who, at, deadline in (
        ("none", 0.0, math.inf),
        ("far", 1.0, 1000.0),
        ("close", 2.0, 20.0),
        ("closer", 3.0, 10.0),
    ):
        line.enter(at, "normal", who, deadline=deadline)
    assert [line.pop() for _ in range(4)] == ["closer", "close", "none", "far"]


def test_a_stream_of_close_deadlines_keeps_nobody_waiting_for_ever():
    line: WaitingLine[int] = WaitingLine(aging=1000, patience=60.0)
    line.enter(0.0, "normal", -1)
    for second in range(100):
        line.enter(second, "normal", second, deadline=second + 5.0)
        if line.pop() == -1:
            break
    # Who came and was due before it was went first, and nobody who came later.
    assert second == 55


def test_who_goes_before_its_time_leaves_the_turns_of_others_as_they_are():
    line = of("1.1:0", "1.1:1", "2.2:0")
    assert line.remove("1.1:1")
    assert not line.remove("1.1:1")
    assert [line.pop() for _ in range(2)] == ["1.1:0", "2.2:0"]


def test_about_how_many_go_first_can_be_told():
    line = of(*(f"1.1:{number}" for number in range(10)), "2.2:0")
    assert line.ahead(1.0, "high") == 0
    assert line.ahead(1.0, "normal", submitter=(1, 1)) == 11
    assert line.ahead(1.0, "normal", submitter=(3, 3)) == 2
    assert line.ahead(1.0, "normal", submitter=(1, 7)) == 2
    assert line.ahead(1.0, "normal", submitter=(1, 1), deadline=5.0) == 0
    assert line.ahead(1.0, "low") == 11
