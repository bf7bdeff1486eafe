"""What the actors last said of themselves, for whoever must not wait to ask.

Routing looks at every provider for every request; asking each breaker would
cost a round trip each. So the actors write their state here when it changes,
and routing and status read it. Where more than one task writes a field, all do so in
one thread, between two checkpoints.

What must survive the crash of an actor is here too, as OTP keeps it in a
table that the supervisor owns: turns under way, sums, the limiter's memory, and
that a provider rests. So is what the config says of limits and policies: a reload
changes it for the actors that run, and for those that are started after them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import attrs

from duckservice.core.breaker_policy import BreakerPolicy
from duckservice.core.circuit_breaker import BreakerState, Closed, Permit, stands
from duckservice.core.grants import Limits
from duckservice.core.limiter import Limiter
from duckservice.core.performance import PerformanceMonitor
from duckservice.core.retry import RetryBudget
from duckservice.core.route import Health


@attrs.define(eq=False)
class ProviderBoard:
    """One provider's part."""

    name: str
    max_concurrency: int
    limits: Limits = attrs.field(factory=Limits)
    """By which the limiter actor goes; see `ProviderBoard.relimit`."""
    policy: BreakerPolicy = attrs.field(factory=BreakerPolicy)
    """By which the breaker actor goes."""
    by_model: bool = False
    """Whether each model has a breaker of its own."""
    breaker: BreakerState = attrs.field(factory=Closed)
    """For all models that have none of their own; written by the breaker actor."""
    breakers: dict[str, BreakerState] = attrs.field(factory=dict[str, BreakerState])
    """By model, where each has its own; in the order in which they were last asked."""
    breaker_starts: int = 0
    """Incarnations of the breaker actor since one of its breakers last moved."""
    health: Health = attrs.field(factory=Health)
    """Written by the breaker actor."""
    health_at: float = 0.0
    """When, on trio's clock."""
    limiter: Limiter[int] | None = None
    """The container of the limiter actor that runs, or of the one that crashed."""
    turns: dict[int, float] = attrs.field(factory=dict[int, float])
    """The requests under way, and since when, on trio's clock, the oldest first; each
    is written by the task that carries it."""
    queued: int = 0
    """Requests that wait for a turn; each counted by the task that carries it."""
    retry_budget: RetryBudget = attrs.field(factory=RetryBudget)
    requests: int = 0
    failures: int = 0
    performance: PerformanceMonitor = attrs.field(factory=PerformanceMonitor)
    """Written by the task that carries the request, when an attempt ends."""

    def relimit(
        self,
        now: float,
        limits: Limits,
        kept: Sequence[int | None],
        *,
        elsewhere: bool = False,
    ) -> None:
        """Have other limits from *now* on; see `Limiter.relimit`.

        The limiter actor is to be told, so that it grants what is due.
        """
        self.limits = limits
        if self.limiter is not None:
            self.limiter.relimit(now, limits, kept, elsewhere=elsewhere)

    def forget(self) -> None:
        """Forget what another server has done that had this name; see `CircuitBreaker`."""
        self.retry_budget, self.performance = RetryBudget(), PerformanceMonitor()

    def breaker_of(self, model: str) -> BreakerState:
        """Return the state of the breaker that a request for *model* has to pass."""
        return self.breakers.get(model, self.breaker)

    def stands(self, permit: Permit, now: float) -> bool:
        """Say whether a request may still be sent with *permit*."""
        scope = permit.scope
        state = self.breakers.get(scope) if scope else self.breaker
        return state is not None and stands(state, now, permit)

    def may_send(self, permit: Permit, model: str, now: float) -> bool:
        """Say whether a request for *model* may be sent, permitted some time ago.

        A breaker that is closed needs no permit: where it was reset or started anew
        meanwhile, the one in hand is only of no account any more.
        """
        return self.stands(permit, now) or isinstance(self.breaker_of(model), Closed)

    @property
    def load(self) -> float:
        """The share of the provider's turns that are taken, or asked for."""
        return (len(self.turns) + self.queued) / self.max_concurrency


@attrs.define(eq=False)
class Board:
    """All of it."""

    providers: Mapping[str, ProviderBoard]
    """Replaced, and not changed, when the config is another one."""
    queue_max: int = 1000
    """So many requests may wait for a turn."""
    paused: bool = False
    """Whether somebody has paused the queue; written by the queue actor."""
    turn_ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))
    """Shared by all incarnations of the queue, so that no turn is given twice."""
    eras: Iterator[int] = attrs.field(factory=lambda: itertools.count(0, 1 << 32))
    """First eras of breakers: permits of another one, or of one that is gone, must
    not count."""
