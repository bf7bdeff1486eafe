"""Drawn fault plans name the tree's children, keep their bounds, and shrink."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import find, given, settings, strategies as st

from supervisors import (
    ActorRef,
    DynamicSupervisor,
    SupervisorSpec,
    actor,
    dynamic_supervisor,
    supervisor,
)
from supervisors.testing import (
    ALL_KINDS,
    DEFAULT_KINDS,
    Cancel,
    Checkpoint,
    Counts,
    Crash,
    Delay,
    DuplicateCast,
    FailInit,
    FaultPlan,
    Handled,
    HangCleanup,
    HangInit,
    Message,
    Stall,
    fault_plans,
)
from supervisors.testing._strategies import plans_within
from tests.supervisors.children import Worker, idle

TREE = SupervisorSpec(
    children=[
        idle("a"),
        supervisor(
            "sub", SupervisorSpec(children=[actor(ActorRef[Worker]("b"), Worker)])
        ),
        dynamic_supervisor(DynamicSupervisor("jobs")),
    ]
)


def smallest(
    plans: st.SearchStrategy[FaultPlan], that: Callable[[FaultPlan], object]
) -> FaultPlan:
    few = settings(database=None, max_examples=2000)
    return find(plans, lambda plan: bool(that(plan)), settings=few)


PATHS = ["a", "sub", "sub/b", "jobs", "jobs/*"]


@pytest.mark.parametrize("path", PATHS)
def test_every_child_is_drawn(path: str) -> None:
    (fault,) = smallest(
        fault_plans(TREE), lambda plan: any(each.child == path for each in plan)
    )
    assert fault.child == path


@given(fault_plans(TREE, kinds=[Stall, HangInit, HangCleanup]))
def test_a_supervisor_is_not_made_to_hang(plan: FaultPlan) -> None:
    assert not {fault.child for fault in plan} & {"sub", "jobs"}


@given(fault_plans(TREE, max_faults=2, kinds=ALL_KINDS))
def test_plans_keep_to_the_tree_and_to_their_size(plan: FaultPlan) -> None:
    assert len(plan) <= 2
    assert {fault.child for fault in plan} <= set(PATHS)


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_drawn(kind: type) -> None:
    plans = fault_plans(TREE, kinds=ALL_KINDS)
    (fault,) = smallest(plans, lambda plan: any(type(each) is kind for each in plan))
    assert type(fault) is kind
    assert fault.child == "a"


@given(fault_plans(["a"]))
def test_what_few_programs_promise_to_bear_is_not_drawn_unasked(
    plan: FaultPlan,
) -> None:
    assert {type(fault) for fault in plan} <= set(DEFAULT_KINDS)


def test_plans_shrink_to_none() -> None:
    assert smallest(fault_plans(TREE), lambda plan: True) == ()


def test_plans_shrink_to_the_fewest_simplest_and_earliest_faults() -> None:
    plans = fault_plans(TREE)
    assert smallest(plans, len) == (Crash("a", at=Message(1)),)
    late = smallest(
        plans,
        lambda plan: any(
            isinstance(each, Crash | Cancel)
            and isinstance(each.at, Checkpoint)
            and each.at.n >= 3
            for each in plan
        ),
    )
    assert late == (Crash("a", at=Checkpoint(3)),)
    two = smallest(plans, lambda plan: len({type(each) for each in plan}) == 2)
    assert {type(each) for each in two} == {Crash, Delay}


@given(plans_within({"a": Counts(messages=2, starts=1)}, kinds=ALL_KINDS))
def test_nothing_is_drawn_that_a_child_does_not_do(plan: FaultPlan) -> None:
    for fault in plan:
        assert not isinstance(fault, DuplicateCast)
        if isinstance(fault, Crash | Delay):
            assert isinstance(fault.at, Message | Handled)
            assert fault.at.n <= 2
        if isinstance(fault, FailInit):
            assert fault.n <= 2


def test_the_start_after_a_crash_is_drawn_though_it_was_not_seen() -> None:
    plans = plans_within({"a": Counts(messages=1, starts=1)}, kinds=[Crash, FailInit])
    assert set(smallest(plans, lambda plan: FailInit("a", n=2) in plan)) == {
        FailInit("a", n=2)
    }


def test_a_tree_without_children_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one child"):
        fault_plans([])
