"""The rate limiter: single promises, and a small part of the conformance programs."""

from __future__ import annotations

import gc
import math
import weakref
from collections import deque

import attrs
import pytest

from duckservice.core.grants import ANY_KEY, Grant, Late, Limits, LineFull, Waits
from duckservice.core.limiter import LANES_MAX, Limiter
from duckservice.core.rate_hints import RateHints
from duckservice.core.token_bucket import Never
from tests.core.limiter_conformance import SOMETIMES, run_programs
from tests.core.limiter_model import worst_window
from tests.core.limiter_upstream import TOKENS, Run


def test_no_order_of_events_breaks_a_limit_or_keeps_anybody_too_long():
    reached = run_programs(60)
    assert all(reached[event] for event in SOMETIMES), reached


@pytest.mark.slow
def test_no_order_of_events_does_so_in_a_longer_search():
    run_programs(400, seed=1_000_000)


def granted(limiter: Limiter[int], now: float) -> list[int]:
    return [waiter for waiter, _ in limiter.due(now)]


def test_a_grant_debits_all_limits_or_none():
    limiter: Limiter[int] = Limiter(
        Limits(
            capacity=2, refill_rate=0.25, requests_per_minute=5, tokens_per_minute=100
        ),
        0.0,
    )
    assert isinstance(limiter.acquire(0.0, 90, 1), Grant)
    before = limiter.statistics(0.0)
    assert limiter.acquire(0.0, 50, 2) == Waits()
    assert limiter.due(0.0) == []
    after = limiter.statistics(0.0)
    assert after.requests_available == before.requests_available == 1
    assert after.tokens_available == before.tokens_available == 10


def test_a_small_request_that_would_put_a_large_one_off_does_not_overtake_it():
    limiter: Limiter[int] = Limiter(Limits(tokens_per_minute=100, guard=0.0), 0.0)
    limiter.acquire(0.0, 50, 0)
    assert limiter.acquire(1.0, 100, 1) == Waits()
    assert limiter.acquire(2.0, 1, 2) == Waits()
    assert granted(limiter, 59.75) == []
    assert granted(limiter, 60.0) == [1]
    assert granted(limiter, 119.75) == []
    assert granted(limiter, 120.0) == [2]


def test_one_wakeup_lets_in_only_as_many_as_fit():
    limiter: Limiter[int] = Limiter(Limits(capacity=1, refill_rate=1.0), 0.0)
    limiter.acquire(0.0, 0, 0)
    for waiter in (1, 2, 3):
        limiter.acquire(0.0, 0, waiter)
    assert [granted(limiter, float(second)) for second in (1, 2, 3)] == [[1], [2], [3]]


def test_a_reservation_larger_than_a_minutes_tokens_is_refused_at_once():
    limiter: Limiter[int] = Limiter(Limits(tokens_per_minute=100), 0.0)
    assert limiter.acquire(0.0, 101, 1) == Never(100)
    assert limiter.next_wakeup(0.0) is None


def test_unused_tokens_come_back_as_soon_as_they_are_known():
    limiter: Limiter[int] = Limiter(Limits(tokens_per_minute=100), 0.0)
    grant = limiter.acquire(0.0, 100, 1)
    assert isinstance(grant, Grant)
    limiter.acquire(0.0, 60, 2)
    limiter.settle(grant, 40)
    assert limiter.next_wakeup(0.0) == 0.0
    assert granted(limiter, 0.0) == [2]


def test_a_request_that_was_sent_counts_though_it_failed():
    limiter: Limiter[int] = Limiter(Limits(requests_per_minute=1), 0.0)
    grant = limiter.acquire(0.0, 5, 1)
    assert isinstance(grant, Grant)
    limiter.settle(grant, 0)
    assert limiter.acquire(1.0, 5, 2) == Waits()


def test_a_longer_retry_after_than_the_cap_is_cut_and_none_is_shortened():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    limiter.block(0.0, 1e9)
    limiter.block(1.0, 5.0)
    assert limiter.acquire(2.0, 0, 1) == Waits()
    assert limiter.next_wakeup(2.0) == 120.0
    assert granted(limiter, 119.99) == []
    assert granted(limiter, 120.0) == [1]


def test_a_crash_of_the_actor_lifts_no_limit():
    limits = Limits(capacity=10, refill_rate=1.0, requests_per_minute=3)
    limiter: Limiter[int] = Limiter(limits, 0.0)
    for waiter in range(3):
        assert isinstance(limiter.acquire(0.0, 0, waiter), Grant)
    limiter.block(0.0, 90.0)
    heir: Limiter[int] = Limiter(limits, 5.0, memory=limiter.memory())
    assert heir.acquire(5.0, 0, 1) == Waits()
    assert heir.next_wakeup(5.0) == 90.0


def test_no_60_seconds_at_the_provider_exceed_the_limit_though_requests_travel():
    """Each request takes up to half a second to arrive, in the worst order."""
    limiter: Limiter[int] = Limiter(Limits(requests_per_minute=10), 0.0)
    now, arrivals = 0.0, deque[float]()
    for number in range(100):
        limiter.acquire(now, 0, number)
        now = max(now, limiter.next_wakeup(now) or now)
        limiter.due(now)
        arrivals.append(now + (0.49 if number % 20 < 10 else 0.0))
    ordered = sorted(arrivals)
    for i in range(len(ordered) - 10):
        assert ordered[i + 10] - ordered[i] >= 60


def test_who_takes_the_place_of_one_who_gave_up_is_woken_in_its_own_time():
    limiter: Limiter[int] = Limiter(Limits(tokens_per_minute=100, guard=0.0), 0.0)
    limiter.acquire(0.0, 50, 0)
    limiter.acquire(1.0, 100, 1)
    limiter.acquire(1.0, 50, 2)
    assert limiter.next_wakeup(1.0) == 60.0
    assert limiter.remove(1)
    assert limiter.next_wakeup(1.0) == 1.0


class Caller:
    """Something whose end can be seen."""


def test_nothing_remembers_who_was_granted_or_gave_up():
    limiter: Limiter[Caller] = Limiter(Limits(capacity=1, refill_rate=1.0), 0.0)
    callers = [Caller() for _ in range(3)]
    seen = [weakref.ref(caller) for caller in callers]
    for caller in callers:
        limiter.acquire(0.0, 1, caller)
    limiter.remove(callers[1])
    limiter.due(1.0)
    del caller, callers
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3


def test_nobody_waits_twice():
    limiter: Limiter[int] = Limiter(Limits(requests_per_minute=1), 0.0)
    limiter.acquire(0.0, 0, 0)
    limiter.acquire(0.0, 0, 1)
    with pytest.raises(ValueError, match="waits already"):
        limiter.acquire(0.0, 0, 1)


@pytest.mark.parametrize(
    "half", [{"capacity": 5}, {"refill_rate": 1.0}, {"requests_per_minute": 0}]
)
def test_half_a_limit_is_refused(half):
    with pytest.raises(ValueError, match=r"go together|must be"):
        Limits(**half)


def test_without_limits_everything_is_granted():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    assert all(isinstance(limiter.acquire(0.0, 10**9, n), Grant) for n in range(100))
    seen = limiter.statistics(0.0)
    assert (seen.requests_available, seen.tokens_available) == (None, None)


def test_a_small_request_overtakes_a_large_one_that_it_does_not_put_off():
    limiter: Limiter[int] = Limiter(Limits(tokens_per_minute=100, guard=0.0), 0.0)
    limiter.acquire(0.0, 50, 0)
    assert limiter.acquire(1.0, 60, 1) == Waits()
    assert limiter.acquire(2.0, 30, 2) == Waits()
    assert granted(limiter, 2.0) == [2]
    assert limiter.acquire(3.0, 11, 3) == Waits()
    assert granted(limiter, 59.75) == []
    assert granted(limiter, 60.0) == [1]


def test_behind_a_hundred_large_requests_a_small_one_goes_at_once():
    limiter: Limiter[int] = Limiter(Limits(tokens_per_minute=1000, guard=0.0), 0.0)
    limiter.acquire(0.0, 900, 0)
    for number in range(1, 101):
        assert limiter.acquire(1.0, 600, number) == Waits()
    assert limiter.acquire(2.0, 10, 200) == Waits()
    assert granted(limiter, 2.0) == [200]


@pytest.mark.parametrize(
    "kind", [{"requests_per_minute": 60}, {"tokens_per_minute": 6000}]
)
def test_under_load_a_limit_is_used_to_95_percent_and_never_exceeded(kind):
    limiter: Limiter[int] = Limiter(Limits(**kind), 0.0)
    now, sent = 0.0, list[tuple[float, int]]()
    sizes = [10, 2000, 70, 1, 900, 300] if "tokens_per_minute" in kind else [1]
    for number in range(20_000):
        size = sizes[number % len(sizes)]
        # Twenty wait at any time.
        answer = limiter.acquire(now, size, number)
        if isinstance(answer, Grant):
            sent.append((now, 1 if len(sizes) == 1 else size))
        while limiter.statistics(now).waiting >= 20:
            now = max(now, limiter.next_wakeup(now) or now)
            for _, grant in limiter.due(now):
                assert isinstance(grant, Grant)
                sent.append((now, 1 if len(sizes) == 1 else grant.tokens))
        if now > 3600:
            break
    (limit,) = kind.values()
    late = [its for its in sent if its[0] > 60]
    assert worst_window(sent) <= limit
    used = sum(cost for _, cost in late) / (limit * (now - 60) / 60)
    assert used >= 0.95


# Deadlines.


def test_who_cannot_be_in_time_is_told_so_at_once_and_when_it_would_be():
    limits = Limits(requests_per_minute=1, guard=0.0)
    limiter: Limiter[int] = Limiter(limits, 0.0)
    limiter.acquire(0.0, 0, 0)
    assert limiter.acquire(0.0, 0, 1, deadline=59.0) == Late(60.0)
    assert limiter.acquire(0.0, 0, 2, deadline=60.0) == Waits()
    # One waits already, so it is the minute after that.
    late = limiter.acquire(0.0, 0, 3, "low", deadline=100.0)
    assert late == Late(120.0)
    assert granted(limiter, 60.0) == [2]


def test_a_429_sends_those_away_whom_it_makes_late_and_nobody_else():
    limiter: Limiter[int] = Limiter(Limits(requests_per_minute=1, guard=0.0), 0.0)
    limiter.acquire(0.0, 0, 0)
    limiter.acquire(0.0, 0, 1, deadline=70.0)
    limiter.acquire(0.0, 0, 2)
    limiter.refused(1.0, 90.0)
    assert limiter.due(1.0) == [(1, Late(91.0))]
    assert granted(limiter, 91.0) == [2]


def test_a_closer_deadline_goes_first_but_not_before_one_who_has_waited_long():
    limits = Limits(requests_per_minute=1, guard=0.0, patience=100.0)
    limiter: Limiter[int] = Limiter(limits, 0.0)
    for number in range(3):
        limiter.acquire(0.0, 0, number)
    limiter.acquire(10.0, 0, 3, deadline=65.0)
    assert granted(limiter, 60.0) == [3]
    limiter.acquire(61.0, 0, 4, deadline=500.0)
    assert granted(limiter, 120.0) == [1]
    assert granted(limiter, 180.0) == [2]


# Keys.


def per_key(**more) -> Limiter[int]:
    return Limiter(Limits(keys=2, guard=0.0, **more), 0.0)


def keys_of(limiter: Limiter[int], now: float, number: int) -> list[int]:
    grants = [limiter.acquire(now, 1, n) for n in range(number)]
    assert all(isinstance(grant, Grant) for grant in grants)
    return [grant.key for grant in grants if isinstance(grant, Grant)]


def test_each_key_has_its_own_limit_and_the_one_with_most_room_is_taken():
    limiter = per_key(key_requests_per_minute=3)
    assert sorted(keys_of(limiter, 0.0, 6)) == [0, 0, 0, 1, 1, 1]
    assert limiter.acquire(0.0, 1, 7) == Waits()
    assert limiter.next_wakeup(0.0) == 60.0


def test_where_nothing_is_known_of_keys_none_is_named():
    assert keys_of(per_key(requests_per_minute=5), 0.0, 2) == [ANY_KEY, ANY_KEY]
    assert keys_of(Limiter(Limits(keys=1, key_requests_per_minute=9), 0.0), 0.0, 1) == [
        ANY_KEY
    ]


def test_one_keys_limit_is_the_providers_where_there_is_one_key():
    limits = Limits(keys=1, key_requests_per_minute=1, requests_per_minute=5)
    limiter: Limiter[int] = Limiter(limits, 0.0)
    assert isinstance(limiter.acquire(0.0, 1, 1), Grant)
    assert limiter.acquire(0.0, 1, 2) == Waits()


def test_a_429_of_one_key_holds_up_this_key_alone():
    limiter = per_key(key_requests_per_minute=10)
    limiter.refused(0.0, 30.0, 0)
    assert keys_of(limiter, 0.0, 3) == [1, 1, 1]
    assert limiter.blocked_until < 0.0
    limiter.refused(0.0, 50.0, 1)
    assert limiter.acquire(0.0, 1, 9) == Waits()
    assert limiter.blocked_until == limiter.next_wakeup(0.0) == 30.0
    assert limiter.statistics(0.0).keys[1].rests_until == 50.0


def test_a_key_that_is_set_aside_is_taken_if_there_is_no_other():
    limiter = per_key(key_requests_per_minute=10)
    limiter.set_aside(0.0, 600.0, 0)
    assert keys_of(limiter, 0.0, 2) == [1, 1]
    limiter.set_aside(0.0, 300.0, 1)
    assert keys_of(limiter, 0.0, 2) == [1, 1]
    limiter.set_aside(0.0, math.nan, 1)
    assert limiter.acquire(300.0, 1, 5).key == 1  # type: ignore[union-attr]


# What the provider says.


def told(**said: float) -> RateHints:
    return RateHints(**said)  # type: ignore[arg-type]


def test_no_more_goes_than_the_provider_says_is_left_until_it_is_full_again():
    limiter: Limiter[int] = Limiter(Limits(requests_per_minute=100), 0.0)
    grant = limiter.acquire(0.0, 1, 0)
    assert isinstance(grant, Grant)
    hints = told(requests_remaining=2, requests_reset=20.0)
    limiter.learn(1.0, hints, grant=grant)
    assert keys_of(limiter, 1.0, 2)
    assert limiter.acquire(1.0, 1, 5) == Waits()
    assert limiter.next_wakeup(1.0) == 21.0
    assert granted(limiter, 21.0) == [5]


def test_a_lower_limit_tightens_ours_and_a_higher_one_changes_nothing():
    limiter: Limiter[int] = Limiter(Limits(requests_per_minute=3), 0.0)
    limiter.learn(0.0, told(requests_limit=1000))
    assert limiter.statistics(0.0).requests_available == 3
    limiter.learn(0.0, told(requests_limit=2))
    assert limiter.statistics(0.0).requests_available == 2


def test_without_a_configured_limit_the_one_that_is_told_holds():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    assert not limiter.knows_of_tokens()
    limiter.learn(0.0, told(tokens_limit=100))
    assert limiter.knows_of_tokens()
    assert isinstance(limiter.acquire(0.0, 90, 1), Grant)
    assert limiter.acquire(0.0, 20, 2) == Waits()


def test_what_is_larger_than_a_limit_that_was_told_goes_alone():
    limiter: Limiter[int] = Limiter(Limits(guard=0.0), 0.0)
    limiter.learn(0.0, told(tokens_limit=1))
    assert isinstance(limiter.acquire(0.0, 5000, 1), Grant)
    assert limiter.acquire(0.0, 5000, 2) == Waits()
    assert granted(limiter, 60.0) == [2]


def test_input_and_output_have_limits_of_their_own():
    limiter: Limiter[int] = Limiter(Limits(guard=0.0), 0.0)
    limiter.learn(0.0, told(input_tokens_limit=100, output_tokens_limit=1000))
    assert isinstance(limiter.acquire(0.0, 500, 1, input_tokens=60), Grant)
    assert limiter.acquire(0.0, 60, 2, input_tokens=50) == Waits()
    limiter.remove(2)
    assert isinstance(limiter.acquire(0.0, 500, 3, input_tokens=10), Grant)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"requests_remaining": -1, "requests_reset": 5.0},
        {"requests_remaining": 0, "requests_reset": math.nan},
        {"requests_remaining": 0, "requests_reset": -5.0},
        {"requests_remaining": 0},
        {"requests_limit": 0},
        {"requests_limit": -7},
        {"requests_limit": 10**30},
    ],
    ids=str,
)
def test_what_cannot_be_true_is_not_believed(nonsense):
    limiter: Limiter[int] = Limiter(Limits(requests_per_minute=5), 0.0)
    limiter.learn(0.0, told(**nonsense))
    assert limiter.statistics(0.0).requests_available == 5


def test_nothing_that_a_provider_says_holds_for_more_than_120_seconds():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    limiter.learn(0.0, told(requests_remaining=0, requests_reset=math.inf))
    assert limiter.acquire(0.0, 1, 1) == Waits()
    assert limiter.next_wakeup(0.0) == 120.0


def test_what_was_learned_of_a_key_survives_a_crash():
    limiter = per_key()
    limiter.learn(0.0, told(requests_limit=1), 0)
    heir: Limiter[int] = Limiter(limiter.limits, 0.0, memory=limiter.memory())
    assert sorted(keys_of(heir, 0.0, 3)) == [0, 1, 1]


@pytest.mark.parametrize("fills", [False, True], ids=["fixed windows", "buckets"])
@pytest.mark.parametrize("requests", [20, 60])
def test_a_limit_that_only_headers_tell_is_kept_and_used_to_95_percent(requests, fills):
    for seed in range(4):
        run = Run(seed, requests, fills)
        upstream = run.run()
        may = min(requests, upstream.tokens / TOKENS) * run.seconds / 60
        assert upstream.refused == 0
        assert len(upstream.served) >= 0.95 * may


@pytest.mark.parametrize("fills", [False, True], ids=["fixed windows", "buckets"])
@pytest.mark.parametrize("other", [30, 60])
def test_each_of_two_models_uses_95_percent_of_its_own_limit(other, fills):
    for seed in range(4):
        run = Run(seed, 20, fills, others={"b": other})
        run.run()
        for upstream in run.upstreams.values():
            may = min(upstream.requests, upstream.tokens / TOKENS) * run.seconds / 60
            assert upstream.refused == 0
            assert len(upstream.served) >= 0.95 * may


@pytest.mark.parametrize("fills", [False, True], ids=["fixed windows", "buckets"])
def test_a_limit_that_models_share_is_kept_though_each_answer_is_of_one(fills):
    for seed in range(4):
        run = Run(seed, 40, fills, others={"b": 0}, shared=True)
        upstream = run.run()
        may = min(upstream.requests, upstream.tokens / TOKENS) * run.seconds / 60
        assert upstream.refused == 0
        assert len(upstream.served) >= 0.95 * may


# Models.


def grant_of(limiter: Limiter[int], now: float, name: int, model: str) -> Grant:
    grant = limiter.acquire(now, 1, name, model=model)
    assert isinstance(grant, Grant)
    return grant


def test_what_is_left_of_one_model_holds_back_no_other():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    chat = grant_of(limiter, 0.0, 1, "chat")
    image = grant_of(limiter, 0.0, 2, "image")
    few = told(requests_limit=5, requests_remaining=0, requests_reset=60.0)
    many = told(requests_limit=500, requests_remaining=400, requests_reset=1.0)
    limiter.learn(1.0, few, grant=image)
    limiter.learn(1.0, many, grant=chat)
    assert limiter.acquire(1.0, 1, 3, model="image") == Waits()
    assert limiter.acquire(1.0, 1, 4, "low", model="chat") == Waits()
    assert granted(limiter, 1.0) == [4]
    assert limiter.ready_at(1.0, "chat") == limiter.ready_at(1.0) == 1.0
    assert limiter.ready_at(1.0, "image") == 61.0
    assert (limiter.requests_left(1.0, "image"), limiter.requests_left(1.0)) == (0, 399)


def test_behind_a_thousand_of_a_model_with_nothing_left_another_goes_at_once():
    limiter: Limiter[int] = Limiter(Limits(waiting_max=2000), 0.0)
    chat = grant_of(limiter, 0.0, 1, "chat")
    image = grant_of(limiter, 0.0, 2, "image")
    nothing = told(requests_limit=5, requests_remaining=0, requests_reset=60.0)
    limiter.learn(0.0, nothing, grant=image)
    limiter.learn(0.0, told(requests_limit=500), grant=chat)
    for number in range(1000):
        assert limiter.acquire(0.0, 1, 100 + number, model="image") == Waits()
    assert limiter.acquire(0.0, 1, 9, model="chat") == Waits()
    assert granted(limiter, 0.0) == [9]


def test_what_was_under_way_when_the_first_answer_came_counts():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    grants = [grant_of(limiter, 0.0, n, "m") for n in range(50)]
    said = told(requests_limit=60, requests_remaining=52, requests_reset=60.0)
    limiter.learn(1.0, said, grant=grants[0])
    assert limiter.requests_left(1.0, "m") == 52 - 49


def test_models_of_the_same_limits_have_one_count():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    for name in ("a", "b"):
        grant = grant_of(limiter, 0.0, 1, name)
        limiter.learn(0.0, told(requests_limit=3), grant=grant)
    assert limiter.requests_left(0.0, "a") == limiter.requests_left(0.0, "b") == 1
    assert limiter.statistics(0.0).requests_available == 1


def test_a_model_of_which_nothing_is_known_is_of_the_only_group_or_of_none():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    first = grant_of(limiter, 0.0, 1, "a")
    limiter.learn(0.0, told(requests_limit=2), grant=first)
    new = grant_of(limiter, 0.0, 2, "new")
    assert limiter.acquire(0.0, 1, 3, model="newer") == Waits()
    limiter.learn(0.0, told(requests_limit=9), grant=new)
    assert granted(limiter, 0.0) == [3]
    assert limiter.requests_left(0.0, "newest") is None


def test_a_limit_that_changes_takes_along_what_was_taken():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    grant = grant_of(limiter, 0.0, 1, "a")
    limiter.learn(0.0, told(requests_limit=10), grant=grant)
    for name in range(4):
        limiter.settle(grant_of(limiter, 0.0, name, "a"), 1)
    limiter.learn(1.0, told(requests_limit=6), grant=grant)
    assert limiter.requests_left(1.0, "a") == 1


def test_of_a_thousand_models_64_are_remembered_and_those_that_are_used():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    for number in range(1000):
        for name in ("used", f"made up {number}"):
            grant = grant_of(limiter, float(number), number, name)
            limit = 10**6 if name == "used" else 1000 + number
            limiter.learn(float(number), told(requests_limit=limit), grant=grant)
            limiter.settle(grant, 1)
    models = [its.model for its in limiter.statistics(1e3).told]
    assert len(models) == 64
    assert "used" in models
    assert len(limiter.memory().rooms.whole.told._groups) == 64
    assert not limiter.memory().rooms.whole.told._under_way


def test_where_made_up_models_wait_there_are_not_too_many_lines():
    limiter: Limiter[int] = Limiter(Limits(requests_per_minute=1), 0.0)
    for number in range(1000):
        limiter.acquire(0.0, 1, number, model=f"made up {number}")
    assert len(limiter._lanes) <= LANES_MAX + 1
    for number in range(1, 1000):
        assert limiter.remove(number)
    assert not limiter._lanes
    assert not limiter._waiting_cost


def test_what_was_told_of_a_model_survives_a_crash_with_what_is_under_way():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    grants = [grant_of(limiter, 0.0, n, "a") for n in range(3)]
    said = told(requests_limit=9, requests_remaining=5, requests_reset=60.0)
    limiter.learn(0.0, said, grant=grants[0])
    heir: Limiter[int] = Limiter(limiter.limits, 0.0, memory=limiter.memory())
    assert heir.requests_left(0.0, "a") == 3
    heir.give_back(0.0, grants[1])
    assert heir.requests_left(0.0, "a") == 4


def test_a_token_limit_of_one_model_makes_no_other_ones_tokens_matter():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    for model, hints in (
        ("chat", told(requests_limit=2, tokens_limit=9)),
        ("image", told(requests_limit=5)),
    ):
        limiter.learn(0.0, hints, grant=grant_of(limiter, 0.0, 1, model))
    assert limiter.knows_of_tokens("chat")
    assert not limiter.knows_of_tokens("image")
    assert limiter.knows_of_tokens()


def test_who_waits_of_another_model_delays_only_what_both_count_in():
    limiter: Limiter[int] = Limiter(Limits(guard=0.0), 0.0)
    for model, limit in (("chat", 2), ("image", 1)):
        hints = told(requests_limit=limit)
        limiter.learn(0.0, hints, grant=grant_of(limiter, 0.0, 1, model))
    for number in range(10):
        limiter.acquire(0.0, 1, number, model="image")
    assert limiter.expected_at(0.0, 1, model="chat") == 0.0
    assert limiter.expected_at(0.0, 1, model="image") == 660.0


def test_what_was_told_of_each_model_is_shown():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    grant = grant_of(limiter, 0.0, 1, "a")
    said = told(requests_limit=9, tokens_limit=50, tokens_remaining=4, tokens_reset=1.0)
    limiter.learn(0.0, said, grant=grant)
    (its,) = limiter.statistics(0.0).told
    assert attrs.astuple(its) == ("a", 9, 50, 8, 4)


# Pauses.


def test_each_429_in_a_row_doubles_the_pause_and_a_success_ends_the_row():
    limiter: Limiter[int] = Limiter(Limits(guess_max=50.0), 0.0)
    now, pauses = 0.0, list[float]()
    for _ in range(8):
        limiter.refused(now, None)
        pauses.append(limiter.blocked_until - now)
        now = limiter.blocked_until
        grant = limiter.acquire(now, 1, 1)
        assert isinstance(grant, Grant)
    assert pauses == [1, 2, 4, 8, 16, 32, 50, 50]
    limiter.succeeded(grant)
    limiter.refused(now, math.nan)
    assert limiter.blocked_until == now + 1


def test_a_guessed_pause_is_no_longer_than_allowed_and_one_that_was_asked_for_is():
    limiter: Limiter[int] = Limiter(Limits(guess_max=3.0), 0.0)
    for number in range(1, 6):
        now = max(0.0, limiter.blocked_until)
        grant = limiter.acquire(now, 1, number)
        assert isinstance(grant, Grant)
        expected = limiter.guessed_pause(now, grant)
        limiter.refused(now, None, grant=grant)
        assert limiter.blocked_until - now == expected == min(3.0, 2.0 ** (number - 1))
    now = limiter.blocked_until
    limiter.relimit(now, Limits(guess_max=0.5))
    limiter.refused(now, None)
    assert limiter.blocked_until == now + 0.5
    limiter.refused(now, 100.0)
    assert limiter.blocked_until == now + 100.0


def test_what_a_429_will_pause_is_at_least_what_is_paused_already():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    grant = grant_of(limiter, 0.0, 1, "a")
    limiter.refused(0.0, 20.0, grant=grant)
    assert limiter.guessed_pause(5.0, grant) == 15.0


def test_of_what_was_under_way_together_one_429_counts():
    limiter: Limiter[int] = Limiter(Limits(), 0.0)
    grants = [limiter.acquire(0.0, 1, n) for n in range(50)]
    for grant in grants:
        assert isinstance(grant, Grant)
        limiter.refused(0.0, None, grant=grant)
    assert limiter.blocked_until == 1.0


# What to expect.


def test_it_expects_a_new_request_when_it_would_be_granted():
    limits = Limits(requests_per_minute=10, guard=0.0)
    limiter: Limiter[int] = Limiter(limits, 0.0)
    assert limiter.expected_at(0.0) == 0.0
    for number in range(45):
        limiter.acquire(0.0, 0, number)
    expected = limiter.expected_at(0.0)
    limiter.acquire(0.0, 0, "last")  # type: ignore[arg-type]
    now = 0.0
    while limiter.statistics(now).waiting:
        now = limiter.next_wakeup(now) or now
        limiter.due(now)
    assert expected == now == 240.0


def test_it_never_expects_what_can_never_fit():
    limiter: Limiter[int] = Limiter(Limits(tokens_per_minute=10), 0.0)
    assert limiter.expected_at(0.0, 11) == math.inf


def test_limits_say_what_they_are():
    limiter = per_key(key_requests_per_minute=4, key_tokens_per_minute=10)
    limiter.acquire(0.0, 3, 1)
    seen = limiter.statistics(0.0)
    assert (seen.requests_available, seen.tokens_available) == (7, 17)
    assert [attrs.astuple(key)[:2] for key in seen.keys] == [(3, 7), (4, 10)]


def test_a_full_line_takes_nobody():
    limits = Limits(requests_per_minute=1, waiting_max=1)
    limiter: Limiter[int] = Limiter(limits, 0.0)
    answers = [limiter.acquire(0.0, 0, number) for number in range(3)]
    assert answers[1:] == [Waits(), LineFull(1)]
