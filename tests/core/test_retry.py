from __future__ import annotations

import math
from collections import deque

import pytest
from hypothesis import given, settings, strategies as st

from duckservice import errors
from duckservice.core.retry import (
    FailOver,
    GiveUp,
    Retry,
    RetryBudget,
    RetryPolicy,
    backoff,
    decide,
    earn,
    give_back,
    next_retry_at,
    sent,
    take,
)


def all_errors(base: type[errors.DuckError]) -> list[type[errors.DuckError]]:
    # Other tests have subclasses of their own.
    ours = (s for s in base.__subclasses__() if s.__module__ == errors.__name__)
    return [base, *(e for sub in ours for e in all_errors(sub))]


POLICY = RetryPolicy()
KINDS = st.sampled_from(all_errors(errors.DuckError))
CHANCES = st.floats(0, 1, exclude_max=True)
HINTS = st.one_of(
    st.none(),
    st.floats(0, 1000),
    st.sampled_from([0.0, -5.0, 119.9, 120.0, 120.1, math.inf, math.nan]),
)
ERRORS = st.builds(
    lambda kind, provider, hint, retryable: kind(
        "it failed", provider=provider, retry_after=hint, retryable=retryable
    ),
    KINDS,
    st.sampled_from([None, "p"]),
    HINTS,
    st.sampled_from([None, True, False]),
)


def ask(error, **changes):
    situation = {
        "attempt": 1,
        "policy": POLICY,
        "chance": 0.5,
        "now": 100.0,
        "deadline": None,
        "others_left": False,
        "delivered": False,
    }
    return decide(error, **(situation | changes))


SITUATIONS = {
    "attempt": st.integers(1, 5),
    "policy": st.builds(
        RetryPolicy,
        max_attempts=st.integers(1, 5),
        base_delay=st.floats(0, 1000),
        max_delay=st.floats(0, 1000),
        jitter=st.booleans(),
    ),
    "chance": CHANCES,
    "now": st.floats(0, 1e6),
    "others_left": st.booleans(),
    "delivered": st.booleans(),
}


@given(
    ERRORS, st.one_of(st.none(), st.floats(-10, 300)), st.fixed_dictionaries(SITUATIONS)
)
@settings(max_examples=500)
def test_no_decision_breaks_a_promise(error, left, situation):
    now = situation["now"]
    deadline = None if left is None else now + left
    decision = ask(error, **situation, deadline=deadline)
    if isinstance(decision, GiveUp):
        assert decision.reason
        return
    assert not situation["delivered"]
    assert situation["attempt"] < situation["policy"].max_attempts
    assert deadline is None or now < deadline
    if isinstance(decision, FailOver):
        assert situation["others_left"]
        return
    assert error.retryable
    assert not (situation["others_left"] and error.provider), "it waits needlessly"
    assert 0 <= decision.after <= 120
    assert deadline is None or now + decision.after < deadline
    if error.retry_after is not None and not math.isnan(error.retry_after):
        assert decision.after >= error.retry_after


@pytest.mark.parametrize("kind", all_errors(errors.DuckError))
def test_nothing_is_tried_again_once_the_client_has_a_part_of_the_reply(kind):
    error = kind("it failed", provider="p", retryable=True)
    for others_left in (True, False):
        assert isinstance(ask(error, delivered=True, others_left=others_left), GiveUp)


WITH_TIME = [
    errors.ProviderError,
    errors.BadProviderResponse,
    errors.ProviderTimeout,
    errors.RateLimited,
    errors.Unavailable,
]
ELSEWHERE = [
    errors.ProviderAuthError,
    errors.QuotaExceeded,
    errors.ModelNotFound,
    errors.PermissionDenied,
]
OURS_FOR_A_PROVIDER = [errors.CircuitOpen]
NOWHERE = [
    errors.InvalidRequest,
    errors.ContentFiltered,
    errors.ContextLengthExceeded,
    errors.NotFound,
    errors.Conflict,
    errors.RequestTooLarge,
    errors.Unprocessable,
    errors.BudgetExceeded,
    errors.Cancelled,
    errors.InternalError,
    errors.DeadlineExceeded,
]


@pytest.mark.parametrize("kind", WITH_TIME)
def test_another_provider_is_preferred_to_waiting_for_the_same(kind):
    error = kind("it failed", provider="p", retry_after=3.0)
    assert ask(error, others_left=True) == FailOver()
    assert ask(error, others_left=False) == Retry(3.0)


@pytest.mark.parametrize("kind", [*ELSEWHERE, *OURS_FOR_A_PROVIDER])
def test_what_only_another_provider_can_serve_is_never_asked_of_the_same(kind):
    error = kind("it failed", provider="p")
    assert ask(error, others_left=True) == FailOver()
    assert isinstance(ask(error, others_left=False), GiveUp)


@pytest.mark.parametrize("kind", NOWHERE)
def test_what_no_provider_can_serve_is_not_tried_again(kind):
    error = kind("it failed", provider="p")
    assert isinstance(ask(error, others_left=True), GiveUp)
    assert isinstance(ask(error, others_left=False), GiveUp)


@pytest.mark.parametrize(
    "kind",
    [
        errors.ModelNotFound,
        errors.PermissionDenied,
        errors.QueueFull,
        errors.Unavailable,
    ],
)
def test_our_own_refusal_of_the_request_is_final(kind):
    assert isinstance(ask(kind("it failed"), others_left=True), GiveUp)


def test_the_attempts_are_counted_over_all_providers():
    error = errors.ProviderError("502")
    assert ask(error, attempt=2, others_left=True) == FailOver()
    assert isinstance(ask(error, attempt=3, others_left=True), GiveUp)


def test_retry_after_wins_when_it_is_longer_and_only_then():
    assert ask(errors.RateLimited("429", retry_after=7.0)) == Retry(7.0)
    assert ask(errors.RateLimited("429", retry_after=0.1)) == Retry(0.5)
    assert ask(errors.RateLimited("429", retry_after=0.0)) == Retry(0.5)
    assert ask(errors.RateLimited("429", retry_after=-3.0)) == Retry(0.5)
    assert ask(errors.RateLimited("429", retry_after=math.nan)) == Retry(0.5)


def test_a_retry_after_beyond_two_minutes_is_not_waited_for():
    assert ask(errors.RateLimited("429", retry_after=120.0)) == Retry(120.0)
    error = errors.RateLimited("429", retry_after=120.5)
    assert isinstance(ask(error), GiveUp)
    assert ask(error, others_left=True) == FailOver()


def test_no_retry_starts_after_the_deadline():
    error = errors.ProviderError("502", retry_after=5.0)
    assert ask(error, deadline=105.1) == Retry(5.0)
    assert isinstance(ask(error, deadline=105.0), GiveUp)
    assert ask(error, deadline=105.0, others_left=True) == FailOver()
    assert isinstance(ask(error, deadline=100.0, others_left=True), GiveUp)


@given(st.integers(1, 5000), CHANCES)
def test_jitter_is_full_and_the_delay_doubles_up_to_its_cap(attempt, chance):
    whole = min(10.0, 1.0 * 2 ** min(attempt - 1, 100))
    assert backoff(POLICY, attempt, chance) == pytest.approx(whole * chance)
    steady = RetryPolicy(jitter=False)
    assert backoff(steady, attempt, chance) == whole


def test_a_base_delay_of_zero_is_taken_as_it_is():
    assert ask(
        errors.ProviderError("502"), policy=RetryPolicy(base_delay=0.0)
    ) == Retry(0)
    assert ask(errors.ProviderError("502"), policy=RetryPolicy(max_delay=0.0)) == Retry(
        0
    )


def spend(budget: RetryBudget, now: float) -> RetryBudget | None:
    """Take a retry and send it at once."""
    taken = take(budget, now)
    return None if taken is None else sent(taken, now)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 5), st.sampled_from(["first", "take", "send", "give_back"])
        ),
        max_size=300,
    )
)
@settings(max_examples=150)
def test_in_any_minute_retries_are_ten_and_a_tenth_of_the_first_attempts(steps):
    budget, now, taken = RetryBudget(), 0.0, 0
    minute: deque[tuple[float, bool]] = deque()
    for gap, what in steps:
        now += gap
        if what == "first":
            budget = earn(budget, now)
            minute.append((now, True))
        elif what == "take" and (after := take(budget, now)) is not None:
            budget, taken = after, taken + 1
        elif what == "send" and taken:
            budget, taken = sent(budget, now), taken - 1
            minute.append((now, False))
        elif what == "give_back" and taken:
            budget, taken = give_back(budget), taken - 1
        rest = sum(rests for _, rests in budget.resting)
        assert budget.tenths + budget.taken + rest == 100
        assert budget.taken == taken * 10
        while minute[0][0] <= now - 60 if minute else False:
            minute.popleft()
        firsts = sum(was_first for _, was_first in minute)
        assert len(minute) <= firsts * 1.1 + 10 + 1e-9


def spend_all(budget: RetryBudget, now: float) -> tuple[RetryBudget, int]:
    times = 0
    while (after := spend(budget, now)) is not None:
        budget, times = after, times + 1
    return budget, times


def test_the_reserve_is_ten_and_no_idle_time_makes_it_more():
    budget = RetryBudget()
    for number in range(1000):
        budget = earn(budget, float(number))
    budget, times = spend_all(budget, 5000.0)
    assert times == 10
    for _ in range(9):
        budget = earn(budget, 5000.0)
    assert spend(budget, 5000.0) is None
    assert spend(earn(budget, 5000.0), 5000.0) is not None


@given(st.integers(0, 30), st.lists(st.floats(0, 30), max_size=30))
def test_the_next_retry_is_allowed_when_it_is_said_to_be(firsts, gaps):
    budget, now = RetryBudget(), 0.0
    for gap in gaps:
        now += gap
        budget = spend(budget, now) or budget
    for _ in range(firsts):
        budget = earn(budget, now)
    at = next_retry_at(budget, now)
    if at > now:
        assert spend(budget, at) is None
    assert spend(budget, at + 0.1) is not None


def test_what_was_spent_comes_back_after_a_minute_and_nothing_waits_for_ever():
    budget, _ = spend_all(RetryBudget(), 0.0)
    assert spend(budget, 60.0) is None
    assert spend_all(budget, 60.001)[1] == 10
    half, _ = spend_all(RetryBudget(50, ((30.0, 50),)), 0.0)
    assert spend_all(half, 31.0)[1] == 5


@pytest.mark.parametrize(
    ("field", "value"), [("max_attempts", 0), ("base_delay", -1), ("max_delay", -1)]
)
def test_a_policy_without_sense_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        RetryPolicy(**{field: value})


def test_nothing_is_begun_that_takes_longer_than_there_is_time():
    down = errors.ProviderError("down", provider="p")
    # 5 s are left; a pause without another provider is half a second long.
    left = {"deadline": 105.0}
    for others in (True, False):
        assert isinstance(ask(down, others_left=others, takes=5.0, **left), GiveUp)
        assert not isinstance(ask(down, others_left=others, takes=4.4, **left), GiveUp)
    assert isinstance(ask(down, others_left=True, takes=4.6, **left), FailOver)
    assert isinstance(ask(down, takes=4.6, **left), GiveUp)
    assert isinstance(ask(down, takes=1000.0), Retry), "nobody waits for an end"


def test_a_request_that_is_wrong_for_one_model_may_be_right_for_another():
    wrong = errors.ContextLengthExceeded("too long", provider="p")
    assert isinstance(ask(wrong, others_left=True), GiveUp)
    assert isinstance(ask(wrong, others_left=True, other_model=True), FailOver)
    assert isinstance(ask(wrong, other_model=True), GiveUp)
    assert isinstance(ask(wrong, others_left=True, other_model=True, attempt=3), GiveUp)


def test_early_wakings_lose_no_part_of_the_reserve():
    budget = sent(spent_budget(1), 0.0)
    for _ in range(15):
        budget = earn(budget, 1.0)
        resting = sum(rests for _, rests in budget.resting)
        assert budget.tenths + budget.taken + resting == 100
    assert budget == RetryBudget()


def test_where_ten_retries_rest_the_next_one_is_allowed_when_the_first_wakes():
    budget = spent_budget(10)
    for second in range(10):
        budget = sent(budget, float(second))
    assert spend_all(budget, 61.0)[1] == 1
    for _ in range(9):
        assert next_retry_at(budget, 10.0) == 60.0
        assert take(budget, 60.0) is None
        assert take(budget, math.nextafter(60.0, math.inf)) is not None
        budget = earn(budget, 10.0)
    assert next_retry_at(earn(budget, 10.0), 10.0) == 10.0


def spent_budget(retries: int) -> RetryBudget:
    budget = RetryBudget()
    for _ in range(retries):
        taken = take(budget, 0.0)
        assert taken is not None
        budget = taken
    return budget
