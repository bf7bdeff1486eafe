"""How a provider's breakers are, as the API shows it."""

from __future__ import annotations

from typing import Any, TypeAlias

from duckservice.actors.board import ProviderBoard
from duckservice.core.breaker_words import why_refused
from duckservice.core.circuit_breaker import (
    BreakerState,
    Closed,
    Open,
    phase_name,
)

Json: TypeAlias = dict[str, Any]


def breaker_fields(its: ProviderBoard, now: float) -> Json:
    """Return the provider's own breaker, and that of each model which has one.

    ``breaker`` is for the models that have none of their own: where each has one
    that is all that nobody has asked for yet. ``breakers`` names the others.
    """
    return {
        **_fields(its.breaker, now),
        "enabled": phase_name(its.breaker) != "disabled",
        "breakers": {
            model: _fields(state, now) for model, state in sorted(its.breakers.items())
        },
    }


def _fields(state: BreakerState, now: float) -> Json:
    closed = isinstance(state, Closed)
    return {
        "breaker": phase_name(state),
        "breaker_why": None if closed else why_refused(state),
        "breaker_wait_s": round(max(0.0, state.until - now), 3)
        if isinstance(state, Open)
        else None,
    }
