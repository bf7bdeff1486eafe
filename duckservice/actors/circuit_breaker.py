"""The circuit breaker actor: one per provider, around the pure breakers.

A provider has one breaker, or one for each model (see `breaker_scopes`). Their
states are on the board and nowhere else, so routing sees what they are and a
crash of the actor loses none: what rests goes on resting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import trio

from duckservice.actors.board import ProviderBoard
from duckservice.core import breaker_scopes, breaker_words, circuit_breaker as core
from duckservice.core.breaker_policy import BreakerPolicy
from duckservice.core.circuit_breaker import BreakerState, Closed, Outcome, Permit
from duckservice.core.route import Health
from duckservice.events import BreakerMoved, EventSink

#: Starts without a move in between, after which a half open breaker is suspected
#: of being what crashes the actor.
_STARTS_TRUSTED = 2


@attrs.define(eq=False)
class CircuitBreaker:
    """Decides whether requests to one provider may be sent."""

    provider: str
    _board: ProviderBoard
    _eras: Iterator[int]
    _emit: EventSink
    _models_max: int = breaker_scopes.MODELS_MAX
    _clock: Callable[[], float] = trio.current_time

    @classmethod
    def start(
        cls, board: ProviderBoard, eras: Iterator[int], emit: EventSink
    ) -> CircuitBreaker:
        """Make the next incarnation, which goes on from what is on the board.

        Closed breakers start anew: they forget what they have counted.
        """
        its = cls(board.name, board, eras, emit)
        its.revive()
        return its

    @property
    def policy(self) -> BreakerPolicy:
        """When it opens, and how it closes again; a reload may change it."""
        return self._board.policy

    def revive(self) -> None:
        """Go on where the last incarnation was."""
        its, now = self._board, self._clock()
        its.breaker_starts += 1
        trusted = its.breaker_starts <= _STARTS_TRUSTED
        for scope, state in {"": its.breaker, **its.breakers}.items():
            revived = breaker_scopes.revive(
                state, self.policy, now, self._eras, trusted=trusted
            )
            self._move(scope, revived)
        if not self._board.by_model:
            self._forget_models("closed", "all models are judged together now")

    def change_scope(self) -> None:
        """Judge each model by itself, or all of them together; it begins anew."""
        self._move("", core.reset(self._board.breaker), "it is judged otherwise now")
        self._forget_models("closed", "it is judged otherwise now")

    def start_over(self) -> None:
        """Forget how the provider was: it is another server now. Disabled it stays."""
        self._move("", core.reset(self._board.breaker), "it has another address")
        self._forget_models("closed", "it has another address")
        self._board.health = Health()

    def admit(self, model: str = "") -> Permit | None:
        """Return a permit for one request for *model*, or None to refuse it."""
        now = self._clock()
        scope = self._scope(model, now)
        state, permit = core.admit(self._state(scope), self.policy, now)
        self._move(scope, state)
        if permit is None or not scope:
            return permit
        return attrs.evolve(permit, scope=scope)

    def settle(
        self,
        permit: Permit,
        outcome: Outcome,
        latency: float,
        *,
        timed_out: bool = False,
    ) -> None:
        """Take note of how the request sent with *permit* has ended.

        *latency* is the time to the first of the reply, in seconds. What *timed
        out* is slow, however soon the reply began.
        """
        its, now = self._board, self._clock()
        limit, scope = self.policy.slow_call, permit.scope
        slow = limit is not None and (timed_out or latency > limit)
        if not scope or scope in its.breakers:
            before = self._state(scope)
            state = core.settle(before, self.policy, now, permit, outcome, slow=slow)
            self._move(scope, state)
        if outcome is not Outcome.NEITHER:
            health = its.health.rested(now - its.health_at, self.policy.reset_timeout)
            ok = outcome is Outcome.SUCCESS
            its.health, its.health_at = health.update(ok=ok, latency=latency), now

    def enable(self) -> None:
        """Let requests pass again after `disable`."""
        self._move("", core.enable(self._board.breaker), "enabled by hand")

    def disable(self) -> None:
        """Refuse everything, whatever the model, until `enable`."""
        self._move("", core.disable(self._board.breaker), "disabled by hand")
        self._forget_models("disabled", "disabled by hand")

    def reset(self) -> None:
        """Forget the failures, of all models: close, unless disabled."""
        self._move("", core.reset(self._board.breaker), "reset by hand")
        self._forget_models("closed", "reset by hand")

    def _scope(self, model: str, now: float) -> str:
        """Return the name of the breaker for *model*, making it if need be."""
        its = self._board
        if not its.by_model or isinstance(its.breaker, core.Disabled):
            return ""
        state = its.breakers.pop(model, None)
        if state is not None:
            its.breakers[model] = state  # the last to have been asked is the last
            return model
        if len(its.breakers) >= self._models_max:
            forgotten = breaker_scopes.breaker_to_forget(its.breakers, self.policy, now)
            if forgotten is None:
                return ""
            self._tell(forgotten, its.breakers.pop(forgotten), "closed", "forgotten")
        its.breakers[model] = Closed(next(self._eras))
        return model

    def _state(self, scope: str) -> BreakerState:
        return self._board.breakers[scope] if scope else self._board.breaker

    def _move(self, scope: str, state: BreakerState, why: str = "") -> None:
        its, before = self._board, self._state(scope)
        if state is before:
            return
        if scope:
            its.breakers[scope] = state
        else:
            its.breaker = state
        self._tell(
            scope, before, core.phase_name(state), why or breaker_words.why_moved(state)
        )

    def _forget_models(self, now: core.PhaseName, why: str) -> None:
        its = self._board
        forgotten, its.breakers = its.breakers, {}
        for model, state in forgotten.items():
            self._tell(model, state, now, why)

    def _tell(
        self, scope: str, before: BreakerState, now: core.PhaseName, why: str
    ) -> None:
        was = core.phase_name(before)
        if was == now:
            return
        self._board.breaker_starts = 0
        self._emit(
            BreakerMoved(provider=self.provider, model=scope, was=was, now=now, why=why)
        )
