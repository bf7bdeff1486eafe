from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import attrs
import pytest
from hypothesis import given, settings, strategies as st
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
SHARING = (*PRIORITIES, "yields")
KINDS = [(priority, yields) for priority in PRIORITIES for yields in (False, True)]


@attrs.define(eq=False)
class Someone:
    name: int
    priority: str
    yields: bool
    entered: float

    @property
    def kind(self) -> tuple[str, bool]:
        return self.priority, self.yields

    @property
    def shares(self) -> set[str]:
        return {self.priority, "yields"} if self.yields else {self.priority}


class LineMachine(RuleBasedStateMachine):
    """The model asks each one, at each pop, how far it has risen by now.

    There are six steps, two to a class, and a step takes half an aging.
    """

    @initialize(aging=st.integers(1, 30))
    def start(self, aging):
        self.step = aging / 2
        self.line: WaitingLine[int] = WaitingLine(aging=aging)
        self.now = 0.0
        self.names = 0
        self.waiting: list[Someone] = []
        self.passed = dict.fromkeys(SHARING, 0)

    def standing(self, someone: Someone) -> tuple[float, float, int]:
        """Return the step it stands on now, since when, and its number."""
        steps = 2 * PRIORITIES.index(someone.priority) + someone.yields
        risen = min(steps, (self.now - someone.entered) // self.step)
        return steps - risen, someone.entered + risen * self.step, someone.name

    def there(self) -> set[str]:
        return {share for s in self.waiting for share in s.shares}

    def expected(self) -> Someone:
        there = self.there()
        overdue = [its for its in SHARING if its in there and self.passed[its] >= 17]
        if overdue:
            worst = max(overdue, key=lambda its: self.passed[its])
            REACHED[f"share of {worst}"] += 1
            REACHED[f"{len(overdue)} are late"] += 1
            those = [s for s in self.waiting if worst in s.shares]
            return min(those, key=self.standing)
        best = min(self.waiting, key=self.standing)
        if any(s.priority == "high" != best.priority for s in self.waiting):
            REACHED["aged one goes before high"] += 1
        if best.yields and any(s.kind == (best.priority, False) for s in self.waiting):
            REACHED["aged one that yields goes first"] += 1
        return best

    def served(self, who: Someone) -> set[str]:
        """Return whose turn it is: those who yield have it if it is their first."""
        those = [s for s in self.waiting if s.yields]
        if those and min(those, key=self.standing).kind == who.kind:
            return {who.priority, "yields"}
        return {who.priority}

    @rule(seconds=st.integers(0, 10))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(priority=CLASSES, yields=st.booleans())
    def enter(self, priority, yields=False):
        self.names += 1
        self.line.enter(self.now, priority, self.names, yields=yields)
        self.waiting.append(Someone(self.names, priority, yields, self.now))

    @rule(number=st.integers(1, 5))
    def some_of_each(self, number):
        for priority, yields in KINDS * number:
            self.enter(priority, yields)

    @precondition(lambda self: self.waiting)
    @rule(early=st.integers(0, 1))
    def wait_until_somebody_rises(self, early):
        someone = self.waiting[-1]
        rises = [someone.entered + n * self.step - early for n in range(1, 6)]
        self.now = max(self.now, min((t for t in rises if t >= self.now), default=0))

    @precondition(lambda self: self.waiting)
    @rule()
    def pop(self):
        expected = self.expected()
        served = self.served(expected)
        assert self.line.next() == expected.name
        assert self.line.pop() == expected.name
        self.waiting.remove(expected)
        there = self.there()
        for its in SHARING:
            late = its in there and its not in served
            self.passed[its] = self.passed[its] + 1 if late else 0
            assert self.passed[its] <= 19, "who has a share gets one turn of 20"

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
    for share in ("normal", "low", "yields"):
        assert REACHED[f"share of {share}"], REACHED
    assert REACHED["3 are late"], REACHED
    assert REACHED["aged one goes before high"], REACHED
    assert REACHED["aged one that yields goes first"], REACHED


def saturated(turns: int, *kinds: str, aging: float = 1e9) -> list[str]:
    """Keep 30 of each kind waiting, a turn a second, and return whose the turns are.

    A job of some priority, "high job", is one that yields.
    """
    line: WaitingLine[int] = WaitingLine(aging=aging)
    kind_of: dict[int, str] = {}
    got: list[str] = []

    def fill(kind, now):
        kind_of[len(kind_of)] = kind
        priority, *job = kind.split()
        line.enter(now, priority, len(kind_of) - 1, yields=bool(job))

    for kind in kinds * 30:
        fill(kind, 0.0)
    for now in range(turns):
        got.append(kind_of[line.pop()])
        fill(got[-1], now)
    return got


def longest_wait(got: list[str], share: str) -> int:
    """Return the most turns in a row that were not one of *share*."""
    waits = [0]
    for kind in got:
        waits.append(0 if share in kind else waits[-1] + 1)
    return max(waits)


def test_each_class_gets_a_twentieth_of_the_turns_however_many_high_ones_come():
    got = Counter(saturated(2000, "high", "normal", "low"))
    assert got["normal"] >= 100
    assert got["low"] >= 100
    assert got["high"] >= 1700


def test_jobs_get_a_twentieth_of_the_turns_however_many_requests_of_theirs_come():
    for priority in PRIORITIES:
        got = Counter(saturated(2000, priority, f"{priority} job"))
        assert 100 <= got[f"{priority} job"] <= 120


def test_jobs_of_each_priority_get_a_twentieth_however_many_high_requests_come():
    jobs = [f"{priority} job" for priority in PRIORITIES]
    got = Counter(saturated(2000, "high", *jobs))
    assert all(got[job] >= 100 for job in jobs)
    assert got["high"] >= 1600


def test_the_last_of_those_that_are_late_goes_in_the_twentieth_turn():
    got = saturated(400, "high", "normal", "low", "high job")
    assert got[:20] == ["high"] * 17 + ["normal", "low", "high job"]
    assert longest_wait(got, "job") == 19


EACH_KIND = [f"{priority}{job}" for priority in PRIORITIES for job in ("", " job")]


@pytest.mark.parametrize("number", range(2, 7))
def test_whoever_saturates_it_each_that_has_a_share_gets_one_of_any_twenty(number):
    for kinds in combinations(EACH_KIND, number):
        for aging in (7.0, 1e9):
            got = saturated(250, *kinds, aging=aging)
            for share in (*PRIORITIES, "job"):
                if any(share in kind for kind in kinds):
                    assert longest_wait(got, share) <= 19, (kinds, aging, share)


def test_ageing_lets_each_kind_have_turns_when_all_saturate_it():
    got = Counter(saturated(6000, *EACH_KIND, aging=30.0))
    assert all(got[kind] >= 300 for kind in EACH_KIND), got


@settings(max_examples=100, deadline=None)
@given(
    aging=st.sampled_from([1.0, 30.0, 1e9]),
    steps=st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 40)), max_size=4),
            st.integers(0, 2),
            st.integers(0, 40),
        ),
        min_size=3,
        max_size=12,
    ),
)
def test_while_anybody_of_a_share_waits_it_is_passed_over_19_times_at_most(
    aging, steps
):
    """Whoever comes, and however the clock goes; here nothing of the order is known."""
    line: WaitingLine[int] = WaitingLine(aging=aging)
    waiting: dict[int, set[str]] = {}
    passed = dict.fromkeys(SHARING, 0)
    names, now = 0, 0.0
    for crowds, seconds, pops in steps:
        now += seconds * 20
        for (priority, yields), number in crowds:
            for _ in range(number):
                names += 1
                line.enter(now, priority, names, yields=yields)
                waiting[names] = {priority, "yields"} if yields else {priority}
        for _ in range(min(pops, len(waiting))):
            got = waiting.pop(line.pop())
            there = {share for its in waiting.values() for share in its}
            for share in SHARING:
                late = share in there and share not in got
                passed[share] = passed[share] + 1 if late else 0
                assert passed[share] <= 19, share


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
