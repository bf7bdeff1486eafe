"""Fault plans as a Hypothesis strategy: shrinks to the fewest, earliest, simplest faults.

@given(fault_plans(spec), schedules())
def test_no_answer_is_lost(plan, schedule):
    simulate(program, schedule=schedule, faults=Injector(plan))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from supervisors._dynamic import DynamicSupervisor
from supervisors._spec import SupervisorSpec
from supervisors._supervisor import Supervisor
from supervisors.testing._choices import (
    DEFAULT_KINDS,
    Choice,
    Counts,
    FaultKind,
    choices,
)
from supervisors.testing._faults import FaultPlan

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

#: How far a drawn number goes in a child of which nothing is known.
FAR = Counts(checkpoints=8, messages=8, casts=8, starts=3, ends=3)


def fault_plans(
    tree: SupervisorSpec | Iterable[str],
    *,
    max_faults: int = 3,
    kinds: Sequence[FaultKind] = DEFAULT_KINDS,
) -> SearchStrategy[FaultPlan]:
    """Draw plans of at most *max_faults* faults for the children of *tree*.

    A tree is a spec, or paths and patterns of children. All children of a
    dynamic supervisor are one pattern. Shrinks to no faults, then to simple
    kinds and to children that come first, then to small numbers.

    Raises:
        ImportError: Hypothesis is not installed.
        ValueError: there are no children or kinds to draw from.
    """
    if isinstance(tree, SupervisorSpec):
        counts = dict(_children_of(tree))
    else:
        counts = dict.fromkeys(tree, FAR)
    return plans_within(counts, max_faults=max_faults, kinds=kinds)


def plans_within(
    counts: Mapping[str, Counts],
    *,
    max_faults: int = 3,
    kinds: Sequence[FaultKind] = DEFAULT_KINDS,
) -> SearchStrategy[FaultPlan]:
    """Draw plans for children of which is known what they do without faults."""
    from hypothesis import strategies as st  # noqa: PLC0415 - an optional dependency

    possible = [
        found
        for kind in kinds
        if (
            found := [
                choice
                for path, count in counts.items()
                for choice in choices(kind, path, _one_restart_more(count))
            ]
        )
    ]
    if not possible:
        msg = "fault_plans() needs at least one child and one kind of fault"
        raise ValueError(msg)
    choice: SearchStrategy[Choice] = st.sampled_from(possible).flatmap(st.sampled_from)
    fault = choice.flatmap(lambda at: st.integers(1, at.last).map(at.make))
    return st.lists(fault, max_size=max_faults).map(tuple)


def _one_restart_more(counts: Counts) -> Counts:
    return attrs.evolve(counts, starts=counts.starts + 1, ends=counts.ends + 1)


def _children_of(spec: SupervisorSpec, above: str = "") -> Iterator[tuple[str, Counts]]:
    """Return the paths of all children, a pattern for those of a dynamic supervisor."""
    for child in spec.children:
        path = f"{above}{child.id}"
        yield path, attrs.evolve(FAR, is_supervisor=child.subtree is not None)
        if isinstance(child.subtree, Supervisor):
            yield from _children_of(child.subtree.spec, f"{path}/")
        elif isinstance(child.subtree, DynamicSupervisor):
            yield f"{path}/*", FAR
