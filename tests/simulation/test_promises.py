"""The service keeps its promises through minutes of bad weather, by its providers' logs.

SIMULATION_SEEDS=20 makes the slow one search more.
"""

from __future__ import annotations

import os

import attrs
import pytest

from tests.simulation.load import Source
from tests.simulation.report import row
from tests.simulation.run import Ran, run
from tests.simulation.upstream import Traits
from tests.simulation.weather import MINUTE, recurring
from tests.simulation.world import WORLDS

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "1"))


def kept(world: str, *promises: str, minutes: int, seed: int = 1) -> Ran:
    """Run the service; every promise holds, and *promises* were put to the test."""
    ran = run(WORLDS[world], "default", seed, minutes)
    verdicts = ran.judge.verdicts
    assert not verdicts.broken, verdicts.examples
    assert all(verdicts.checked[promise] for promise in promises)
    return ran


def test_an_outage_of_one_provider_is_noticed_by_nobody() -> None:
    ran = kept("outage", "I17", "I18", "I22", "I25", "I26", "I31", minutes=13)
    assert ran.judge.verdicts.seen["breaker closed"]
    its = row([ran])
    assert its["served"] > 0.995
    assert its["jobs_served"] == 1.0
    assert its["wasted"] < 30


def test_goodput_comes_back_after_an_outage_of_all() -> None:
    ran = kept("blackout", "I17", "I25", "I27", minutes=13)
    assert ran.judge.verdicts.seen["order circuit_open"]


def test_an_overloaded_provider_is_not_kept_down_by_retries() -> None:
    ran = kept("overload", "I25", "I27", minutes=11)
    assert ran.judge.verdicts.seen["call failed"]


def test_a_storm_of_429_is_waited_out_elsewhere() -> None:
    ran = kept("storm", "I22", "I24", minutes=11)
    assert ran.judge.verdicts.seen["call limited"]
    assert row([ran])["served"] > 0.995


def test_a_limit_is_used_up_and_every_priority_gets_its_share() -> None:
    its = row([kept("saturated", "I22", "I28", minutes=12)])
    assert its["limit_use"] >= 0.95


def test_a_dead_provider_delays_no_neighbour() -> None:
    kept("neighbour", "I28", minutes=13)


def test_no_herd_tramples_a_budget() -> None:
    its = row([kept("stampede", "I30", "I31", minutes=3)])
    assert 0.3 < its["spent"] <= 1.0


def test_in_mixed_weather_everything_holds() -> None:
    kept("mixed", "I22", "I24", "I25", "I26", "I30", "I31", minutes=10, seed=6)


def test_jobs_that_come_back_after_a_429_take_from_the_retry_budget() -> None:
    world = attrs.evolve(
        WORLDS["storm"],
        providers=(Traits(name="a"),),
        sources=(Source(name="batch", rate=0.3, durable=True, deadlines=0.0),),
        forecast=recurring("a", length=3 * MINUTE, kind="storm", retry_after=5.0),
    )
    verdicts = run(world, "default", 1, 11).judge.verdicts
    assert not verdicts.broken, verdicts.examples


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_every_promise_holds_in_every_world(world: str, seed: int) -> None:
    kept(world, minutes=20, seed=seed)
