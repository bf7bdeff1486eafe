"""What becomes of a job after an error: it waits, tries again, or is over; pure.

nobody was asked, or the provider said "later"   Snooze: no attempt is used up
it may pass, and an attempt is left              Fail, with a time
everything else                                  Fail, without: discarded
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import attrs

from duckservice.core import retry
from duckservice.core.job import JobError
from duckservice.core.retry import RETRY_AFTER_MAX, RetriesSpent, RetryPolicy
from duckservice.errors import (
    BudgetExceeded,
    CircuitOpen,
    Draining,
    DuckError,
    NoAvailableProvider,
    ProviderError,
    QueueFull,
    RateLimited,
    Unavailable,
)
from duckservice.store.job_values import Fail, Snooze

PAUSE = 1.0
"""Seconds that a job waits where nobody says how long."""
BUDGET_PAUSE = 60.0
"""The same for a budget that never begins anew: only a larger one lets it run."""


@attrs.frozen(kw_only=True)
class Situation:
    """Where the job stands."""

    now: float
    """Seconds since the epoch."""
    attempts: int
    """Used up so far."""
    attempts_max: int
    policy: RetryPolicy
    chance: float
    """Random in [0, 1)."""
    attempts_before: int = 0
    """Used up when the job was begun anew: pauses begin with the shortest again."""


def after(error: DuckError, where: Situation) -> Snooze | Fail:
    """Return what becomes of a job whose run has ended with *error*."""
    leaves = list(_leaves(error))
    waits = [_snooze(leaf, where) for leaf in leaves]
    snoozes = [wait for wait in waits if wait is not None]
    if len(snoozes) == len(leaves) and where.attempts < where.attempts_max:
        return min(snoozes, key=lambda wait: wait.until)
    return Fail(error=_told(error, where), retry_at=_retry_at(error, leaves, where))


def counts(error: DuckError | None) -> bool:
    """Say whether an attempt that ended with *error* was one.

    A 429 was not, nor what a breaker has stopped after it was written down.
    """
    return not (isinstance(error, RateLimited | CircuitOpen) and error.retryable)


def _leaves(error: DuckError) -> Iterator[DuckError]:
    cause = error.__cause__
    if isinstance(error, NoAvailableProvider) and isinstance(cause, ExceptionGroup):
        for each in cast("ExceptionGroup[Exception]", cause).exceptions:
            if isinstance(each, DuckError):
                yield from _leaves(each)
    else:
        yield error


def _snooze(error: DuckError, where: Situation) -> Snooze | None:
    reason = _why(error)
    if reason is None:
        return None
    unknown = BUDGET_PAUSE if isinstance(error, BudgetExceeded) else PAUSE
    asked = unknown if error.retry_after is None else error.retry_after
    # A hint that is no number is none: it comes off the wire.
    pause = asked if asked > 0 else PAUSE
    if isinstance(error, ProviderError):
        pause = min(pause, RETRY_AFTER_MAX)
    return Snooze(until=where.now + pause, reason=reason)


def _why(error: DuckError) -> str | None:
    """Return what a job waits for that *error* stopped, None if waiting is no answer."""
    match error:
        case RateLimited(retryable=True):
            return f"rate_limited:{error.provider}"
        case CircuitOpen():
            return f"breaker_open:{error.provider}" if error.provider else "queued"
        case QueueFull():
            return f"concurrency:{error.provider}" if error.provider else "queued"
        case BudgetExceeded(retryable=True, budget=str(name)):
            return f"budget:{name}"
        case Draining():
            return "queued"
        case RetriesSpent():
            return "retry_backoff"
        case Unavailable(provider=None):
            return "queued"
        case _:
            return None


def _retry_at(
    error: DuckError, leaves: list[DuckError], where: Situation
) -> float | None:
    if where.attempts >= where.attempts_max:
        return None
    if not any(_time_may_help(leaf) for leaf in leaves):
        return None
    lately = where.attempts - where.attempts_before
    pause = retry.backoff(where.policy, max(1, lately), where.chance)
    asked = error.retry_after
    if asked is not None and asked > pause:
        pause = asked
    return where.now + pause


def _time_may_help(error: DuckError) -> bool:
    match error:
        case ProviderError() | Unavailable() | CircuitOpen() | QueueFull():
            return error.retryable
        case _:
            return False


def _told(error: DuckError, where: Situation) -> JobError:
    return JobError(
        at=where.now,
        attempt=where.attempts,
        code=error.code,
        message=error.message,
        provider=error.provider,
    )
