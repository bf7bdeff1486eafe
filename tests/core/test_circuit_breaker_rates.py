"""The rates that open a breaker, and the window that they are taken over."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import attrs
import pytest
from hypothesis import example, given, strategies as st

from duckservice.config import BreakerConfig, parse
from duckservice.core.breaker_policy import BreakerPolicy
from duckservice.core.breaker_window import NOTHING, SLICES, Slice, Window
from duckservice.core.circuit_breaker import (
    BreakerState,
    Closed,
    HalfOpen,
    Open,
    Outcome,
    Permit,
    admit,
    phase_name,
    settle,
)

SUCCESS, FAILURE, NEITHER = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEITHER

RATED = BreakerPolicy(
    failure_threshold=1000,
    success_threshold=3,
    half_open_max=3,
    reset_timeout=10,
    probe_timeout=20,
    failure_rate=0.6,
    slow_call=5.0,
    slow_rate=0.5,
    window=60.0,
    min_requests=10,
)


def ended(
    state: BreakerState,
    *outcomes: Outcome,
    slow: bool = False,
    at: float = 0.0,
    policy: BreakerPolicy = RATED,
) -> BreakerState:
    for outcome in outcomes:
        state = settle(state, policy, at, Permit(state.era), outcome, slow=slow)
    return state


def test_six_failures_of_ten_are_a_rate_of_exactly_six_tenths() -> None:
    state = ended(Closed(), *[FAILURE] * 6, *[SUCCESS] * 3)
    assert phase_name(state) == "closed", "nine are too few for a rate"
    state = ended(state, SUCCESS)
    assert state == Open(1, until=10.0, why="failure rate 0.60")


def test_cancelled_requests_are_in_no_rate() -> None:
    state = ended(Closed(), *[FAILURE] * 6, *[NEITHER] * 100)
    assert phase_name(state) == "closed"


def test_a_failure_is_forgotten_when_it_is_as_old_as_the_window() -> None:
    state = ended(Closed(), *[FAILURE] * 9, at=0.0)
    assert isinstance(ended(state, FAILURE, at=59.9), Open)
    assert isinstance(ended(state, FAILURE, at=60.0), Closed)


def test_slow_successes_open_it_and_say_so() -> None:
    state = ended(Closed(), *[SUCCESS] * 5)
    state = ended(state, *[SUCCESS] * 5, slow=True)
    assert state == Open(1, until=10.0, why="slow calls: 5 of 10")


def test_a_slow_success_ends_a_row_of_failures() -> None:
    policy = attrs.evolve(RATED, failure_threshold=2)
    state = ended(Closed(), FAILURE, policy=policy)
    state = ended(state, SUCCESS, slow=True, policy=policy)
    assert isinstance(ended(state, FAILURE, policy=policy), Closed)


def test_what_is_slow_is_nobodys_business_where_the_policy_names_no_time() -> None:
    policy = attrs.evolve(RATED, slow_call=None)
    state = ended(Closed(), *[SUCCESS] * 100, slow=True, policy=policy)
    assert isinstance(state, Closed)


def test_without_rates_nothing_is_remembered_but_the_row() -> None:
    policy = BreakerPolicy(failure_threshold=5)
    state = ended(Closed(), FAILURE, SUCCESS, FAILURE, slow=True, policy=policy)
    assert state == Closed(0, failures=1)


def probes(*slow: bool) -> BreakerState:
    state: BreakerState = Open(7, until=0.0)
    sent = []
    for _ in slow:
        state, permit = admit(state, RATED, 0.0)
        assert permit is not None
        sent.append(permit)
    for permit, its in zip(sent, slow, strict=True):
        state = settle(state, RATED, 1.0, permit, SUCCESS, slow=its)
    return state


def test_probes_close_it_unless_too_many_of_them_were_slow() -> None:
    assert probes(True, False, False) == Closed(8)
    assert probes(True, False, True) == Open(8, 11.0, "slow calls: 2 of 3 probes")


def test_one_slow_probe_decides_nothing_before_enough_have_succeeded() -> None:
    state = probes(True, True)
    assert isinstance(state, HalfOpen)
    assert state.slow == 2


def test_a_recovered_breaker_begins_with_an_empty_window() -> None:
    state = probes(False, False, False)
    assert isinstance(ended(state, *[FAILURE] * 9, at=1.0), Closed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failure_rate", 0.0),
        ("failure_rate", 1.1),
        ("slow_rate", 0.0),
        ("slow_call", 0.0),
        ("window", 0.0),
        ("min_requests", 0),
    ],
)
def test_a_rate_that_could_never_be_reached_or_always_is_refused(field, value) -> None:
    with pytest.raises(ValueError, match=field):
        BreakerPolicy(**{field: value})


@given(
    length=st.sampled_from([15, 60, 120, 3600]),  # a slice is a whole number of 1/4 s
    steps=st.lists(
        st.tuples(st.integers(0, 200), st.booleans(), st.booleans()), max_size=200
    ),
)
@example(length=60, steps=[(0, True, True), (59, False, False), (1, False, False)])
def test_the_window_has_what_ended_in_its_slices_and_nothing_else(
    length, steps
) -> None:
    now, window, seen = Fraction(0), NOTHING, []
    slice_ = Fraction(length, SLICES)
    for wait, failed, slow in steps:
        now += wait * slice_ / 2  # halves, so that some fall into the same slice
        window = window.add(float(now), length, failed=failed, slow=slow)
        seen.append((now, failed, slow))
        oldest = now // slice_ - SLICES + 1
        kept = [its for its in seen if its[0] // slice_ >= oldest]
        assert window.requests == len(kept)
        assert window.failures == sum(failed for _, failed, _ in kept)
        assert window.slow == sum(slow for _, _, slow in kept)
        assert len(window.slices) <= SLICES


def test_a_window_that_nobody_adds_to_empties() -> None:
    window = NOTHING.add(0.0, 60.0, failed=True, slow=False)
    assert window.at(59.9, 60.0) is window
    assert window.at(60.0, 60.0) == NOTHING
    assert (NOTHING.failure_rate, NOTHING.slow_rate) == (0.0, 0.0)


def test_a_clock_that_stands_or_steps_back_loses_nothing() -> None:
    window = Window((Slice(100, 1, 1, 0),), 1, 1, 0)
    window = window.add(99.0, 60.0, failed=True, slow=True)
    assert window == Window((Slice(100, 2, 2, 1),), 2, 2, 1)


def test_the_document_shows_every_key_and_what_it_is_without_it() -> None:
    text = (Path(__file__).parents[2] / "docs" / "breaker.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    environ = {"OPENAI_API_KEY": "sk-of-nobody"}
    shown = parse(block, file="breaker.md", environ=environ).providers["openai"].breaker
    assert shown == BreakerConfig(failure_rate=0.5, slow_call=20.0)
    for key in attrs.fields_dict(BreakerConfig):
        assert re.search(rf"^{key} = ", block, re.MULTILINE), key
