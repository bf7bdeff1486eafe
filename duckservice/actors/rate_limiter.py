"""The rate limiter actor: one per provider, around the pure limiter.

`acquire` answers when the request may be sent, at once or late; a caller that
gives up says so with `forget`. A restart takes over what the limiter that
crashed had granted and learned: a crash must not lift a limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import trio

from duckservice.actors.board import ProviderBoard
from duckservice.calls.call import Priority, Submitter
from duckservice.core.grants import (
    ANY_KEY,
    Grant,
    Late,
    LimiterStatistics,
    LineFull,
    Waits,
)
from duckservice.core.limiter import Limiter
from duckservice.core.rate_hints import RateHints
from duckservice.core.shares import ANYBODY, Submitters
from duckservice.core.token_bucket import Never
from duckservice.errors import QueueFull, RateLimited
from supervisors import ActorRef, Reply, StateTimeout


@attrs.define
class RateLimiter:
    """Says when requests to one provider may be sent, and with which key."""

    provider: str
    _limiter: Limiter[int]
    _timeout: StateTimeout[RateLimiter]
    _waiting: dict[int, Reply[Grant]] = attrs.field(factory=dict[int, Reply[Grant]])
    _clock: Callable[[], float] = trio.current_time

    @classmethod
    def start(
        cls,
        ref: ActorRef[RateLimiter],
        board: ProviderBoard,
    ) -> RateLimiter:
        """Make the next incarnation, with the limits that are on the board."""
        memory = None if board.limiter is None else board.limiter.memory()
        limiter = Limiter[int](board.limits, trio.current_time(), memory=memory)
        board.limiter = limiter
        return cls(board.name, limiter, StateTimeout(ref))

    def acquire(
        self,
        ticket: int,
        tokens: int,
        priority: Priority,
        *,
        input_tokens: int = 0,
        model: str = "",
        yields: bool = False,
        submitter: Submitter | None = None,
        deadline: float | None = None,
    ) -> Reply[Grant]:
        """Grant one request to *model*, of up to *tokens* tokens, now or later.

        *ticket* is the caller's, and unique; *deadline* is on trio's clock. Fails with
        `RateLimited` what can never fit (not retryable) and what would not be granted
        by its deadline (retryable, with the time), at once or when that becomes
        known; and with `QueueFull`.
        """
        reply: Reply[Grant] = Reply()
        now = self._clock()
        answer = self._limiter.acquire(
            now,
            tokens,
            ticket,
            priority,
            input_tokens=input_tokens,
            model=model,
            yields=yields,
            submitter=whose_turn(submitter),
            deadline=math.inf if deadline is None else deadline,
        )
        match answer:
            case Grant() as grant:
                reply.send(grant)
            case Waits():
                self._waiting[ticket] = reply
                self._grant_due()
            case LineFull(waiting_max):
                reply.fail(
                    QueueFull(
                        f"{many_wait(waiting_max)} for the rate limit of"
                        f" {self.provider!r} already",
                        provider=self.provider,
                    )
                )
            case Late() as late:
                reply.fail(self._too_late(late))
            case Never(most):
                reply.fail(self._too_large(f"{tokens} tokens", most))
        return reply

    def forget(self, ticket: int) -> None:
        """Take out a caller that gave up waiting; harmless if it did not wait."""
        if self._waiting.pop(ticket, None) is not None:
            self._limiter.remove(ticket)
            self._grant_due()

    # What became of a grant.

    def settle(
        self,
        grant: Grant,
        tokens: int,
        *,
        input_tokens: int | None = None,
        ok: bool = False,
    ) -> None:
        """Replace what *grant* reserved by what was used; *ok* ends a row of 429s."""
        self._limiter.settle(grant, tokens, input_tokens=input_tokens)
        if ok:
            self._limiter.succeeded(grant)
        self._grant_due()

    def give_back(self, grant: Grant) -> None:
        """Undo *grant*: its request was never sent."""
        self._limiter.give_back(self._clock(), grant)
        self._grant_due()

    def was_sent(self, grant: Grant) -> None:
        """Have *grant* count from now on: something held its request up."""
        self._limiter.was_sent(self._clock(), grant)
        self._grant_due()

    # What the provider says.

    def learn(
        self, hints: RateHints, key: int = ANY_KEY, *, grant: Grant | None = None
    ) -> None:
        """Take what a response to *grant*, sent with *key*, says of its model's limits."""
        self._limiter.learn(self._clock(), hints, key, grant=grant)
        self._grant_due()

    def refused(
        self,
        retry_after: float | None,
        key: int = ANY_KEY,
        *,
        grant: Grant | None = None,
    ) -> None:
        """Take note of a 429: send nothing, or nothing with *key*, for a while."""
        self._limiter.refused(self._clock(), retry_after, key, grant=grant)
        self._grant_due()

    def set_aside(
        self, seconds: float, key: int, *, grant: Grant | None = None
    ) -> None:
        """Grant other keys for *seconds*, as long as there are any."""
        self._limiter.set_aside(self._clock(), seconds, key, grant=grant)
        self._grant_due()

    def block(self, seconds: float, key: int = ANY_KEY) -> None:
        """Send nothing, or nothing with *key*, for *seconds*."""
        self._limiter.block(self._clock(), seconds, key)
        self._grant_due()

    def tick(self) -> None:
        """Grant what is due; for the timeout, and for who has changed the limits."""
        self._grant_due()

    def statistics(self) -> LimiterStatistics:
        """Return what is left, and how many wait."""
        return self._limiter.statistics(self._clock())

    def _grant_due(self) -> None:
        if not self._waiting:
            return
        now = self._clock()
        for ticket, answer in self._limiter.due(now):
            reply = self._waiting.pop(ticket)
            match answer:
                case Late():
                    reply.fail(self._too_late(answer))
                case Never(most):
                    reply.fail(self._too_large("more tokens", most))
                case Grant() if reply.abandoned:
                    self._limiter.give_back(now, answer)
                case Grant():
                    reply.send(answer)
        self._wake_up_for_next(now)

    def _wake_up_for_next(self, now: float) -> None:
        when = self._limiter.next_wakeup(now)
        if when is None:
            self._timeout.cancel()
        else:
            self._timeout.set_at(when, RateLimiter.tick)

    def _too_large(self, tokens: str, most: int) -> RateLimited:
        return RateLimited(
            f"the request may use {tokens}, and {self.provider!r}"
            f" is limited to {most} a minute: it can never be sent",
            provider=self.provider,
            retryable=False,
        )

    def _too_late(self, late: Late) -> RateLimited:
        wait = max(0.0, late.ready_at - self._clock())
        return RateLimited(
            f"the rate limit of {self.provider!r} has room for the request in about"
            f" {wait:.1f} s, after its deadline",
            provider=self.provider,
            retry_after=wait,
        )


def whose_turn(submitter: Submitter | None) -> Submitters:
    """Return between whom turns are taken: users, and processes of one user."""
    return ANYBODY if submitter is None else (submitter.uid, submitter.pid)


def many_wait(number: int) -> str:
    """Return that so many requests wait, as a clause."""
    return "1 request waits" if number == 1 else f"{number} requests wait"
