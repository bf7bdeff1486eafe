"""The tests of the limiter find the mistakes that limiters make."""

from __future__ import annotations

import pytest

from tests.core.limiter_conformance import Broken, Program
from tests.core.limiter_mutants import MUTANTS, Mutant
from tests.core.limiter_upstream import Run


def survives_programs(most: int) -> bool:
    for seed in range(most):
        try:
            Program(seed).run()
        except (AssertionError, KeyError, StopIteration):
            return False
    return True


def survives_upstreams(most: int) -> bool:
    for seed in range(most):
        for fills in (False, True):
            run = Run(seed, 20, fills=fills, seconds=240.0, configured=15)
            served = run.run().served
            if any(sum(t <= u < t + 60 for u in served) > 15 for t in served):
                return False
            run = Run(seed, 20, fills=fills, seconds=240.0)
            if run.run().refused:
                return False
            run = Run(seed, 30, fills, seconds=240.0, others={"b": 0}, shared=True)
            if run.run().refused:
                return False
    return True


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_find_a_limiter_whose_mistake_is(mutant: Mutant) -> None:
    with mutant.in_force():
        if mutant.found_by == "programs":
            assert not survives_programs(60)
        else:
            assert not survives_upstreams(6)


def test_they_find_nothing_in_ours() -> None:
    assert survives_programs(20)
    assert survives_upstreams(2)
    with pytest.raises(Broken):
        raise Broken
