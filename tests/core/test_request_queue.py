from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from duckservice.core.request_queue import Full, RequestQueue, Turn, Waiting
from duckservice.core.waiting_line import PRIORITIES

REACHED: Counter[str] = Counter()
LANES = st.sampled_from(["a", "b"])
CLASSES = st.sampled_from(PRIORITIES)
AGING = 10


class QueueMachine(RuleBasedStateMachine):
    """The model keeps who waits where since when, and who has which turn."""

    turns = Bundle("turns")

    @initialize(
        a=st.integers(1, 3), b=st.integers(1, 3), max_size=st.sampled_from([0, 4, 50])
    )
    def start(self, a, b, max_size):
        self.places = {"a": a, "b": b}
        self.max_size = max_size
        self.ids = count(1)
        self.queue: RequestQueue[int] = self.new_queue({})
        self.now = 0
        self.names = 0
        self.paused = False
        self.waiting: dict[int, tuple[str, str, int]] = {}
        self.running: set[Turn] = set()
        self.ever: set[Turn] = set()
        self.passed: Counter[tuple[str, str]] = Counter()

    def new_queue(self, running) -> RequestQueue[int]:
        return RequestQueue(
            self.places,
            max_size=self.max_size,
            aging=AGING,
            running=running,
            turn_ids=self.ids,
        )

    def free(self, lane: str) -> int:
        return self.places[lane] - sum(t.lane == lane for t in self.running)

    def line(self, lane: str) -> list[int]:
        return [name for name, (its, _, _) in self.waiting.items() if its == lane]

    def got(self, turn: Turn) -> Turn:
        assert turn not in self.ever, "a turn was given twice"
        assert self.free(turn.lane) > 0, "more turns than places"
        self.ever.add(turn)
        self.running.add(turn)
        return turn

    def standing(self, name: int) -> tuple[int, int, int]:
        _, priority, entered = self.waiting[name]
        rank = PRIORITIES.index(priority)
        risen = min(rank, (self.now - entered) // AGING)
        return rank - risen, entered + risen * AGING, name

    def check(self, lane: str, admitted: list[tuple[int, Turn]]) -> list[Turn]:
        expected = (
            0 if self.paused else min(max(0, self.free(lane)), len(self.line(lane)))
        )
        assert len(admitted) == expected, "somebody waits though there is a turn"
        for name, turn in admitted:
            assert turn.lane == lane
            its_class = self.waiting[name][1]
            if not any(self.passed[lane, p] >= 17 for p in PRIORITIES):
                assert name == min(self.line(lane), key=self.standing)
            del self.waiting[name]
            there = {self.waiting[n][1] for n in self.line(lane)}
            for p in PRIORITIES:
                over = p in there and p != its_class
                self.passed[lane, p] = self.passed[lane, p] + 1 if over else 0
                assert self.passed[lane, p] <= 19
            self.got(turn)
        return [turn for _, turn in admitted]

    @rule(seconds=st.integers(0, 12))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(target=turns, lane=LANES, priority=CLASSES)
    def enter(self, lane, priority):
        self.names += 1
        answer = self.queue.enter(self.now, lane, priority, self.names)
        if not self.paused and self.free(lane) > 0 and not self.line(lane):
            assert isinstance(answer, Turn)
            assert answer.lane == lane
            return self.got(answer)
        if len(self.waiting) >= self.max_size:
            REACHED["full"] += 1
            assert answer == Full(self.max_size)
        else:
            assert answer == Waiting()
            self.waiting[self.names] = (lane, priority, self.now)
        return multiple()

    @rule(target=turns, lane=LANES, crowd=st.lists(CLASSES, min_size=2, max_size=12))
    def a_crowd_enters(self, lane, crowd):
        got = [self.enter(lane, priority) for priority in crowd]
        return multiple(*[turn for turn in got if isinstance(turn, Turn)])

    @rule(target=turns, turn=turns)
    def leave(self, turn):
        if turn not in self.running:
            REACHED["left twice"] += 1
            assert self.queue.leave(turn) == []
            return multiple()
        self.running.discard(turn)
        return multiple(*self.check(turn.lane, self.queue.leave(turn)))

    @rule(target=turns, lane=LANES, priority=CLASSES, number=st.integers(20, 40))
    def a_saturated_lane(self, lane, priority, number):
        for _ in range(number):
            self.enter(lane, priority)
            for turn in [t for t in self.running if t.lane == lane][:1]:
                self.leave(turn)
        return multiple(*self.running)

    @rule(lane=st.sampled_from(["a", "nowhere"]), number=st.integers(-5, 0))
    def a_turn_that_nobody_was_given_is_left(self, lane, number):
        assert self.queue.leave(Turn(lane, number)) == []

    @rule(data=st.data())
    def give_up(self, data):
        name = data.draw(st.integers(1, self.names + 1))
        assert self.queue.remove(name) == (name in self.waiting)
        self.waiting.pop(name, None)

    @rule()
    def pause(self):
        self.queue.pause()
        self.paused = True
        REACHED["paused"] += bool(self.waiting)

    @rule(target=turns)
    def resume(self):
        self.paused = False
        admitted = self.queue.resume()
        return multiple(
            *(
                turn
                for lane in self.places
                for turn in self.check(lane, [a for a in admitted if a[1].lane == lane])
            )
        )

    @rule(fewer=st.booleans())
    def the_actor_is_restarted(self, fewer):
        """Those who waited were told by the actor's death; those who run go on."""
        if fewer:
            self.places = {lane: max(1, n - 1) for lane, n in self.places.items()}
        REACHED["restarted with turns out"] += bool(self.running)
        self.waiting.clear()
        self.passed.clear()
        self.paused = False
        self.queue = self.new_queue(
            {
                lane: [t.id for t in self.running if t.lane == lane]
                for lane in self.places
            }
        )

    @invariant()
    def it_is_never_stuck(self):
        if self.paused:
            return
        for lane in self.places:
            assert self.free(lane) <= 0 or not self.line(lane)

    @invariant()
    def its_statistics_are_true(self):
        seen = self.queue.statistics(self.now)
        entered = [at for _, _, at in self.waiting.values()]
        assert seen.waiting == len(self.waiting) <= max(self.max_size, 0)
        by_class = Counter(p for _, p, _ in self.waiting.values())
        assert seen.waiting_by_priority == {p: by_class[p] for p in PRIORITIES}
        assert seen.waiting_by_lane == {x: len(self.line(x)) for x in self.places}
        running = Counter(t.lane for t in self.running)
        assert seen.running_by_lane == {x: running[x] for x in self.places}
        assert seen.oldest_wait == self.now - min(entered, default=self.now)
        assert (seen.paused, seen.max_size) == (self.paused, self.max_size)


def test_no_order_of_events_loses_a_turn_or_gives_one_too_many():
    REACHED.clear()
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(max_examples=100, stateful_step_count=40, deadline=None),
    )
    for event in ("full", "left twice", "paused", "restarted with turns out"):
        assert REACHED[event], REACHED


def test_a_slow_provider_delays_nobody_else():
    queue: RequestQueue[object] = RequestQueue({"slow": 1, "quick": 1})
    queue.enter(0.0, "slow", "high", "first")
    for number in range(100):
        assert queue.enter(0.0, "slow", "high", number) == Waiting()
    turn = queue.enter(0.0, "quick", "low", "other")
    assert isinstance(turn, Turn)
    assert queue.enter(0.0, "quick", "low", "another") == Waiting()
    assert [who for who, _ in queue.leave(turn)] == ["another"]


def test_full_counts_only_those_who_wait_and_over_all_lanes():
    queue: RequestQueue[int] = RequestQueue({"a": 1, "b": 1}, max_size=1)
    assert isinstance(queue.enter(0.0, "a", "low", 1), Turn)
    assert queue.enter(0.0, "a", "low", 2) == Waiting()
    assert isinstance(queue.enter(0.0, "b", "low", 3), Turn)
    assert queue.enter(0.0, "b", "high", 4) == Full(1)


def test_who_gave_up_is_passed_over_and_leaves_nothing_behind():
    queue: RequestQueue[int] = RequestQueue({"a": 1})
    turn = queue.enter(0.0, "a", "low", 0)
    assert isinstance(turn, Turn)
    for number in range(1, 1000):
        queue.enter(0.0, "a", "low", number)
        if number != 500:
            assert queue.remove(number)
    assert queue.statistics(0.0).waiting == 1
    assert [who for who, _ in queue.leave(turn)] == [500]


def test_a_restarted_queue_knows_who_runs():
    queue: RequestQueue[int] = RequestQueue({"a": 2}, running={"a": [7, 9]})
    assert queue.enter(0.0, "a", "high", 1) == Waiting()
    [(who, turn)] = queue.leave(Turn("a", 7))
    assert who == 1
    assert turn.id == 10


def test_a_paused_queue_gives_no_turn_until_it_is_resumed():
    queue: RequestQueue[int] = RequestQueue({"a": 2})
    queue.pause()
    assert [queue.enter(0.0, "a", "low", n) for n in range(3)] == [Waiting()] * 3
    assert [who for who, _ in queue.resume()] == [0, 1]


def test_nobody_waits_twice_and_nowhere():
    queue: RequestQueue[int] = RequestQueue({"a": 1})
    queue.enter(0.0, "a", "low", 1)
    queue.enter(0.0, "a", "low", 2)
    with pytest.raises(ValueError, match="waits already"):
        queue.enter(0.0, "a", "low", 2)
    with pytest.raises(KeyError):
        queue.enter(0.0, "nowhere", "low", 3)


def test_it_says_how_full_it_is():
    queue: RequestQueue[int] = RequestQueue({"a": 1})
    queue.enter(0.0, "a", "low", 1)
    queue.enter(0.0, "a", "low", 2)
    assert repr(queue) == "<RequestQueue 1 running, 1 waiting>"
    queue.pause()
    assert repr(queue) == "<RequestQueue 1 running, 1 waiting, paused>"


def test_submitters_take_turns_and_the_earliest_deadline_of_each_goes_first():
    queue: RequestQueue[str] = RequestQueue({"a": 1})
    turn = queue.enter(0.0, "a", "normal", "first")
    for number in range(100):
        queue.enter(0.0, "a", "normal", f"many {number}", submitter=(1, 1))
    queue.enter(1.0, "a", "normal", "other", submitter=(2, 2))
    queue.enter(1.0, "a", "normal", "hurried", submitter=(1, 1), deadline=9.0)
    went = list[str]()
    for _ in range(4):
        assert isinstance(turn, Turn)
        ((who, turn),) = queue.leave(turn)
        went.append(who)
    assert went == ["hurried", "other", "many 0", "many 1"]


def test_who_waits_in_a_lane_that_goes_is_given_its_turn_all_the_same():
    queue = RequestQueue[str]({"a": 1, "b": 1})
    queue.pause()
    assert isinstance(queue.enter(0, "b", "normal", "x"), Waiting)
    assert queue.set_lanes({"a": 1}) == []
    [(waiter, turn)] = queue.resume()
    assert (waiter, turn.lane) == ("x", "b")
    queue.leave(turn)
    queue.set_lanes({"a": 1})
    with pytest.raises(KeyError):
        queue.enter(1, "b", "normal", "y")
    assert queue.leave(turn) == []


def test_nobody_waits_in_two_lanes_at_once():
    queue = RequestQueue[str]({"a": 0, "b": 0, "c": 1})
    assert isinstance(queue.enter(0, "a", "normal", "x"), Waiting)
    for lane in "abc":
        with pytest.raises(ValueError, match="waits already"):
            queue.enter(1, lane, "normal", "x")
    assert queue.statistics(1).waiting_by_lane == {"a": 1, "b": 0, "c": 0}


def test_who_yields_lets_those_who_come_later_go_first():
    queue = RequestQueue[str]({"a": 1})
    turn = queue.enter(0, "a", "normal", "first")
    assert isinstance(turn, Turn)
    queue.enter(1, "a", "normal", "job", yields=True)
    queue.enter(2, "a", "normal", "person")
    [(waiter, _)] = queue.leave(turn)
    assert waiter == "person"


def test_a_turn_is_never_given_twice_though_the_queue_is_made_anew():
    ids = count(1)
    queue = RequestQueue[str]({"a": 1}, turn_ids=ids)
    late = queue.enter(0, "a", "normal", "x")
    assert isinstance(late, Turn)
    anew = RequestQueue[str]({"a": 1}, turn_ids=ids)
    assert isinstance(anew.enter(0, "a", "normal", "y"), Turn)
    anew.enter(0, "a", "normal", "z")
    assert anew.leave(late) == []


def test_the_oldest_wait_is_that_of_all_lanes_together():
    queue = RequestQueue[str]({"a": 0, "b": 0})
    assert queue.statistics(9).oldest_wait == 0
    queue.enter(3, "a", "normal", "x")
    queue.enter(1, "b", "normal", "y")
    assert queue.statistics(9).oldest_wait == 8
    assert queue.statistics(0).oldest_wait == 0
    assert not queue.remove("nobody")
