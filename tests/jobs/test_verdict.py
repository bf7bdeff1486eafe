"""What becomes of a job after an error."""

from __future__ import annotations

import pytest

from duckservice.core.retry import RetriesSpent, RetryPolicy
from duckservice.errors import (
    BudgetExceeded,
    CircuitOpen,
    InternalError,
    InvalidRequest,
    NoAvailableProvider,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    QueueFull,
    RateLimited,
    Unavailable,
)
from duckservice.jobs.verdict import PAUSE, Situation, after
from duckservice.store.base import Fail, Snooze

NOW = 1000.0


def at(attempts: int = 1, attempts_max: int = 3) -> Situation:
    policy = RetryPolicy(base_delay=4.0, max_delay=60.0, jitter=False)
    return Situation(
        now=NOW,
        attempts=attempts,
        attempts_max=attempts_max,
        policy=policy,
        chance=0.5,
    )


def no_provider(*errors: Exception) -> NoAvailableProvider:
    verdict = NoAvailableProvider("none")
    verdict.__cause__ = ExceptionGroup("all", list(errors))
    return verdict


LATER = RateLimited("later", provider="a", retry_after=20.0)
OPEN = CircuitOpen("open", provider="b", retry_after=9.0)
EMPTY = BudgetExceeded("empty", retry_after=5000.0, retryable=True)
EMPTY.budget = "daily"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (LATER, Snooze(until=NOW + 20, reason="rate_limited:a")),
        (OPEN, Snooze(until=NOW + 9, reason="breaker_open:b")),
        (EMPTY, Snooze(until=NOW + 5000, reason="budget:daily")),
        (QueueFull("full"), Snooze(until=NOW + PAUSE, reason="queued")),
        (Unavailable("restarting"), Snooze(until=NOW + PAUSE, reason="queued")),
        (
            RetriesSpent("repeated", retry_after=60.1),
            Snooze(until=NOW + 60.1, reason="retry_backoff"),
        ),
        (no_provider(LATER, OPEN), Snooze(until=NOW + 9, reason="breaker_open:b")),
        (
            RateLimited("late", provider="a", retry_after=1e9),
            Snooze(until=NOW + 120, reason="rate_limited:a"),
        ),
        (
            RateLimited("late", provider="a", retry_after=float("nan")),
            Snooze(until=NOW + PAUSE, reason="rate_limited:a"),
        ),
    ],
)
def test_what_is_no_fault_of_the_job_makes_it_wait(error, outcome):
    assert after(error, at()) == outcome


@pytest.mark.parametrize(
    ("error", "retry_at"),
    [
        (ProviderError("500", provider="a"), NOW + 4),
        (ProviderTimeout("slow", provider="a"), NOW + 4),
        (ProviderError("503", provider="a", retry_after=30.0), NOW + 30),
        (no_provider(ProviderError("500", provider="a"), OPEN), NOW + 4),
        (Unavailable("client restarted", provider="a"), NOW + 4),
        (ProviderAuthError("key", provider="a"), None),
        (InvalidRequest("bad", provider="a"), None),
        (InternalError("bug"), None),
        (BudgetExceeded("its own limit"), None),
        (RateLimited("never fits", provider="a", retryable=False), None),
    ],
)
def test_a_failure_is_tried_again_if_time_may_help(error, retry_at):
    outcome = after(error, at())
    assert isinstance(outcome, Fail)
    assert outcome.retry_at == retry_at
    assert outcome.error.code == error.code


def test_pauses_grow_with_the_attempts():
    error = ProviderError("500", provider="a")
    pauses = [after(error, at(n, 9)).retry_at - NOW for n in range(1, 6)]
    assert pauses == [4, 8, 16, 32, 60]


@pytest.mark.parametrize("error", [ProviderError("500", provider="a"), OPEN])
def test_with_no_attempt_left_the_job_is_over(error):
    outcome = after(error, at(3))
    assert isinstance(outcome, Fail)
    assert outcome.retry_at is None


@pytest.mark.parametrize(
    ("errors", "retry_at"),
    [
        ((ProviderError("down"), ProviderAuthError("key")), NOW + 4),
        ((ProviderAuthError("key"), ProviderError("down")), NOW + 4),
        ((ProviderAuthError("key"), ProviderAuthError("key")), None),
        ((LATER, ProviderError("down")), NOW + 4),
    ],
)
def test_where_many_were_asked_one_whom_time_may_help_is_enough(errors, retry_at):
    outcome = after(no_provider(*errors), at())
    assert isinstance(outcome, Fail)
    assert outcome.retry_at == retry_at


def test_an_open_breaker_that_nobody_names_leaves_the_job_in_the_queue():
    outcome = after(CircuitOpen("open", retry_after=9.0), at())
    assert outcome == Snooze(until=NOW + 9, reason="queued")


def test_a_failure_tells_whose_it_was_and_a_longer_pause_that_it_asks_for():
    outcome = after(ProviderError("down", provider="a", retry_after=30.0), at())
    assert isinstance(outcome, Fail)
    assert (outcome.error.provider, outcome.error.code) == ("a", "provider_error")
    assert outcome.retry_at == NOW + 30
