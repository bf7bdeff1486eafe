"""What is remembered of breakers: of how many models, and after a crash.

Clients choose the names of models, so their number must be bounded. Who makes room
for a new one, the one that nobody has asked for the longest time first:

    closed, and nothing bad is known of it
    closed
    its rest is over, no probe is out, and nobody has come to try it

One that rests, or waits for a probe, is never forgotten: that would let requests
pass before its time is up. If there are only such, the models that find no place
are judged together, by the provider's own breaker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

from duckservice.core.breaker_policy import BreakerPolicy
from duckservice.core.circuit_breaker import (
    BreakerState,
    Closed,
    Disabled,
    HalfOpen,
    Open,
    outstanding,
)

MODELS_MAX = 256
"""So many models of a provider have a breaker of their own."""


def breaker_to_forget(
    breakers: Mapping[str, BreakerState], policy: BreakerPolicy, now: float
) -> str | None:
    """Return the model whose breaker makes room; None if none can be forgotten.

    The order of *breakers* is that in which they were last asked.
    """
    found: tuple[int, str] | None = None
    for model, state in breakers.items():
        worth = _worth(state, policy, now)
        if worth is not None and (found is None or worth < found[0]):
            found = worth, model
    return None if found is None else found[1]


def revive(
    state: BreakerState,
    policy: BreakerPolicy,
    now: float,
    eras: Iterator[int],
    *,
    trusted: bool = True,
) -> BreakerState:
    """Return the state for the next incarnation of an actor that has crashed.

    What rests goes on resting and probes go on being out, in their era: what is
    under way still counts. A closed breaker is made anew. A half open one that is
    not *trusted*, as it may be what crashes the actor, rests anew until its last
    probe is back or has expired.
    """
    match state:
        case Closed():
            return Closed(next(eras))
        case HalfOpen() if not trusted:
            expire = [probe.expires_at for probe in outstanding(state, now)]
            until = max([now + policy.reset_timeout, *expire])
            return Open(next(eras), until, why="its actor crashes again and again")
        case Open() | HalfOpen() | Disabled():
            return state
        case _:
            assert_never(state)


def _worth(state: BreakerState, policy: BreakerPolicy, now: float) -> int | None:
    match state:
        case Closed():
            window = state.window.at(now, policy.window)
            quiet = not (state.failures or window.failures or window.slow)
            return 0 if quiet else 1
        case Open() if now >= state.until:
            return 2
        case HalfOpen() if not outstanding(state, now):
            return 2
        case _:
            return None
