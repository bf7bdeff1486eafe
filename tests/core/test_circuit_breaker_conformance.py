"""The breaker keeps its promises in random programs; broken ones are found out.

`python -m tests.core.breaker_conformance --programs 20000` searches for longer.
"""

from __future__ import annotations

import os

import pytest

from .breaker_conformance import SOMETIMES, SUBJECTS, Broken, run
from .breaker_mutants import MUTANTS, applied

PROGRAMS = int(os.environ.get("BREAKER_PROGRAMS", "120"))
#: Within so many programs each mistake must be found; most need fewer than ten.
TO_FIND_A_MISTAKE = 200

ONLY_AMONG_MODELS = {"closed: forgotten", "a model without a place"}


@pytest.mark.parametrize("kind", SUBJECTS)
def test_no_program_breaks_a_promise_and_every_state_is_reached(kind) -> None:
    reached = run(kind, range(PROGRAMS))
    expected = set(SOMETIMES) - (ONLY_AMONG_MODELS if kind == "pure" else set())
    assert not {what for what in expected if reached[what] < 2}, reached


@pytest.mark.slow
@pytest.mark.parametrize("kind", SUBJECTS)
def test_no_program_of_many_breaks_a_promise(kind) -> None:
    reached = run(kind, range(100_000, 101_000))
    expected = set(SOMETIMES) - (ONLY_AMONG_MODELS if kind == "pure" else set())
    assert not {what for what in expected if reached[what] < 15}, reached


@pytest.mark.parametrize(
    ("kind", "mutant"),
    [(kind, mutant) for kind, mutants in MUTANTS.items() for mutant in mutants],
    ids=lambda its: its if isinstance(its, str) else its.__name__,
)
def test_a_breaker_that_breaks_a_promise_is_found_out(kind, mutant) -> None:
    with applied(mutant), pytest.raises(Broken):
        run(kind, range(TO_FIND_A_MISTAKE))
