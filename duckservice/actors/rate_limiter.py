"""The rate limiter actor: one per provider, around the pure limiter.

`acquire` answers when the request may be sent, at once or late; a caller that
gives up says so with `forget`. A restart takes over what the limiter that
crashed had granted: a crash must not lift a limit.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from duckservice.actors.board import ProviderBoard
from duckservice.call import Priority
from duckservice.core.limiter import (
    Grant,
    Limiter,
    LimiterStatistics,
    Limits,
    LineFull,
    Waits,
)
from duckservice.core.token_bucket import Never
from duckservice.errors import QueueFull, RateLimited
from supervisors import ActorRef, Reply, StateTimeout


@attrs.define
class RateLimiter:
    """Says when requests to one provider may be sent."""

    provider: str
    _limiter: Limiter[int]
    _timeout: StateTimeout[RateLimiter]
    _waiting: dict[int, Reply[Grant]] = attrs.field(factory=dict[int, Reply[Grant]])
    _clock: Callable[[], float] = trio.current_time

    @classmethod
    def start(
        cls,
        ref: ActorRef[RateLimiter],
        provider: str,
        limits: Limits,
        board: ProviderBoard,
    ) -> RateLimiter:
        """Make the next incarnation."""
        memory = None if board.limiter is None else board.limiter.memory()
        limiter = Limiter[int](limits, trio.current_time(), memory=memory)
        board.limiter = limiter
        return cls(provider, limiter, StateTimeout(ref))

    def acquire(self, ticket: int, tokens: int, priority: Priority) -> Reply[Grant]:
        """Grant one request of up to *tokens* tokens, now or later.

        *ticket* is the caller's, and unique. Fails with `RateLimited` (not
        retryable) what can never fit, and with `QueueFull`.
        """
        reply: Reply[Grant] = Reply()
        now = self._clock()
        match self._limiter.acquire(now, tokens, ticket, priority):
            case Grant() as grant:
                reply.send(grant)
            case Waits():
                self._waiting[ticket] = reply
                self._wake_up_for_next(now)
            case LineFull(waiting_max):
                reply.fail(
                    QueueFull(
                        f"{waiting_max} requests wait for the rate limit of"
                        f" {self.provider!r} already",
                        provider=self.provider,
                    )
                )
            case Never(most):
                reply.fail(
                    RateLimited(
                        f"the request may use {tokens} tokens, and {self.provider!r}"
                        f" is limited to {most} a minute: it can never be sent",
                        provider=self.provider,
                        retryable=False,
                    )
                )
        return reply

    def forget(self, ticket: int) -> None:
        """Take out a caller that gave up waiting; harmless if it did not wait."""
        if self._waiting.pop(ticket, None) is not None:
            self._limiter.remove(ticket)
            self._grant_due()

    def settle(self, grant: Grant, tokens: int) -> None:
        """Replace what *grant* reserved by what was used."""
        self._limiter.settle(grant, tokens)
        self._grant_due()

    def give_back(self, grant: Grant) -> None:
        """Undo *grant*: its request was never sent."""
        self._limiter.give_back(self._clock(), grant)
        self._grant_due()

    def block(self, seconds: float) -> None:
        """Send nothing for *seconds*, as the provider has asked."""
        self._limiter.block(self._clock(), seconds)
        self._grant_due()

    def tick(self) -> None:
        """Grant what is due; the timeout's message."""
        self._grant_due()

    def statistics(self) -> LimiterStatistics:
        """Return what is left, and how many wait."""
        return self._limiter.statistics(self._clock())

    def _grant_due(self) -> None:
        if not self._waiting:
            return
        now = self._clock()
        for ticket, grant in self._limiter.due(now):
            reply = self._waiting.pop(ticket)
            if reply.abandoned:
                self._limiter.give_back(now, grant)
            else:
                reply.send(grant)
        self._wake_up_for_next(now)

    def _wake_up_for_next(self, now: float) -> None:
        when = self._limiter.next_wakeup(now)
        if when is None:
            self._timeout.cancel()
        else:
            self._timeout.set_at(when, RateLimiter.tick)
