"""What to do after a failed attempt: ask again, ask another provider, or give up.

    delivered, out of attempts, no time for another   -> GiveUp
    the provider's fault (key, quota, model, 5xx, 429) and another is left -> FailOver
    may pass with time (5xx, timeout, 429)            -> Retry, after a pause
    everything else                                   -> GiveUp

Another provider is always preferred to waiting for the same one.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs
from attrs.validators import ge

from duckservice.errors import (
    DuckError,
    ModelNotFound,
    PermissionDenied,
    ProviderError,
    ServiceError,
    Unavailable,
)

RETRY_AFTER_MAX = 120.0
"""A provider that asks for a longer pause (seconds) is not waited for."""


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often and how fast; times are in seconds."""

    max_attempts: int = attrs.field(default=3, validator=ge(1))
    """Of one request, the first included, over all providers."""
    base_delay: float = attrs.field(default=1.0, validator=ge(0))
    max_delay: float = attrs.field(default=10.0, validator=ge(0))
    jitter: bool = True


@attrs.frozen
class Retry:
    """Ask the same provider again."""

    after: float
    """Seconds from now."""


@attrs.frozen
class FailOver:
    """Ask the next provider, at once."""


@attrs.frozen
class GiveUp:
    """The error is the answer."""

    reason: str


Decision: TypeAlias = Retry | FailOver | GiveUp


def decide(
    error: DuckError,
    *,
    attempt: int,
    policy: RetryPolicy,
    chance: float,
    now: float,
    deadline: float | None,
    others_left: bool,
    delivered: bool,
    takes: float = 0.0,
    other_model: bool = False,
) -> Decision:
    """Return what to do after attempt number *attempt* (from 1) ended with *error*.

    *chance* is random in [0, 1). *others_left* says whether another provider can
    be asked, *delivered* whether the client has got a part of the reply already.
    Another attempt *takes* so many seconds at least, as far as is known. With
    *other_model* those who are left are asked for a model that suits the request
    better, so that its own fault need not be the end.
    """
    if delivered:
        return GiveUp("a part of the reply was delivered")
    if attempt >= policy.max_attempts:
        return GiveUp("no attempt left")
    if deadline is not None and now >= deadline:
        return GiveUp("the deadline has passed")
    if deadline is not None and now + takes >= deadline:
        return GiveUp("no attempt would end before the deadline")
    if others_left and (other_model or _another_may_serve(error)):
        return FailOver()
    if not _time_may_help(error):
        return GiveUp("trying again would not help")
    until = None if deadline is None else deadline - takes
    return _retry(error, attempt, policy, chance, now, until)


def backoff(policy: RetryPolicy, attempt: int, chance: float) -> float:
    """Return the seconds to wait after attempt number *attempt* (from 1).

    Full jitter: anything from nothing to the whole delay, so that those who
    failed together do not come back together.
    """
    # Beyond 2**1000 there is no float, and no delay that the cap would not cut.
    doubled = policy.base_delay * 2.0 ** min(attempt - 1, 1000)
    delay = min(policy.max_delay, doubled)
    return delay * chance if policy.jitter else delay


@attrs.frozen
class RetryBudget:
    """Retries of one provider: one for ten first attempts, and ten in reserve.

    A retry is taken when it is decided on, and rests for a minute from when it is
    sent: it may have to stand in line. A first attempt wakes a tenth of a retry early.
    In any 60 s there are thus at most 10 retries and a tenth of the first attempts,
    however many requests fail: retries cannot keep a provider down. And nothing that
    waits for a retry waits for ever, even where nothing else is sent.
    """

    tenths: int = 100
    """What can be taken; with what is taken and what rests, it is always 100."""
    resting: tuple[tuple[float, int], ...] = ()
    """When what was sent comes back, and how much; the earliest first."""
    taken: int = 0
    """For retries that are not sent yet."""


_TENTHS_PER_RETRY = 10
_REST = 60.0


def earn(budget: RetryBudget, now: float) -> RetryBudget:
    """Return the budget after a first attempt."""
    budget = _woken(budget, now)
    if not budget.resting:
        return budget
    (until, rests), *later = budget.resting
    first = ((until, rests - 1),) if rests > 1 else ()
    return RetryBudget(budget.tenths + 1, (*first, *later), budget.taken)


def take(budget: RetryBudget, now: float) -> RetryBudget | None:
    """Return the budget without a retry, or None if there must not be one.

    It ends with `sent`, or with `give_back`.
    """
    budget = _woken(budget, now)
    tenths = budget.tenths - _TENTHS_PER_RETRY
    if tenths < 0:
        return None
    return RetryBudget(tenths, budget.resting, budget.taken + _TENTHS_PER_RETRY)


def sent(budget: RetryBudget, now: float) -> RetryBudget:
    """Return the budget after a retry that was taken is sent."""
    budget = _woken(budget, now)
    taken = budget.taken - _TENTHS_PER_RETRY
    assert taken >= 0, "nobody has taken it"
    resting = (*budget.resting, (now + _REST, _TENTHS_PER_RETRY))
    return RetryBudget(budget.tenths, resting, taken)


def give_back(budget: RetryBudget) -> RetryBudget:
    """Return the budget after a retry that was taken will not be sent."""
    taken = budget.taken - _TENTHS_PER_RETRY
    assert taken >= 0, "nobody has taken it"
    return RetryBudget(budget.tenths + _TENTHS_PER_RETRY, budget.resting, taken)


def next_retry_at(budget: RetryBudget, now: float) -> float:
    """Return when `take` will next allow a retry, if nothing else is sent."""
    budget = _woken(budget, now)
    tenths, at = budget.tenths, now
    for until, rests in budget.resting:
        if tenths >= _TENTHS_PER_RETRY:
            break
        tenths, at = tenths + rests, until
    return at


class RetriesSpent(Unavailable):
    """A retry has to wait: too many requests of its provider are being repeated."""


def _woken(budget: RetryBudget, now: float) -> RetryBudget:
    if not budget.resting or budget.resting[0][0] >= now:
        return budget
    resting = tuple(each for each in budget.resting if each[0] >= now)
    woken = sum(rests for _, rests in budget.resting[: -len(resting) or None])
    return RetryBudget(budget.tenths + woken, resting, budget.taken)


def _another_may_serve(error: DuckError) -> bool:
    match error:
        case ProviderError():
            return True
        case ModelNotFound() | PermissionDenied():
            # From a provider: it lacks the model, or our key for it may not use it.
            return error.provider is not None
        case ServiceError():
            # Our own refusal on behalf of one provider: its breaker, its actors.
            return error.provider is not None and error.retryable
        case _:
            return error.retryable


def _time_may_help(error: DuckError) -> bool:
    match error:
        case Unavailable(provider=str()):
            # One provider's client was restarted, with our request in its hands.
            return error.retryable
        case ServiceError():
            # What duckservice itself refuses is for the client to repeat: waiting
            # here would only hide the overload.
            return False
        case _:
            return error.retryable


def _retry(
    error: DuckError,
    attempt: int,
    policy: RetryPolicy,
    chance: float,
    now: float,
    until: float | None,
) -> Retry | GiveUp:
    after = backoff(policy, attempt, chance)
    # A hint that is no number, or negative, is none: it comes off the wire.
    if error.retry_after is not None and error.retry_after > after:
        after = error.retry_after
    if after > RETRY_AFTER_MAX:
        return GiveUp("the provider asks for too long a pause")
    if until is not None and now + after >= until:
        return GiveUp("the deadline would pass before the next attempt has ended")
    return Retry(after)
