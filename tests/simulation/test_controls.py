"""The judge sees: each promise is broken by a naive client, and it says so."""

from __future__ import annotations

import pytest

from tests.simulation.report import row
from tests.simulation.run import run
from tests.simulation.world import WORLDS

BROKEN = [
    ("I17", "hang", "naive-breaker", 20),
    ("I18", "outage", "naive-breaker", 13),
    ("I22", "herd", "token-bucket", 3),
    ("I24", "storm", "naive-retries", 11),
    ("I25", "outage", "naive-fixed", 13),
    ("I26", "outage", "naive-retries", 13),
    ("I27", "overload", "naive-retries", 12),
    ("I28", "saturated", "one-line", 12),
    ("I28", "neighbour", "one-line", 13),
    ("I30", "stampede", "check-then-add", 3),
    ("I31", "stampede", "check-then-add", 3),
]


@pytest.mark.parametrize(("promise", "world", "policy", "minutes"), BROKEN)
def test_the_judge_sees_a_naive_client_break_a_promise(
    promise: str, world: str, policy: str, minutes: int
) -> None:
    verdicts = run(WORLDS[world], policy, 1, minutes).judge.verdicts
    assert verdicts.broken[promise]
    assert verdicts.examples[promise]


def test_a_bucket_of_60_lets_almost_twice_as_many_through_in_a_minute() -> None:
    its = row([run(WORLDS["herd"], "token-bucket", 1, 4)])
    assert its["limit"] == 60
    assert its["fullest_minute"] in {119, 120}


def test_who_adds_after_the_call_lets_a_whole_herd_through_a_budget() -> None:
    its = row([run(WORLDS["stampede"], "check-then-add", 1, 3)])
    assert its["spent"] > 5
