from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from duckservice.core.circuit_breaker import Open, eligible, retry_at
from duckservice.core.route import Candidate, Health, NoneEligible, Route, faded, order

STRATEGIES = ("priority", "cheapest", "fastest", "least_busy", "weighted")
ANY_STRATEGY = st.sampled_from(STRATEGIES)
CHANCES = st.floats(0, 1, exclude_max=True)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        name=st.text("abcdef", min_size=1, max_size=3),
        priority=st.integers(1, 3),
        weight=st.integers(0, 4),
        eligible=st.booleans(),
        retry_at=st.one_of(st.none(), st.floats(0, 100)),
        health=st.floats(0, 1),
        load=st.floats(0, 1.5),
        latency=st.one_of(st.none(), st.sampled_from([0.5, 2.0]), st.floats(0, 10)),
        price=st.one_of(st.none(), st.sampled_from([3, 7]), st.integers(0, 10**12)),
        catch_all=st.booleans(),
        wait=st.sampled_from([0.0, 0.5, 1.0, 1.1, 4.0, 5.1, 6.0, 40.0, math.inf]),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda c: c.name,
)


def names(candidates, strategy="priority", chance=0.0):
    route = order(candidates, strategy, chance)
    assert isinstance(route, Route)
    return route.names


@given(CANDIDATES, ANY_STRATEGY, CHANCES)
def test_exactly_the_eligible_are_asked_each_once_with_a_reason(
    candidates, how, chance
):
    route = order(candidates, how, chance)
    well = sorted(c.name for c in candidates if c.eligible)
    rest = sorted(c.name for c in candidates if not c.eligible)
    assert sorted(ranked.name for ranked in route.passed_over) == rest
    if isinstance(route, NoneEligible):
        assert not well
        known = [c.retry_at for c in candidates if c.retry_at is not None]
        assert route.retry_at == (min(known) if known else None)
    else:
        assert sorted(route.names) == well
        assert all(ranked.reason for ranked in route.ranked)


@given(CANDIDATES, ANY_STRATEGY, CHANCES, st.randoms())
def test_the_order_does_not_depend_on_the_order_given(candidates, how, chance, random):
    shuffled = list(candidates)
    random.shuffle(shuffled)
    first, second = order(candidates, how, chance), order(shuffled, how, chance)
    if isinstance(first, Route):
        assert isinstance(second, Route)
        assert first.names == second.names


def test_an_open_breaker_whose_time_is_up_is_asked_again():
    breaker = Open(1, until=60.0)
    ask = [
        Candidate(name="p", eligible=eligible(breaker, now), retry_at=retry_at(breaker))
        for now in (59.0, 60.0)
    ]
    assert order(ask[:1], "priority", 0.0).passed_over
    assert order(ask[:1], "priority", 0.0).retry_at == 60.0
    assert names(ask[1:]) == ("p",)


def test_priority_goes_before_health_before_load_before_weight_before_name():
    best_first = [
        Candidate(name="z", priority=1, health=0.2, load=1.0),
        Candidate(name="y", priority=2, health=1.0, load=0.9),
        Candidate(name="x", priority=2, health=0.8, load=0.1, weight=5),
        Candidate(name="w", priority=2, health=0.8, load=0.2, weight=6),
        Candidate(name="b", priority=2, health=0.8, load=0.2, weight=5),
        Candidate(name="c", priority=2, health=0.8, load=0.2, weight=5),
    ]
    assert names(best_first[::-1]) == ("z", "y", "x", "w", "b", "c")


def test_a_hundredth_of_health_does_not_outweigh_the_load():
    a = Candidate(name="a", health=1.0, load=0.9)
    b = Candidate(name="b", health=0.99, load=0.0)
    assert names([a, b]) == ("b", "a")


def test_the_cheapest_is_asked_first_and_an_unknown_price_is_not_cheap():
    ask = [
        Candidate(name="unknown", price=None, priority=0),
        Candidate(name="dear", price=10),
        Candidate(name="free", price=0, priority=9),
        Candidate(name="free too", price=0, priority=10),
    ]
    assert names(ask, "cheapest") == ("free", "free too", "dear", "unknown")


def test_the_fastest_is_asked_first_and_who_was_not_measured_gets_a_try():
    ask = [
        Candidate(name="slow", latency=2.0),
        Candidate(name="new", latency=None),
        Candidate(name="quick", latency=0.5, priority=9),
    ]
    assert names(ask, "fastest") == ("new", "quick", "slow")


def test_the_least_busy_is_asked_first():
    ask = [
        Candidate(name="busy", load=0.9),
        Candidate(name="idle", load=0.0, priority=9),
    ]
    assert names(ask, "least_busy") == ("idle", "busy")


@pytest.mark.parametrize("how", STRATEGIES[1:])
def test_who_fails_more_often_than_not_comes_last(how):
    sick = Candidate(name="a", health=0.49, price=1, latency=0.1, weight=1000)
    well = Candidate(name="b", health=0.5, price=9, latency=9.0, load=1.0)
    for chance in (0.0, 0.5, 0.99):
        route = order([sick, well], how, chance)
        assert route.names == ("b", "a")
        assert "health" in route.ranked[1].reason


def test_weights_are_kept_to_in_the_long_run_at_each_place():
    ask = [Candidate(name=n, weight=w) for n, w in (("a", 1), ("b", 2), ("c", 5))]
    drawn = Counter(names(ask, "weighted", step / 8000) for step in range(8000))
    first = Counter({n: sum(v for k, v in drawn.items() if k[0] == n) for n in "abc"})
    assert first == {"a": 1000, "b": 2000, "c": 5000}
    # Of those that begin with c: a before b in one case of three.
    assert drawn["c", "a", "b"] == pytest.approx(5000 / 3, abs=2)


@given(CHANCES)
def test_a_weight_of_zero_means_only_when_all_others_failed(chance):
    ask = [Candidate(name="a", weight=0), Candidate(name="b"), Candidate(name="c")]
    assert names(ask, "weighted", chance)[-1] == "a"


def test_a_chance_just_under_one_is_a_chance():
    ask = [Candidate(name=n, weight=3) for n in "abcdefg"]
    # One itself is out of range, but a product may round up to it.
    for chance in (1 - 2**-53, 1.0):
        assert len(set(names(ask, "weighted", chance))) == 7


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=50))
def test_health_stays_between_all_and_nothing(requests):
    health = Health()
    for ok, latency in requests:
        before = health
        health = health.update(ok=ok, latency=latency)
        assert 0 <= health.score <= 1
        assert health.score >= before.score if ok else health.score < before.score
        assert ok or health.latency == before.latency


def test_a_quick_refusal_is_not_speed():
    health = Health().update(ok=True, latency=2.0).update(ok=False, latency=0.001)
    assert health.latency == 2.0
    assert health.update(ok=True, latency=3.0).latency == pytest.approx(2.2)


def test_a_bad_record_fades_so_that_who_is_asked_last_can_show_that_it_recovered():
    health = Health(0.2)
    assert health.rested(0).score == pytest.approx(0.2)
    assert health.rested(-5).score == pytest.approx(0.2)
    assert health.rested(60).score == pytest.approx(0.6)
    assert health.rested(600).score > 0.99


def test_an_order_says_why():
    ask = [
        Candidate(name="a", price=5, latency=0.25),
        Candidate(name="b", eligible=False, retry_at=5.0),
        Candidate(name="c", eligible=False),
    ]
    reasons = {how: order(ask, how, 0.0).ranked[0].reason for how in STRATEGIES}
    assert reasons == {
        "priority": "priority 1, health 1.0, load 0.00",
        "cheapest": "0.000000000005 USD",
        "fastest": "latency 0.250 s",
        "least_busy": "load 0.00",
        "weighted": "weight 1",
    }
    assert [its.reason for its in order(ask, "priority", 0.0).passed_over] == [
        "its circuit breaker refuses",
        "it is disabled",
    ]
    blank = [Candidate(name="a")]
    assert order(blank, "cheapest", 0.0).ranked[0].reason == "price unknown"
    assert order(blank, "fastest", 0.0).ranked[0].reason == "latency unknown"


@pytest.mark.parametrize("how", STRATEGIES)
def test_who_has_no_room_soon_comes_behind_who_has(how):
    best = Candidate(name="a", priority=1, weight=1000, wait=1.5, price=1, latency=0.1)
    rest = Candidate(name="b", priority=9, price=9, latency=9.0, load=1.0, wait=1.0)
    for chance in (0.0, 0.5, 0.99):
        route = order([best, rest], how, chance)
        assert route.names == ("b", "a")
        assert route.ranked[1].reason.endswith(", its limit has no room for 2 s")
    assert order([best, rest], "priority", 0.0, spill_after=2.0).names == ("a", "b")


def test_of_those_that_all_have_to_wait_the_strategy_decides_between_like_waits():
    def waits(a: float, b: float) -> tuple[str, ...]:
        ask = [
            Candidate(name="a", priority=1, wait=a),
            Candidate(name="b", priority=2, wait=b),
        ]
        return names(ask)

    assert waits(12.0, 11.0) == ("a", "b"), "a second more is worth it"
    assert waits(50.0, 11.0) == ("b", "a")
    assert waits(math.inf, 3600.0) == ("b", "a")
    reasons = order([Candidate(name="a", wait=math.inf)], "priority", 0.0).ranked
    assert reasons[0].reason.endswith(", its limit has no room")


@pytest.mark.parametrize("how", STRATEGIES)
def test_a_session_is_kept_unless_its_provider_is_ill_late_or_resting(how):
    better = Candidate(name="a", priority=1, price=1, latency=0.1, weight=1000)

    def first(**its) -> str:
        keeper = Candidate(
            **{"name": "k", "priority": 2, "price": 2, "latency": 1.0, "load": 0.5}
            | its
        )
        return order([better, keeper], how, 0.0, keeps="k").names[0]

    assert first() == "k"
    assert first(health=0.4) == "a"
    assert first(wait=1.1) == "a"
    assert first(eligible=False) == "a"
    assert order([better], how, 0.0, keeps="k").names == ("a",)
    kept = order([better, Candidate(name="k")], how, 0.0, keeps="k").ranked[0]
    assert kept.reason.startswith("it keeps its session; ")


def test_a_latency_fades_and_never_grows():
    assert faded(8.0, 0.0) == 8.0
    assert faded(8.0, 300.0) == pytest.approx(4.0)
    assert faded(8.0, -5.0) == 8.0


def goes_first(a: Candidate, b: Candidate, how: str) -> bool:  # noqa: C901 - a list of rules
    """Say whether *a* comes before *b*, as docs/routing.md tells it, rule by rule."""
    late = [c.wait > 1.0 for c in (a, b)]
    if late[0] != late[1]:
        return late[1]
    if all(late):
        steps = [c.wait if c.wait == math.inf else int(c.wait / 5) for c in (a, b)]
        if steps[0] != steps[1]:
            return steps[0] < steps[1]
    if how != "priority":
        if a.catch_all != b.catch_all:
            return b.catch_all
        if (a.health < 0.5) != (b.health < 0.5):
            return b.health < 0.5
    match how:
        case "priority":
            if a.priority != b.priority:
                return a.priority < b.priority
            if a.catch_all != b.catch_all:
                return b.catch_all
            if round(10 * a.health) != round(10 * b.health):
                return a.health > b.health
            if a.load != b.load:
                return a.load < b.load
            if a.weight != b.weight:
                return a.weight > b.weight
        case "cheapest":
            prices = [math.inf if c.price is None else c.price for c in (a, b)]
            if prices[0] != prices[1]:
                return prices[0] < prices[1]
        case "fastest":
            times = [-1.0 if c.latency is None else c.latency for c in (a, b)]
            times = [max(0.0, each) for each in times]
            if times[0] != times[1]:
                return times[0] < times[1]
        case "least_busy":
            if a.load != b.load:
                return a.load < b.load
    if a.priority != b.priority:
        return a.priority < b.priority
    return a.name < b.name


@given(CANDIDATES, st.sampled_from(("priority", "cheapest", "fastest", "least_busy")))
def test_each_pair_stands_as_the_documents_tell(candidates, how):
    eligible = {c.name: c for c in candidates if c.eligible}
    if not eligible:
        return
    ranked = [eligible[name] for name in names(candidates, how)]
    for place, before in enumerate(ranked):
        for after in ranked[place + 1 :]:
            assert goes_first(before, after, how), (before, after)
