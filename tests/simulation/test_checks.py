"""The judge's sliding windows find what counting every window by hand finds."""

from __future__ import annotations

import itertools
from bisect import bisect_left as left, bisect_right as right
from random import Random

import pytest
from hypothesis import given, strategies as st

from duckservice.config import LimitsConfig, ProviderConfig
from tests.simulation.checks_calls import CallChecks
from tests.simulation.checks_service import Done, recoveries
from tests.simulation.load import Order, Source, orders
from tests.simulation.upstream import Seen
from tests.simulation.verdicts import Verdicts
from tests.simulation.weather import Spell

[ORDER, *_] = orders([Source(name="one", rate=1.0)], 60.0, Random(1))

SEEDS = st.integers(0, 10**9)


def program(seed: int, gap: float, retries: float) -> list[tuple[float, bool]]:
    """Return calls at whole seconds, so that many are a minute apart to the tick."""
    random = Random(seed)
    gaps = [round(random.expovariate(1 / gap)) for _ in range(150)]
    return [(float(at), random.random() < retries) for at in itertools.accumulate(gaps)]


def seen(number: int, at: float, *, again: bool = False, tokens: int = 1) -> Seen:
    return Seen(
        number=number,
        provider="a",
        order=ORDER,
        at=at,
        again=again,
        tokens=tokens,
        down=False,
    )


def judged(calls: list[tuple[float, bool]], limit: int = 5) -> Verdicts:
    verdicts = Verdicts(clock=lambda: 0.0)
    config = ProviderConfig(
        name="a", adapter="mock", limits=LimitsConfig(requests_per_minute=limit)
    )
    checks = CallChecks(config, verdicts)
    for number, (at, again) in enumerate(calls):
        checks.arrived(seen(number, at, again=again))
    checks.close([])
    return verdicts


@given(SEEDS)
def test_a_minute_with_too_many_calls_is_found(seed: int) -> None:
    calls = program(seed, gap=25.0, retries=0.0)
    fullest = max(
        sum(begin <= at < begin + 60 for at, _ in calls) for begin, _ in calls
    )
    for limit in (fullest - 1, fullest):
        assert bool(judged(calls, limit).broken["I22"]) == (fullest > limit)


@given(SEEDS, st.sampled_from([0.2, 0.25, 0.3, 0.5]), st.sampled_from([1.0, 2.0, 4.0]))
def test_a_minute_with_too_many_retries_is_found(
    seed: int, retries: float, gap: float
) -> None:
    calls = program(seed, gap, retries)
    # What comes later may make up for a retry, so the end matters.
    for end in range(12, len(calls), 12):
        some = calls[:end]
        assert bool(judged(some).broken["I25"]) == too_many_retries(some)


def test_a_first_attempt_that_is_a_minute_old_allows_no_retry() -> None:
    firsts = [(float(at), False) for at in range(10)]
    retries = [(50.0 + at, True) for at in range(11)]
    assert not judged([*firsts, *retries[:10]]).broken["I25"]
    assert judged([*firsts, *retries]).broken["I25"]


def too_many_retries(calls: list[tuple[float, bool]]) -> bool:
    firsts = [at for at, again in calls if not again]
    retries = [at for at, again in calls if again]
    # A window may begin at a call, just after it, or end with it: in between,
    # nothing changes.
    return any(
        10 * (right(retries, end) - begins(retries, begin))
        > 100 + right(firsts, end) - begins(firsts, begin)
        for at, _ in calls
        for begins, begin, end in (
            (left, at, at + 60),
            (right, at, at + 60),
            (left, at - 60, at),
        )
    )


@pytest.mark.parametrize(
    ("bad_until", "back"), [(0.0, 0.0), (30.0, 30.0), (295.0, float("inf"))]
)
def test_recovery_is_when_goodput_stays_good(bad_until: float, back: float) -> None:
    spell = Spell(kind="outage", begin=300.0, end=600.0)
    source = Source(name="one", rate=1.0)
    done = [
        Done(_order(n, float(n), source), n + 1.0, "ok" if good else "gave_up")
        for n in range(1000)
        for good in [n < 300 or n >= 600 + bad_until]
    ]
    [found] = recoveries(done, [spell])
    assert found == back or abs(found - back) <= 5.0


def _order(id_: int, at: float, source: Source) -> Order:
    return Order(
        id=id_,
        at=at,
        source=source,
        stream=False,
        deadline=None,
        reply_tokens=1,
        request=ORDER.request,
    )
