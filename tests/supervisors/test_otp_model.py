"""The library and a model of OTP's supervisor, side by side on drawn scenarios."""

# pyright: basic
# Scenarios and traces are JSON: their types are Any, and stay unknown inside.

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings

from tests.otp import model
from tests.otp.compare import first_difference
from tests.otp.generate import STEPS_MAX, scenarios, written
from tests.otp.grammar import unknown
from tests.otp.judge import difference
from tests.otp.normalise import normalise
from tests.otp_conformance import scenarios as recorded

VECTORS = Path(__file__).parent.parent / "otp" / "vectors-open.json.gz"
GOES_TO = """
    one_for_one one_for_all rest_for_one simple_one_for_one permanent transient
    temporary any_significant all_significant significant infinity brutal_kill
    clean slow normal crash hang gate during batch sleep stop multiset
    start start_ignore start_error sup_init exit killed raised in_shutdown
    child_terminated shutdown_error reached_max_restart_intensity
    running restarting undefined failed_to_start_child not_found already_started
    already_present not_running noproc no_gate not_blocked down bad_spec bad_flags
    bad_combination bad_start_spec duplicate_child_name invalid_restart_type
    invalid_shutdown invalid_child_type invalid_intensity invalid_period
    invalid_auto_shutdown invalid_strategy get_childspec delete_child
"""
BATCHES = 2
CRASH = ["crash", "x"]


def ends(child: str, reason: Any = CRASH) -> Any:
    return {"op": "exit", "child": child, "reason": reason}


def at_once(*items: Any) -> Any:
    return {"op": "batch", "sup": "", "items": [*items]}


ENDED_BEFORE_ITS_KILL = {
    "sup": {
        "strategy": "one_for_all",
        "children": [{"id": "a"}, {"id": "b", "shutdown": "brutal_kill"}],
    },
    "steps": [at_once(ends("a"), ends("b", "shutdown"))],
}
"""Under ``brutal_kill`` any end but that is unexpected, ``shutdown`` as well."""

ALIVE_WHILE_RESTARTING = {
    "sup": {
        "intensity": 3,
        "auto_shutdown": "all_significant",
        "children": [
            {
                "id": "a",
                "restart": "transient",
                "significant": True,
                "init": ["ok", {"fail": CRASH}, "ok"],
            },
            {"id": "b", "restart": "transient", "significant": True},
        ],
    },
    "steps": [at_once(ends("a"), ends("b", "normal"))],
}
"""The last significant child has not ended while another is to come back."""

NORMAL_IN_TWO_WAYS = {
    "sup": {
        "strategy": "simple_one_for_one",
        "intensity": 0,
        "children": [{"id": "t", "on_shutdown": "normal"}],
    },
    "steps": [
        *[
            {"op": "start_child", "sup": "", "args": {"label": label}}
            for label in ("a", "b", "c")
        ],
        at_once(ends("a"), ends("b", "normal")),
    ],
}
"""A child that ended before it was asked to, and one that was asked: one report."""


def restarts_apart(ms: int) -> Any:
    """Return a scenario of two restarts, one too many within two seconds."""
    return {
        "sup": {"intensity": 1, "period": 2, "children": [{"id": "a"}]},
        "steps": [ends("a"), {"op": "sleep", "ms": ms}, ends("a")],
    }


def through_json(value: Any) -> Any:
    """Return what others would read of it: lists for tuples, and nothing shared."""
    return json.loads(json.dumps(value))


def trace_of_model(scenario: Any) -> Any:
    return normalise(scenario, through_json(model.play(scenario)))


@pytest.mark.parametrize(
    "scenario", recorded(VECTORS), ids=lambda scenario: scenario["name"]
)
def test_the_model_does_what_otp_did(scenario: Any) -> None:
    wanted = normalise(scenario, scenario["trace"])
    assert first_difference(scenario, wanted, trace_of_model(scenario)) is None


def disagreement(drawn: Any) -> str | None:
    """Say where the library's trace first leaves the model's, if it does."""
    scenario = through_json(drawn)
    return difference({**scenario, "trace": model.play(scenario)})


@given(scenarios())
@example(ENDED_BEFORE_ITS_KILL)
@example(ALIVE_WHILE_RESTARTING)
@example(NORMAL_IN_TWO_WAYS)
@example(restarts_apart(1750))
@example(restarts_apart(2000))
@example(restarts_apart(2250))
def test_the_library_does_what_the_model_does(drawn: Any) -> None:
    assert disagreement(drawn) is None


@pytest.mark.parametrize("seed", range(BATCHES))
def test_the_library_does_what_the_model_does_wherever_chance_leads(seed: int) -> None:
    # Hypothesis shrinks what it finds, and likes small scenarios for that. Chance
    # comes to the far corners sooner, and to as many in the same time.
    random = Random(seed)
    for _ in range(5 * settings().max_examples):
        scenario = written(random.choice)
        if disagreement(scenario) is not None:
            least = with_fewest_steps(scenario)
            pytest.fail(f"{disagreement(least)}\nin {json.dumps(least)}")


def with_fewest_steps(scenario: Any) -> Any:
    """Return *scenario* without the steps that its disagreement does not need."""
    for place in reversed(range(len(scenario["steps"]))):
        steps = scenario["steps"][:place] + scenario["steps"][place + 1 :]
        shorter = {**scenario, "steps": steps}
        if disagreement(shorter) is not None:
            scenario = shorter
    return scenario


def words(value: Any) -> Iterator[str]:
    """Yield every text in a trace or a scenario."""
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from words(each)
        case dict():
            for key, each in value.items():
                yield key
                yield from words(each)
        case _:
            return


def test_the_drawn_scenarios_go_everywhere() -> None:
    seen = Counter[str]()
    long = 0
    random = Random(0)
    for _ in range(1000):
        scenario = through_json(written(random.choice))
        assert [*unknown(scenario)] == []
        trace = model.play(scenario)
        long += len(trace["steps"]) >= STEPS_MAX // 2
        seen.update({*words([scenario["sup"], scenario["steps"], trace])})
    assert [word for word in GOES_TO.split() if not seen[word]] == []
    assert long >= 100
