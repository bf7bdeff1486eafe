"""One request to one provider: the permissions it needs, and how they end.

    open    a turn from the queue, a permit from the breaker, a grant from the limiter
    close   the breaker learns the outcome, the limiter and the cost tracker the
            tokens, the queue gets the turn back

Whatever happens in between, cancellation included, every permission ends once.
Closing only leaves messages, so it cannot be cancelled half-way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType

import attrs
import trio

from duckservice.actors.circuit_breaker import CircuitBreaker
from duckservice.actors.cost_tracker import CostTracker
from duckservice.actors.rate_limiter import RateLimiter
from duckservice.actors.request_queue import RequestQueue
from duckservice.calls.asking import tell
from duckservice.calls.attempt_money import AttemptMoney
from duckservice.calls.call import AttemptEnd, AttemptInfo, Call
from duckservice.calls.metering import Meter
from duckservice.calls.permissions import at_rest
from duckservice.calls.story import operation_of
from duckservice.completion import (
    AnyRequest,
    ImageRequest,
    Usage,
)
from duckservice.core.circuit_breaker import Outcome, Permit, outcome_of
from duckservice.core.grants import Grant
from duckservice.core.performance_figures import Sample
from duckservice.core.pricing import usd
from duckservice.core.rate_hints import RateHints
from duckservice.core.request_queue import Turn
from duckservice.errors import (
    DuckError,
    InternalError,
    ProviderTimeout,
    RateLimited,
)
from duckservice.events import AttemptEnded, EventSink
from duckservice.money.spending import (
    likely_cost,
    likely_usage,
    worst_cost,
)
from duckservice.providers.base import Provider
from duckservice.providers.request_context import KeyRest, Sending
from duckservice.providers.sending import may_be_accepted
from duckservice.tree import Guarded, Parts

#: Seconds from a grant to its request after which it counts from the latter: the rate
#: limit's minute is longer than the provider's by more than this.
SENT_LATE = 0.1


@attrs.define(eq=False)
class Attempt:
    """One request to one provider, which has all it needs to be sent."""

    parts: Parts
    emit: EventSink
    call: Call
    guarded: Guarded
    request: AnyRequest
    number: int
    turn: Turn
    permit: Permit
    grant: Grant
    money: AttemptMoney
    started: float
    queued: float
    why: str = ""
    """Why this provider was asked."""
    first_byte: float | None = None
    meter: Meter = attrs.field(factory=Meter)
    closed: bool = False
    _watched: bool = False
    _sending: Sending | None = None
    _heard: list[tuple[RateHints, int]] = attrs.field(
        factory=list[tuple[RateHints, int]]
    )
    """What answers say of limits, of all or of one key, and nobody knows yet."""
    _a_key_rests: bool = False
    """Whether the limiter knows already which key a 429 is about."""

    @property
    def provider(self) -> Provider:
        """Who is asked: the one that was permitted and priced, whatever is reloaded."""
        return self.money.provider

    async def begin(self) -> None:
        """Have it written down, where somebody keeps a record; then send at once.

        Raises:
            NotBegun: it must not be sent; all permissions are given back.
            CircuitOpen, RateLimited: nor now; it has ended.
        """
        self._sending = Sending(self.grant.key, self._hear, self._have_key_rest)
        self._sending.begin()
        watch = self.call.options.watch
        if watch is None:
            self._send()
            return
        provider = self.provider
        worst = worst_cost(provider, self.request)
        likely = worst or likely_cost(provider, self.request) or 0
        info = AttemptInfo(
            provider=self.guarded.config.name,
            model=self.request.model,
            reserved=likely,
            why=self.why,
            at=self.money.at,
        )
        try:
            await watch.before_send(info)
        except BaseException:
            self.give_back()
            raise
        self._watched = True
        refusal = self._refused_meanwhile()
        if refusal is not None:
            self._close(refusal.code, Outcome.NEITHER, Usage(), refusal)
            raise refusal
        self._send()

    def must_be_fit_to_send(self) -> None:
        """Raise what forbids to send it by now, if anything does."""
        if (refusal := self._refused_meanwhile()) is not None:
            raise refusal

    def _refused_meanwhile(self) -> DuckError | None:
        """Return what forbids to send it, though it was permitted some time ago.

        Writing it down may take a slow disk seconds: the breaker may have opened since,
        or a 429 have come.
        """
        now, its = trio.current_time(), self.guarded
        if now - self.started < SENT_LATE:
            return None
        model = self.provider.own_name(self.request.model)
        if not its.board.may_send(self.permit, model, now):
            return at_rest(its, model)
        limiter = its.board.limiter
        if limiter is not None and limiter.blocked_until > now:
            name = its.config.name
            return RateLimited(
                f"{name!r} has just asked everybody to wait",
                provider=name,
                retry_after=limiter.blocked_until - now,
            )
        return None

    def answered(self) -> None:
        """Take note that the first of the reply is here."""
        if self.first_byte is None:
            self.first_byte = trio.current_time() - self.started
        self._pass_on_what_was_heard()

    def succeeded(self, usage: Usage) -> None:
        """End it with a whole reply."""
        self._close("ok", Outcome.SUCCESS, usage, None)

    def failed(self, error: DuckError) -> None:
        """End it with the provider's failure, or its refusal."""
        if _is_of_the_provider(error):
            asked, key = error.retry_after, self.grant.key
            if asked is None:
                error.retry_after = self._guessed_pause()
            if not self._a_key_rests:
                self._tell(
                    lambda: self.guarded.limiter.cast(
                        RateLimiter.refused, asked, key, grant=self.grant
                    )
                )
        self._close(error.code, outcome_of(error), self._usage_so_far(error), error)

    def abandoned(self) -> None:
        """End it because nobody waits for the reply any more."""
        self._close("cancelled", Outcome.NEITHER, self._usage_so_far(None), None)

    def broken_off(self, error: BaseException | None) -> None:
        """End it by what has come out of the provider's adapter."""
        if isinstance(error, DuckError):
            self.failed(error)
        elif isinstance(error, Exception):
            # Its text may hold anything; the log has it where it ends up.
            self.failed(InternalError(f"a bug: {type(error).__name__}"))
        else:
            self.abandoned()

    def _hear(self, hints: RateHints, key: int) -> None:
        self._heard.append((hints, key))

    def _pass_on_what_was_heard(self) -> None:
        """Tell the limiter, together with what else it is told: each time it wakes up
        costs more than what it does then."""
        heard, self._heard = self._heard, []
        limiter, grant = self.guarded.limiter, self.grant
        for its in heard:
            self._tell(partial(limiter.cast, RateLimiter.learn, *its, grant=grant))

    def _have_key_rest(self, its: KeyRest) -> None:
        """Have the limiter grant other keys than the one that was refused."""
        self._a_key_rests = True
        limiter, grant = self.guarded.limiter, self.grant
        if its.is_limited or its.seconds is None:
            asked = its.seconds
            self._tell(
                lambda: limiter.cast(RateLimiter.refused, asked, its.key, grant=grant)
            )
        else:
            pause = its.seconds
            self._tell(
                lambda: limiter.cast(RateLimiter.set_aside, pause, its.key, grant=grant)
            )

    def _guessed_pause(self) -> float | None:
        """Return how long the limiter will wait, so that the client is told it, too."""
        limiter = self.guarded.board.limiter
        if limiter is None:
            return None
        return limiter.guessed_pause(trio.current_time(), self.grant)

    def _usage_so_far(self, error: DuckError | None) -> Usage:
        """Return what the provider will probably bill for a reply that broke off."""
        if isinstance(self.request, ImageRequest):
            if error is not None and not may_be_accepted(error):
                return self.meter.reported
            return likely_usage(self.request)  # it is made, whoever waits for it
        # No connection stood, or the provider itself says that it has failed: then there
        # is nothing to bill. Where it has just gone, it may have done all the work.
        unclear = self.first_byte is not None or error is None or may_be_accepted(error)
        return self.meter.estimate(self.request) if unclear else self.meter.reported

    def _close(
        self, outcome: str, health: Outcome, usage: Usage, error: DuckError | None
    ) -> None:
        assert not self.closed, "an attempt ends once"
        self.closed = True
        if self._sending is not None:
            self._sending.end()
        self._pass_on_what_was_heard()
        now = trio.current_time()
        guarded, its = self.guarded, self.guarded.board
        self._leave()
        latency = self.first_byte or now - self.started
        self._tell(
            lambda: guarded.breaker.cast(
                CircuitBreaker.settle,
                self.permit,
                health,
                latency,
                timed_out=isinstance(error, ProviderTimeout),
            )
        )
        self._tell(
            lambda: guarded.limiter.cast(
                RateLimiter.settle,
                self.grant,
                usage.total_tokens,
                input_tokens=usage.input_tokens,
                ok=outcome == "ok",
            )
        )
        ok = outcome == "ok"
        cost = self.money.cost(usage, ok=ok)
        self._tell(
            lambda: self.parts.costs.cast(
                CostTracker.track,
                guarded.config.name,
                self.request.model,
                usage,
                cost,
                ok=ok,
            )
        )
        its.requests += 1
        its.failures += 0 if ok or outcome == "cancelled" else 1
        its.performance.track(
            self.request.model, self._sample(now, outcome, health, usage)
        )
        self.money.book(outcome, usage, cost)
        watch = self.call.options.watch
        if watch is not None and self._watched:
            watch.ended(
                AttemptEnd(outcome=outcome, usage=usage, cost=cost, error=error)
            )
        report = self.call.report
        self.emit(
            AttemptEnded(
                job=report.job,
                request_id=report.request_id,
                provider=guarded.config.name,
                model=self.request.model,
                attempt=self.number,
                why=self.why,
                outcome=outcome,
                duration=now - self.started,
                first_byte=self.first_byte,
                queued=self.queued,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cost_usd=None if cost is None else usd(cost),
                estimated=usage.estimated,
                error=None if error is None else self._loggable(error),
                upstream_status=None if error is None else error.upstream_status,
                operation=operation_of(self.request),
                served_model=self.meter.model,
                pieces=self.meter.pieces,
            )
        )

    def _sample(
        self, now: float, outcome: str, health: Outcome, usage: Usage
    ) -> Sample:
        content_at = self.meter.first_content
        return Sample(
            at=now,
            code=outcome,
            outcome=health,
            duration=now - self.started,
            first_token=None if content_at is None else content_at - self.started,
            output_tokens=0 if usage.estimated else usage.output_tokens,
        )

    def _send(self) -> None:
        """Begin to measure the provider, and not what has held us up."""
        self.started = trio.current_time()
        if self.started - self.grant.at > SENT_LATE:
            self._tell(
                lambda: self.guarded.limiter.cast(RateLimiter.was_sent, self.grant)
            )

    def give_back(self) -> None:
        """End it unsent: nobody was asked, so nobody is judged or paid."""
        self.closed = True
        if self._sending is not None:
            self._sending.end()
        self.call.report.attempts -= 1
        self.money.release()
        guarded = self.guarded
        self._leave()
        unused = self.permit, Outcome.NEITHER, 0.0
        self._tell(lambda: guarded.breaker.cast(CircuitBreaker.settle, *unused))
        self._tell(lambda: guarded.limiter.cast(RateLimiter.give_back, self.grant))

    def _leave(self) -> None:
        self.guarded.board.turns.pop(self.turn.id, None)
        self._tell(lambda: self.parts.queue.cast(RequestQueue.leave, self.turn))

    def _loggable(self, error: DuckError) -> str | None:
        if error.quotes_provider and not self.parts.debug_bodies:
            return None
        return error.message

    def _tell(self, cast: Callable[[], None]) -> None:
        tell(self.emit, cast)


@attrs.define
class settled:  # noqa: N801 - used like a function, as contextlib's are
    """End an attempt by how the block ends, if the block has not ended it."""

    attempt: Attempt
    unless_open: bool = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.attempt.closed or (error is None and self.unless_open):
            return
        self.attempt.broken_off(error)


def _is_of_the_provider(error: DuckError) -> bool:
    """Say whether *error* is a limit that others meet too, and not too large a request."""
    return isinstance(error, RateLimited) and (
        error.retryable or error.retry_after is not None
    )
