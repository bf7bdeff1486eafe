"""The circuit breaker as a value: no clock, no task, no I/O.

    Closed    failure_threshold failures in a row   -> Open
    Closed    too large a part of the window failed -> Open
    Closed    too large a part of it was slow       -> Open
    Open      reset_timeout passes, a request comes -> HalfOpen, with one probe out
    HalfOpen  success_threshold probes succeed      -> Closed
    HalfOpen  so they do, too many of them slowly   -> Open
    HalfOpen  one probe fails                       -> Open
    any       disable                               -> Disabled
    Disabled  enable                                -> Closed

The window (see `breaker_window`) is the closed breaker's: each starts with an
empty one, and the probes are judged by themselves.

Each trip and each recovery starts a new era. A permit remembers its era, and a
probe's permit its serial number within that era, so neither the late end of an
old request nor the late end of an expired probe says anything about the
provider of today. An open breaker gives no permits, so half open shares its era.

A breaker that is made anew must start in an era that was never used before
(``Closed(era=n)``), or permits of its predecessor would count. So must each of
several breakers side by side, as a provider has if each of its models has one.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, TypeAlias, assert_never

import attrs

from duckservice.core.breaker_policy import BreakerPolicy, why_open
from duckservice.core.breaker_window import NOTHING, Window
from duckservice.errors import (
    DuckError,
    ProviderAuthError,
    ProviderError,
    QuotaExceeded,
    RateLimited,
)


class Outcome(Enum):
    """How a request has ended, as far as the provider's health is concerned."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEITHER = "neither"
    """Cancelled, or the request's own fault: says nothing about the provider."""


@attrs.frozen
class Closed:
    """Requests pass; failures are counted, in a row and in the window."""

    era: int = 0
    failures: int = 0
    """In a row."""
    window: Window = NOTHING


@attrs.frozen
class Open:
    """Requests are refused until the given time."""

    era: int
    until: float
    why: str = ""
    """What has opened it, in words."""


@attrs.frozen
class Probe:
    """One request that finds out whether the provider is back."""

    serial: int
    expires_at: float


@attrs.frozen
class HalfOpen:
    """A few requests pass, as probes; successes are counted."""

    era: int
    places: int
    """So many probes may be out now."""
    successes: int = 0
    probes: tuple[Probe, ...] = ()
    """Those that are out."""
    last_serial: int = 0
    slow: int = 0
    """So many of the successes were slow."""


@attrs.frozen
class Disabled:
    """Requests are refused until somebody enables the provider again."""

    era: int


BreakerState: TypeAlias = Closed | Open | HalfOpen | Disabled
PhaseName: TypeAlias = Literal["closed", "open", "half_open", "disabled"]


@attrs.frozen
class Permit:
    """The leave to send one request; give it back with `settle`, once."""

    era: int
    serial: int = 0
    """Names the probe; 0 where the breaker was closed."""
    scope: str = ""
    """The model whose breaker gave it; empty if that is the provider's own."""


def admit(
    state: BreakerState, policy: BreakerPolicy, now: float
) -> tuple[BreakerState, Permit | None]:
    """Return the next state, and a permit if a request may be sent now."""
    match state:
        case Closed():
            return state, Permit(state.era)
        case Open():
            if now < state.until:
                return state, None
            fresh = HalfOpen(state.era, places=_places(policy, successes=0))
            return _probe(fresh, policy, now)
        case HalfOpen():
            return _probe(state, policy, now)
        case Disabled():
            return state, None
        case _:
            assert_never(state)


def settle(
    state: BreakerState,
    policy: BreakerPolicy,
    now: float,
    permit: Permit,
    outcome: Outcome,
    *,
    slow: bool = False,
) -> BreakerState:
    """Return the state after the request sent with *permit* has ended.

    Permits of an earlier era and of expired probes change nothing. Whether it was
    *slow* matters only where the policy says what slow is.
    """
    if not stands(state, now, permit):
        return state
    match state:
        case Closed():
            return _count(state, policy, now, outcome, slow=slow)
        case HalfOpen():
            return _judge(state, policy, now, permit, outcome, slow=slow)
        case Open() | Disabled():
            return state
        case _:
            assert_never(state)


def stands(state: BreakerState, now: float, permit: Permit) -> bool:
    """Say whether a request may be sent with *permit*, and its end will count.

    The breaker may have moved since it was given, or its probe have expired.
    """
    if permit.era != state.era:
        return False
    match state:
        case Closed():
            return True
        case HalfOpen():
            live = outstanding(state, now)
            return any(probe.serial == permit.serial for probe in live)
        case Open() | Disabled():
            # Neither gives permits in its era, so this one was made up.
            return False
        case _:
            assert_never(state)


def eligible(state: BreakerState, now: float) -> bool:
    """Say whether `admit` would give a permit, without asking for one.

    An open breaker whose time is up is eligible: if routing passed it over,
    nobody would ever find out that the provider is back.
    """
    match state:
        case Closed():
            return True
        case Open():
            return now >= state.until
        case HalfOpen():
            return len(outstanding(state, now)) < state.places
        case Disabled():
            return False
        case _:
            assert_never(state)


def outstanding(state: HalfOpen, now: float) -> tuple[Probe, ...]:
    """Return the probes that are out and have not expired."""
    return tuple(probe for probe in state.probes if now < probe.expires_at)


def retry_at(state: BreakerState) -> float | None:
    """Return when it is worth asking again, for who was refused.

    None where time alone changes nothing: the breaker refuses nobody (closed,
    half open with a free place), or refuses until it is enabled (disabled).
    """
    match state:
        case Open():
            return state.until
        case HalfOpen() if len(state.probes) >= state.places:
            return min(probe.expires_at for probe in state.probes)
        case Closed() | HalfOpen() | Disabled():
            return None
        case _:
            assert_never(state)


def reset(state: BreakerState) -> BreakerState:
    """Return a closed breaker in a new era; a disabled one stays disabled."""
    return state if isinstance(state, Disabled) else Closed(state.era + 1)


def disable(state: BreakerState) -> BreakerState:
    """Return a breaker that refuses everything, however the requests under way end."""
    return state if isinstance(state, Disabled) else Disabled(state.era + 1)


def enable(state: BreakerState) -> BreakerState:
    """Return a closed breaker if it was disabled; others stay as they are."""
    return Closed(state.era + 1) if isinstance(state, Disabled) else state


def phase_name(state: BreakerState) -> PhaseName:
    """Return the state's name, as the API shows it."""
    match state:
        case Closed():
            return "closed"
        case Open():
            return "open"
        case HalfOpen():
            return "half_open"
        case Disabled():
            return "disabled"
        case _:
            assert_never(state)


def outcome_of(error: DuckError | None) -> Outcome:
    """Return what *error* (None: success) says about the provider's health.

    429 is the limiter's business, 401 the key's, other 4xx the request's or the
    config's: a provider that refuses is up. Two of them do count: 408, which is
    a timeout, and a used up quota, with which every request will fail.
    """
    match error:
        case None:
            return Outcome.SUCCESS
        case QuotaExceeded():
            return Outcome.FAILURE
        case RateLimited() | ProviderAuthError():
            return Outcome.NEITHER
        case ProviderError():
            refused = _is_refusal(error.upstream_status)
            return Outcome.NEITHER if refused else Outcome.FAILURE
        case _:
            return Outcome.NEITHER


def _is_refusal(status: int | None) -> bool:
    return status is not None and 400 <= status < 500 and status != 408


def _count(
    state: Closed, policy: BreakerPolicy, now: float, outcome: Outcome, *, slow: bool
) -> Closed | Open:
    if outcome is Outcome.NEITHER:
        return state
    failed = outcome is Outcome.FAILURE
    failures = state.failures + 1 if failed else 0
    window = state.window
    if policy.has_rates:
        window = window.add(now, policy.window, failed=failed, slow=slow)
    elif failures == state.failures:
        return state
    why = why_open(policy, failures, window)
    if why is not None:
        return _open(state, policy, now, why)
    return Closed(state.era, failures, window)


def _judge(
    state: HalfOpen,
    policy: BreakerPolicy,
    now: float,
    permit: Permit,
    outcome: Outcome,
    *,
    slow: bool,
) -> Closed | HalfOpen | Open:
    live = outstanding(state, now)
    others = tuple(probe for probe in live if probe.serial != permit.serial)
    match outcome:
        case Outcome.NEITHER:
            return attrs.evolve(state, probes=others)
        case Outcome.FAILURE:
            return _open(state, policy, now, "a probe failed")
        case Outcome.SUCCESS:
            successes = state.successes + 1
            slow_ones = state.slow + slow
            if successes < policy.success_threshold:
                return attrs.evolve(
                    state,
                    places=_places(policy, successes=successes),
                    successes=successes,
                    probes=others,
                    slow=slow_ones,
                )
            if policy.slow_call is None or slow_ones / successes < policy.slow_rate:
                return Closed(state.era + 1)
            # Closed, it would soon open again for the same reason.
            why = f"slow calls: {slow_ones} of {successes} probes"
            return _open(state, policy, now, why)
        case _:
            assert_never(outcome)


def _open(
    state: Closed | HalfOpen, policy: BreakerPolicy, now: float, why: str
) -> Open:
    return Open(state.era + 1, until=now + policy.reset_timeout, why=why)


def _probe(
    state: HalfOpen, policy: BreakerPolicy, now: float
) -> tuple[HalfOpen, Permit | None]:
    # A probe whose sender vanished without a word is forgotten here: waiting
    # for it would keep the breaker half open for ever.
    live = outstanding(state, now)
    if len(live) >= state.places:
        # Only a few probes may find out whether the provider is back: a herd
        # would take it down again.
        return state, None
    probe = Probe(state.last_serial + 1, expires_at=now + policy.probe_timeout)
    state = attrs.evolve(state, probes=(*live, probe), last_serial=probe.serial)
    return state, Permit(state.era, probe.serial)


def _places(policy: BreakerPolicy, *, successes: int) -> int:
    # Successes hold places too, as long as enough remain to reach the
    # threshold: probes that cannot matter any more are not sent.
    most = max(policy.half_open_max, policy.success_threshold)
    return min(policy.half_open_max, most - successes)
