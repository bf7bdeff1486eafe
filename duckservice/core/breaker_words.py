"""Why a breaker is in its state, in words for the log and for who is refused."""

from __future__ import annotations

from typing import assert_never

from duckservice.core.circuit_breaker import (
    BreakerState,
    Closed,
    Disabled,
    HalfOpen,
    Open,
)


def why_moved(state: BreakerState) -> str:
    """Return what has brought a breaker to *state*, if nobody did it by hand."""
    match state:
        case Closed():
            return "enough probes succeeded"
        case Open():
            return state.why
        case HalfOpen():
            return "its rest is over"
        case Disabled():
            return "disabled by hand"
        case _:
            assert_never(state)


def why_refused(state: BreakerState) -> str:
    """Return why a breaker in *state* refuses, or did so a moment ago."""
    match state:
        case Closed() | HalfOpen():
            return "others are finding out whether it is back"
        case Open():
            return state.why or "it has failed too often"
        case Disabled():
            return "it is disabled"
        case _:
            assert_never(state)
