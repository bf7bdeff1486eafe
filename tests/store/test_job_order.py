"""The order of jobs as a value: against the waiting line of requests, and by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from duckservice.core.job_order import (
    REMEMBERED_MAX,
    Blocked,
    Head,
    Lane,
    Turns,
    lane_of,
    level,
    on_top,
)
from duckservice.core.waiting_line import PRIORITIES, WaitingLine

from .conformance import Jobs

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from(PRIORITIES), st.integers(1, 30)),
        st.tuples(st.just("wait"), st.just(""), st.integers(0, 40)),
        st.tuples(st.just("pop"), st.just(""), st.integers(1, 30)),
    ),
    max_size=40,
)


@given(aging=st.integers(1, 30), steps=STEPS)
def test_one_lane_has_the_order_of_a_waiting_line(aging, steps):
    """Jobs and requests are promised the same; each has an implementation."""
    now, number = 0, 0
    line: WaitingLine[str] = WaitingLine(aging=aging)
    waiting = dict[str, Head]()
    turns = Turns(aging=aging)
    for step, priority, amount in steps:
        for _ in range(amount if step != "wait" else 0):
            if step == "enter":
                number += 1
                id_ = f"{number:06}"
                line.enter(now, priority, id_)
                waiting[id_] = Head(
                    lane=Lane(model="m"), priority=priority, queued_at=now, id=id_
                )
            elif waiting:
                heads = [
                    min(its, key=lambda h: (h.queued_at, h.id))
                    for priority in PRIORITIES
                    if (its := [h for h in waiting.values() if h.priority == priority])
                ]
                chosen = turns.pick(heads, now)
                assert chosen is not None
                assert chosen.id == line.pop()
                del waiting[chosen.id]
        now += amount if step == "wait" else 0


@given(
    priority=st.sampled_from(PRIORITIES),
    queued_at=st.floats(0, 2e9),
    aging=st.floats(0.001, 1e6),
    wait=st.floats(0, 1e7),
)
def test_a_job_only_ever_rises_and_is_on_top_when_it_was_said(
    priority, queued_at, aging, wait
):
    now = queued_at + wait
    levels = [level(priority, queued_at, aging, queued_at + t) for t in (0, wait / 2)]
    levels.append(level(priority, queued_at, aging, now))
    levels.append(level(priority, queued_at, aging, on_top(priority, queued_at, aging)))
    assert levels[:3] == sorted(levels[:3], reverse=True)
    assert levels[-1] == 0
    assert all(0 <= its <= PRIORITIES.index(priority) for its in levels)


def test_nobody_s_turn_it_is_where_nobody_waits():
    assert Turns(aging=1).pick([], 0) is None


def test_a_lane_is_what_need_not_be_told_apart():
    jobs = Jobs()
    one = jobs.make(uid=1, model="a", tags={"x": "1", "a": "2"}, priority="low").job
    other = jobs.make(uid=1, model="a", tags={"a": "2", "x": "1"}, kind="image").job
    assert lane_of(one) == lane_of(other)
    assert lane_of(one).tags == (("a", "2"), ("x", "1"))
    mixed = lane_of(one, mixed=True)
    assert mixed == lane_of(jobs.make(uid=1, model="a").job, mixed=True)
    assert mixed != lane_of(jobs.make(uid=1, model="a").job), "it has tags, unlike that"


@pytest.mark.parametrize(
    ("blocked", "holds"),
    [
        (Blocked(), False),
        (Blocked(models=frozenset({"a"})), True),
        (Blocked(models=frozenset({"b"})), False),
        (Blocked(tags=frozenset({("t", "x")})), True),
        (Blocked(tags=frozenset({("t", "y"), ("x", "t")})), False),
        (Blocked(only_models=frozenset({"a"})), False),
        (Blocked(only_models=frozenset({"b"})), True),
        (Blocked(only_models=frozenset()), True),
        (Blocked(only_models=frozenset({"a"}), models=frozenset({"a"})), True),
    ],
)
def test_a_lane_is_blocked_by_its_model_or_any_of_its_tags(blocked, holds):
    assert blocked.holds(Lane(model="a", tags=(("t", "x"), ("u", "z")))) == holds


def test_only_so_many_turns_are_remembered_and_the_oldest_are_forgotten():
    turns = Turns(aging=1)
    heads = [
        Head(lane=Lane(model=str(n), submitter=n), priority="high", queued_at=0, id="")
        for n in range(REMEMBERED_MAX + 1)
    ]
    for head in heads:
        turns.pick([head], 0)
    assert repr(turns) == f"<Turns aging=1, {REMEMBERED_MAX} lanes>"
    assert turns.pick([heads[-1], heads[0]], 0) == heads[0]
    assert turns.pick([heads[-1], heads[5]], 0) == heads[5]
