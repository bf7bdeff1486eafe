"""The leave to send one request to one provider: turn, permit and grant.

The turn is the queue's, the permit the breaker's, the grant the rate limiter's.
They are asked for one by one, each waiting as long as it takes, so that nobody
holds a permit while waiting for a turn. Where nothing suggests a wait, all three
are asked for at once: that saves four passes through the scheduler. If one of
them is not there at once after all, the others are given back.
"""

from __future__ import annotations

import itertools
from typing import TypeVar

import attrs
import trio

from duckservice.actors.circuit_breaker import CircuitBreaker
from duckservice.actors.rate_limiter import RateLimiter
from duckservice.actors.request_queue import RequestQueue
from duckservice.calls.asking import ask, tell
from duckservice.calls.call import Priority, Submitter
from duckservice.completion import AnyRequest, ChatRequest
from duckservice.core.breaker_words import why_refused
from duckservice.core.circuit_breaker import (
    Closed,
    HalfOpen,
    Open,
    Outcome,
    Permit,
    eligible,
)
from duckservice.core.grants import Grant
from duckservice.core.request_queue import Turn
from duckservice.errors import CircuitOpen, DuckError
from duckservice.events import EventSink
from duckservice.money.spending import likely_usage
from duckservice.tree import Guarded, Parts
from supervisors import CallError, Reply

T = TypeVar("T")

_tickets = itertools.count(1)


@attrs.frozen
class Permissions:
    """All that it takes to send one request."""

    turn: Turn
    permit: Permit
    grant: Grant


async def get_permissions(
    parts: Parts,
    emit: EventSink,
    guarded: Guarded,
    request: AnyRequest,
    priority: Priority,
    *,
    yields: bool = False,
    submitter: Submitter | None = None,
    deadline: float | None = None,
) -> Permissions:
    """Wait for all permissions; when cancelled or refused, leave nothing behind.

    Who *yields* waits behind others of its priority, where submitters take turns.

    Raises:
        CircuitOpen: the provider's breaker refuses.
        RateLimited: the request can never fit the rate limit, or not before its
            *deadline*.
        QueueFull: too many wait already.
        Unavailable, InternalError: an actor does not answer.
    """
    tokens, input_tokens = _to_reserve(guarded, request)
    asking = _Asking(
        parts,
        emit,
        guarded,
        guarded.provider.own_name(request.model),
        priority,
        yields,
        tokens,
        input_tokens,
        submitter,
        deadline,
    )
    if asking.may_get_them_at_once():
        permissions = await asking.at_once()
        if permissions is not None:
            return permissions
    return await asking.one_by_one()


@attrs.define(eq=False)
class _Asking:
    """One request's way to its permissions."""

    parts: Parts
    emit: EventSink
    guarded: Guarded
    model: str
    """By the provider's own name: a model fails, and is limited, under all its aliases."""
    priority: Priority
    yields: bool
    tokens: int
    input_tokens: int
    submitter: Submitter | None
    deadline: float | None
    turn: Turn | None = None
    permit: Permit | None = None
    grant: Grant | None = None

    def may_get_them_at_once(self) -> bool:
        """Say whether the board shows nothing that one would have to wait for."""
        its = self.guarded.board
        return (
            len(its.turns) + its.queued < its.max_concurrency
            and isinstance(its.breaker_of(self.model), Closed)
            and not self.parts.board.paused
        )

    async def at_once(self) -> Permissions | None:
        """Ask for all three in one go; None if one of them is not there at once.

        A turn that is had then is kept; why another is not there, is found out by
        asking one by one.
        """
        ticket, guarded = next(_tickets), self.guarded
        # Annotated, as to make the type while it runs takes 4 µs.
        sent: list[Reply[Turn] | Reply[Permit | None]] = []
        try:
            turn = self.parts.queue.send_request(
                RequestQueue.enter,
                ticket,
                guarded.config.name,
                self.priority,
                yields=self.yields,
                submitter=self.submitter,
                deadline=self.deadline,
            )
            sent.append(turn)
            permit = guarded.breaker.send_request(CircuitBreaker.admit, self.model)
            sent.append(permit)
            grant = guarded.limiter.send_request(
                RateLimiter.acquire,
                ticket,
                self.tokens,
                self.priority,
                input_tokens=self.input_tokens,
                model=self.model,
                yields=self.yields,
                submitter=self.submitter,
                deadline=self.deadline,
            )
        except CallError:
            # Nobody has read them yet, so they will be skipped.
            for reply in sent:
                reply.abandon()
            return None
        guarded.board.queued += 1
        try:
            # All three are read in the same pass, and a permit is answered in it.
            self.permit = await _or_none(permit)
            if not turn.settled:
                # There is a line. Nobody stands in it with a permit or a grant in hand:
                # what it allows may be forbidden when the turn comes.
                self._drop(ticket, None, grant)
                had = await _or_none(turn)
                self._have(had)
                return None
            self._have(_value(turn))
            self.grant = _value(grant)
        except trio.Cancelled:
            self._drop(ticket, turn, grant)
            self._give_back()
            raise
        finally:
            guarded.board.queued -= 1
        if self.turn is not None and self.permit is not None and self.grant is not None:
            return self._all()
        self._drop(ticket, None, grant)
        return None

    def _drop(self, ticket: int, turn: Reply[Turn] | None, grant: Reply[Grant]) -> None:
        """Give back the permit and the grant, and the turn if it has come, or give up."""
        if turn is not None and self.turn is None:
            self._have(_value(turn))
            if self.turn is None:
                queue = self.parts.queue
                tell(self.emit, lambda: queue.cast(RequestQueue.forget, ticket))
        if self.grant is None:
            self.grant = _value(grant)
        if self.grant is None:
            limiter = self.guarded.limiter
            tell(self.emit, lambda: limiter.cast(RateLimiter.forget, ticket))
        self._give_back(but_turn=True)

    async def one_by_one(self) -> Permissions:
        """Wait for each in turn; the permit comes last, and nobody waits with it.

        It may be a probe's, and then others are refused as long as it is held.
        """
        try:
            if self.turn is None:
                self._have(await self._ask_turn())
            self._must_not_rest()
            self.grant = await self._ask_grant()
            self.permit = await self._ask_permit()
        except BaseException:
            self._give_back()
            raise
        return self._all()

    async def _ask_turn(self) -> Turn:
        ticket, queue = next(_tickets), self.parts.queue
        self.guarded.board.queued += 1
        lane, priority, yields = self.guarded.config.name, self.priority, self.yields
        try:
            return await ask(
                lambda: queue.call(
                    RequestQueue.enter,
                    ticket,
                    lane,
                    priority,
                    yields=yields,
                    submitter=self.submitter,
                    deadline=self.deadline,
                )
            )
        except trio.Cancelled:
            tell(self.emit, lambda: queue.cast(RequestQueue.forget, ticket))
            raise
        finally:
            self.guarded.board.queued -= 1

    async def _ask_permit(self) -> Permit:
        breaker, name = self.guarded.breaker, self.guarded.config.name
        permit = await ask(
            lambda: breaker.call(CircuitBreaker.admit, self.model), provider=name
        )
        if permit is None:
            raise at_rest(self.guarded, self.model)
        return permit

    def _must_not_rest(self) -> None:
        """Refuse at once what would only wait for the rate limit to be refused then."""
        now, board = trio.current_time(), self.guarded.board
        breaker = board.breaker_of(self.model)
        if not isinstance(breaker, HalfOpen) and not eligible(breaker, now):
            raise at_rest(self.guarded, self.model)

    async def _ask_grant(self) -> Grant:
        ticket, limiter = next(_tickets), self.guarded.limiter
        tokens, priority = self.tokens, self.priority
        try:
            return await ask(
                lambda: limiter.call(
                    RateLimiter.acquire,
                    ticket,
                    tokens,
                    priority,
                    input_tokens=self.input_tokens,
                    model=self.model,
                    yields=self.yields,
                    submitter=self.submitter,
                    deadline=self.deadline,
                ),
                provider=self.guarded.config.name,
            )
        except trio.Cancelled:
            tell(self.emit, lambda: limiter.cast(RateLimiter.forget, ticket))
            raise

    def _have(self, turn: Turn | None) -> None:
        """Enter the turn on the board, before anything can come between."""
        self.turn = turn
        if turn is not None:
            self.guarded.board.turns[turn.id] = trio.current_time()

    def _all(self) -> Permissions:
        assert self.turn is not None
        assert self.permit is not None
        assert self.grant is not None
        return Permissions(self.turn, self.permit, self.grant)

    def _give_back(self, *, but_turn: bool = False) -> None:
        guarded = self.guarded
        turn, permit, grant = self.turn, self.permit, self.grant
        self.permit = self.grant = None
        if turn is not None and not but_turn:
            self.turn = None
            guarded.board.turns.pop(turn.id, None)
            tell(self.emit, lambda: self.parts.queue.cast(RequestQueue.leave, turn))
        if permit is not None:
            unused = permit, Outcome.NEITHER, 0.0
            tell(
                self.emit,
                lambda: guarded.breaker.cast(CircuitBreaker.settle, *unused),
            )
        if grant is not None:
            tell(self.emit, lambda: guarded.limiter.cast(RateLimiter.give_back, grant))


async def _or_none(reply: Reply[T]) -> T | None:
    """Return what is answered, None where that is an error."""
    try:
        return await reply
    except (CallError, DuckError):
        return None


def at_rest(guarded: Guarded, model: str) -> CircuitOpen:
    """Return the error for who must not ask for *model*, by its own name, now."""
    state, name = guarded.board.breaker_of(model), guarded.config.name
    # A probe that is out ends sooner than it expires; nobody knows when.
    at = state.until if isinstance(state, Open) else None
    return CircuitOpen(
        f"{name!r} is left alone for now: {why_refused(state)}",
        provider=name,
        retry_after=None if at is None else max(0.0, at - trio.current_time()),
    )


def _value(reply: Reply[T]) -> T | None:
    """Return an answer that was given and not taken yet; give up on any other."""
    if not reply.settled:
        reply.abandon()
        return None
    try:
        return reply.unwrap()
    except (CallError, DuckError):
        return None


def tokens_to_reserve(guarded: Guarded, request: AnyRequest) -> int:
    """Return how many tokens the rate limit sets aside for *request*."""
    return _to_reserve(guarded, request)[0]


def _to_reserve(guarded: Guarded, request: AnyRequest) -> tuple[int, int]:
    """Return the same, and how many of them are its input's."""
    if not _knows_of_tokens(guarded, request.model):
        return 0, 0
    usage = likely_usage(request)
    limits = (guarded.config.limits, guarded.config.key_limits)
    most = [its.tokens_per_minute for its in limits if its.tokens_per_minute]
    if most and isinstance(request, ChatRequest) and request.max_tokens is None:
        # What the client did not bound must not keep it from being sent at all.
        total = max(usage.input_tokens, min(usage.total_tokens, *most))
        return total, usage.input_tokens
    return usage.total_tokens, usage.input_tokens


def _knows_of_tokens(guarded: Guarded, model: str) -> bool:
    """Say whether tokens are limited, by the config or by what was told of *model*."""
    limiter = guarded.board.limiter
    own = guarded.provider.own_name(model)
    return limiter is not None and limiter.knows_of_tokens(own)
