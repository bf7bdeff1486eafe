"""Random programs over each engine, against the model."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import REACHED, StoreMachine


@pytest.mark.slow
def test_a_store_does_what_the_model_does_whatever_happens(engine):
    its = engine

    class Machine(StoreMachine):
        engine = its

    REACHED.clear()
    for _ in range(3):
        run_state_machine_as_test(
            Machine, settings=settings(stateful_step_count=30, deadline=None)
        )
        if min(REACHED[what] for what in INTERESTING):
            break
    assert min(REACHED[what] for what in INTERESTING) > 0, REACHED
    if engine.survives:
        assert REACHED["killed"]


#: What must have been reached for the run to say something.
INTERESTING = (
    "the same submission again",
    "a key for something else",
    "just due",
    "claims of several",
    "settled, was open",
    "settled, was lost",
    "finish, valid",
    "finish, stale",
    "crash, valid",
    "poisoned",
    "no attempt left",
    "pruned",
    "Cancel of executing",
    "Retry of discarded",
    "rescued at the start",
)
