"""When a run is stuck: too many steps, or no end in too long a virtual time.

    within the limits ── reached ──> the scope is cancelled ──> ended
                                          └── still there ──> the loop is broken off

What is shielded from the cancellation (every child of a tree is) gets virtual
time to stop in order. What does not even then takes the loop with it: the test
has failed anyway, and must not hang.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import trio
import trio.testing

from supervisors.testing._hook import Order
from supervisors.testing._outcome import Raised, Returned
from supervisors.testing._trace import where_everybody_is

#: Turns in a row without any step, after the limit, that only a deadlock has.
IDLE_TURNS = 100

#: After its limit of steps, a run is given a virtual second in so many turns.
TURNS_PER_SECOND = 20


class SimulationStuck(AssertionError):
    """A simulated program did not end; ``tasks`` says where everybody was."""

    def __init__(self, message: str, tasks: tuple[str, ...]) -> None:
        super().__init__("\n  ".join([message, *tasks]))
        self.tasks = tasks


class Hang(SimulationStuck):
    """It did not end in the virtual time that it was given."""


class Livelock(SimulationStuck):
    """It took more steps than it was given: something goes round in circles."""


@attrs.define(eq=False)
class Limits:
    """Counts steps and virtual time of what runs in ``scope``, turn by turn."""

    clock: trio.testing.MockClock
    max_steps: int
    timeout: float
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    stuck: SimulationStuck | None = None
    """Set when a limit was reached; to be raised when the run has ended."""
    _steps: int = 0
    _idle_turns: int = 0
    _turns_over: int = 0
    _deadline: float = math.inf

    def arm(self, scope: trio.CancelScope) -> None:
        """Count anew what runs in *scope*, from now on; called inside the loop."""
        self.disarm()
        self.scope = scope
        self._deadline = self.clock.current_time() + self.timeout
        # So that the clock has something to jump to.
        scope.deadline = self._deadline

    def disarm(self) -> None:
        """Stop to count."""
        self.scope.deadline = self._deadline = math.inf
        self._steps = 0

    def limit(self, order: Order) -> Order:
        """Return *order*, with a look at the limits in every turn.

        It raises `SimulationStuck` if the cancellation was without effect;
        trio's loop breaks off with it.
        """

        def limited(
            tasks: Sequence[trio.lowlevel.Task],
        ) -> Sequence[trio.lowlevel.Task]:
            self._look(tasks)
            chosen = order(tasks)
            self._steps += len(chosen)
            return chosen

        return limited

    def _look(self, tasks: Sequence[trio.lowlevel.Task]) -> None:
        if self.stuck is not None:
            self._insist(self.stuck, idle=not tasks)
        elif self._steps > self.max_steps:
            message = f"more than {self.max_steps} steps: going round in circles?"
            self.stuck = Livelock(message, where_everybody_is())
            self.scope.cancel()
        elif self.clock.current_time() >= self._deadline:
            message = f"no end in {self.timeout:g} virtual seconds; the tasks were at"
            self.stuck = Hang(message, where_everybody_is())
            self.scope.cancel()

    def _insist(self, stuck: SimulationStuck, *, idle: bool) -> None:
        self._idle_turns = self._idle_turns + 1 if idle else 0
        self._turns_over += 1
        if self._idle_turns > IDLE_TURNS or self._turns_over > self.max_steps:
            raise stuck
        if not idle and self._turns_over % TURNS_PER_SECOND == 0:
            # Time stands still while anybody runs: shutdown times would never end.
            self.clock.jump(1.0)

    def stuck_after(self, ended: Returned[Any] | Raised | None) -> SimulationStuck:
        """Return the failure, with what else the run has raised as its context."""
        assert self.stuck is not None
        if (
            isinstance(ended, Raised)
            and ended.error is not self.stuck
            and not isinstance(ended.error, trio.TrioInternalError)
        ):
            self.stuck.__context__ = ended.error
        return self.stuck
