"""The circuit breaker actor: one per provider, around the pure breaker."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from duckservice.actors.board import Board, ProviderBoard
from duckservice.core import circuit_breaker as core
from duckservice.core.circuit_breaker import (
    BreakerPolicy,
    BreakerState,
    Closed,
    Outcome,
    Permit,
)
from duckservice.events import BreakerMoved, EventSink


@attrs.define
class CircuitBreaker:
    """Decides whether requests to one provider may be sent."""

    provider: str
    policy: BreakerPolicy
    _board: ProviderBoard
    _emit: EventSink
    _state: BreakerState
    _clock: Callable[[], float] = trio.current_time

    @classmethod
    def start(
        cls, provider: str, policy: BreakerPolicy, board: Board, emit: EventSink
    ) -> CircuitBreaker:
        """Make the next incarnation; it starts closed, as every new breaker."""
        state: BreakerState = Closed(era=next(board.eras))
        its = board.providers[provider]
        # A provider that somebody disabled stays so, whatever crashes here.
        if isinstance(its.breaker, core.Disabled):
            state = core.disable(state)
        its.breaker = state
        return cls(provider, policy, its, emit, state)

    def admit(self) -> Permit | None:
        """Return a permit for one request, or None to refuse it."""
        state, permit = core.admit(self._state, self.policy, self._clock())
        self._move_to(state)
        return permit

    def settle(self, permit: Permit, outcome: Outcome, latency: float) -> None:
        """Take note of how the request sent with *permit* has ended.

        *latency* is the time to the first of the reply, in seconds.
        """
        now = self._clock()
        self._move_to(core.settle(self._state, self.policy, now, permit, outcome))
        if outcome is not Outcome.NEITHER:
            its = self._board
            health = its.health.rested(now - its.health_at)
            ok = outcome is Outcome.SUCCESS
            its.health, its.health_at = health.update(ok=ok, latency=latency), now

    def enable(self) -> None:
        """Let requests pass again after `disable`."""
        self._move_to(core.enable(self._state))

    def disable(self) -> None:
        """Refuse everything until `enable`."""
        self._move_to(core.disable(self._state))

    def reset(self) -> None:
        """Forget the failures: close, unless disabled."""
        self._move_to(core.reset(self._state))

    def _move_to(self, state: BreakerState) -> None:
        if state is self._state:
            return
        before, self._state = self._state, state
        self._board.breaker = state
        was, is_ = core.phase_name(before), core.phase_name(state)
        if was != is_:
            self._emit(BreakerMoved(provider=self.provider, was=was, now=is_))
