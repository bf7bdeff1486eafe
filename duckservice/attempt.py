"""One request to one provider: the permissions it needs, and how they end.

    open    a turn from the queue, a permit from the breaker, a grant from the limiter
    close   the breaker learns the outcome, the limiter and the cost tracker the
            tokens, the queue gets the turn back

Whatever happens in between, cancellation included, every permission ends once.
Closing only leaves messages, so it cannot be cancelled half-way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import trio

from duckservice.actors.circuit_breaker import CircuitBreaker
from duckservice.actors.cost_tracker import CostTracker
from duckservice.actors.rate_limiter import RateLimiter
from duckservice.actors.request_queue import RequestQueue
from duckservice.asking import tell
from duckservice.call import AttemptEnd, AttemptInfo, CallOptions, CallReport
from duckservice.completion import (
    AnyRequest,
    Chunk,
    ImageRequest,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from duckservice.core.budget_book import Reservation
from duckservice.core.circuit_breaker import Outcome, Permit, outcome_of
from duckservice.core.limiter import Grant
from duckservice.core.pricing import usd
from duckservice.core.request_queue import Turn
from duckservice.errors import (
    BadProviderResponse,
    BudgetExceeded,
    DuckError,
    InternalError,
    ProviderTimeout,
    RateLimited,
    Unavailable,
)
from duckservice.events import AttemptEnded, EventSink
from duckservice.permissions import get_permissions
from duckservice.providers.sending import may_be_accepted
from duckservice.spending import (
    likely_cost,
    likely_usage,
    prompt_size,
    why_unknown,
    worst_cost,
)
from duckservice.store.base import LedgerEntry
from duckservice.tree import Guarded, Parts

#: Seconds without requests after a 429 that names no time itself.
PAUSE_AFTER_429 = 1.0


@attrs.define(eq=False)
class Call:
    """One request of a client, over all its attempts."""

    options: CallOptions
    report: CallReport
    unpriced: bool = False
    """Whether an attempt had a cost that is not known, so that there is no sum."""
    committed: int = 0
    """Picodollars that the attempts so far may have cost at most; kept only where
    the caller has set a limit."""

    def charge(self, cost: int | None, *, at_most: int, estimated: bool) -> None:
        """Add what an attempt has cost: *cost*, None if that is not known."""
        report = self.report
        self.unpriced |= cost is None
        report.cost = None if self.unpriced else (report.cost or 0) + (cost or 0)
        report.cost_estimated |= estimated
        self.committed += at_most


@attrs.define(eq=False)
class Meter:
    """What has been seen of a stream: enough to bill one that breaks off."""

    reported: Usage = attrs.field(factory=Usage)
    _chars: int = 0

    def read(self, batch: Sequence[Chunk]) -> None:
        """Take note of some chunks."""
        for chunk in batch:
            if isinstance(chunk, TextDelta | ReasoningDelta | RefusalDelta):
                self._chars += len(chunk.text)
            elif isinstance(chunk, ToolCallDelta):
                self._chars += len(chunk.arguments)
            elif isinstance(chunk, UsageReport):
                self.reported = chunk.usage

    def total(self, request: AnyRequest) -> Usage:
        """Return what a whole reply used; our guess, if the provider did not say."""
        return self.reported if self.reported.total_tokens else self.estimate(request)

    def estimate(self, request: AnyRequest) -> Usage:
        """Return what was reported, and where that is less than was seen, our guess."""
        output = max(self.reported.output_tokens, -(-self._chars // 4))
        return attrs.evolve(
            self.reported,
            input_tokens=self.reported.input_tokens or prompt_size(request),
            output_tokens=output,
            estimated=True,
        )


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
    reservation: Reservation | None
    """In the budgets that bind the request."""
    started: float
    queued: float
    first_byte: float | None = None
    meter: Meter = attrs.field(factory=Meter)
    closed: bool = False
    _watched: bool = False

    async def begin(self) -> None:
        """Have it written down, where somebody keeps a record; then send at once.

        Raises:
            NotBegun: it must not be sent; all permissions are given back.
        """
        watch = self.call.options.watch
        if watch is None:
            return
        worst = worst_cost(self.guarded.provider, self.request)
        likely = worst or likely_cost(self.guarded.provider, self.request) or 0
        info = AttemptInfo(
            provider=self.guarded.config.name, model=self.request.model, reserved=likely
        )
        try:
            await watch.before_send(info)
        except BaseException:
            self._give_back()
            raise
        self._watched = True

    def answered(self) -> None:
        """Take note that the first of the reply is here."""
        if self.first_byte is None:
            self.first_byte = trio.current_time() - self.started

    def succeeded(self, usage: Usage) -> None:
        """End it with a whole reply."""
        self._close("ok", Outcome.SUCCESS, usage, None)

    def failed(self, error: DuckError) -> None:
        """End it with the provider's failure, or its refusal."""
        if isinstance(error, RateLimited):
            asked = error.retry_after
            pause = PAUSE_AFTER_429 if asked is None else asked
            self._tell(lambda: self.guarded.limiter.cast(RateLimiter.block, pause))
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

    def _usage_so_far(self, error: DuckError | None) -> Usage:
        """Return what the provider will probably bill for a reply that broke off."""
        if isinstance(self.request, ImageRequest):
            if error is not None and not may_be_accepted(error):
                return self.meter.reported
            return likely_usage(self.request)  # it is made, whoever waits for it
        begun = self.first_byte is not None
        unclear = begun or isinstance(
            error, BadProviderResponse | ProviderTimeout | Unavailable | None
        )
        return self.meter.estimate(self.request) if unclear else self.meter.reported

    def _close(
        self, outcome: str, health: Outcome, usage: Usage, error: DuckError | None
    ) -> None:
        assert not self.closed, "an attempt ends once"
        self.closed = True
        now = trio.current_time()
        guarded, its = self.guarded, self.guarded.board
        self._leave()
        latency = self.first_byte or now - self.started
        self._tell(
            lambda: guarded.breaker.cast(
                CircuitBreaker.settle, self.permit, health, latency
            )
        )
        self._tell(
            lambda: guarded.limiter.cast(
                RateLimiter.settle, self.grant, usage.total_tokens
            )
        )
        ok = outcome == "ok"
        cost = self._cost(usage, ok=ok)
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
        at_most = self._at_most(usage, cost)
        self.call.charge(cost, at_most=at_most, estimated=usage.estimated)
        self._book(outcome, usage, cost)
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
            )
        )

    def _book(self, outcome: str, usage: Usage, cost: int | None) -> None:
        """Tell the budgets and the ledger."""
        its = self.reservation
        if its is not None:
            # What we only guess at, or cannot price, may have cost all of it.
            sure = cost is not None and not usage.estimated
            self.parts.budgets.settle(its, its.amount if not sure else cost or 0)
        if self.call.options.watch is not None:
            return  # whoever watches has its own record
        report = self.call.report
        self.parts.ledger.add(
            LedgerEntry(
                id=f"{report.job}.{self.number}",
                provider=self.guarded.config.name,
                model=self.request.model,
                tags=self.call.options.tags,
                at=self.parts.budgets.now(),
                reserved=cost or 0,
                state="settled",
                amount=cost,
                usage=usage,
                outcome=outcome,
            )
        )

    def _give_back(self) -> None:
        """End it unsent: nobody was asked, so nobody is judged or paid."""
        self.closed = True
        self.call.report.attempts -= 1
        guarded = self.guarded
        self.parts.budgets.settle(self.reservation, 0)
        self._leave()
        unused = self.permit, Outcome.NEITHER, 0.0
        self._tell(lambda: guarded.breaker.cast(CircuitBreaker.settle, *unused))
        self._tell(lambda: guarded.limiter.cast(RateLimiter.give_back, self.grant))

    def _leave(self) -> None:
        self.guarded.board.turns.discard(self.turn.id)
        self._tell(lambda: self.parts.queue.cast(RequestQueue.leave, self.turn))

    def _loggable(self, error: DuckError) -> str | None:
        if error.quotes_provider and not self.parts.debug_bodies:
            return None
        return error.message

    def _cost(self, usage: Usage, *, ok: bool) -> int | None:
        if not usage.total_tokens and usage.billed is None:
            # A picture costs something, though its provider counts no tokens.
            return None if ok and isinstance(self.request, ImageRequest) else 0
        return self.guarded.provider.estimate_cost(usage, self.request.model)

    def _at_most(self, usage: Usage, cost: int | None) -> int:
        if self.call.options.max_cost is None:
            return 0
        if usage.estimated:
            cost = worst_cost(self.guarded.provider, self.request)
        return cost or 0

    def _tell(self, cast: Callable[[], None]) -> None:
        tell(self.emit, cast)


async def open_attempt(
    parts: Parts,
    emit: EventSink,
    call: Call,
    guarded: Guarded,
    request: AnyRequest,
) -> Attempt:
    """Get all permissions to send *request* to *guarded*, waiting for them in turn.

    Raises:
        BudgetExceeded: a budget has not enough left.
        CircuitOpen: the provider's breaker refuses.
        RateLimited: the request can never fit the rate limit.
        QueueFull: too many wait already.
        Unavailable, InternalError: an actor does not answer.
    """
    since = trio.current_time()
    report = call.report
    options = call.options
    reservation = _reserve(parts, options, guarded, request)
    try:
        permissions = await get_permissions(
            parts,
            emit,
            guarded,
            request,
            options.priority,
            yields=options.watch is not None,  # jobs have more time than people
        )
    except BaseException:
        parts.budgets.settle(reservation, 0)
        raise
    finally:
        now = trio.current_time()
        report.queued += now - since
    watch = call.options.watch
    if watch is not None:
        watch.permitted(guarded.config.name)
    report.attempts += 1
    report.provider = guarded.config.name
    report.model = request.model
    return Attempt(
        parts=parts,
        emit=emit,
        call=call,
        guarded=guarded,
        request=request,
        number=report.attempts,
        turn=permissions.turn,
        permit=permissions.permit,
        grant=permissions.grant,
        reservation=reservation,
        started=now,
        queued=now - since,
    )


def _reserve(
    parts: Parts, options: CallOptions, guarded: Guarded, request: AnyRequest
) -> Reservation | None:
    if not parts.budgets.any:
        return None
    worst = worst_cost(guarded.provider, request)
    try:
        return parts.budgets.reserve(options.tags, worst)
    except BudgetExceeded:
        if worst is not None:
            raise
        why = why_unknown(guarded.provider, request)
        msg = f"a budget binds the request, and its cost cannot be bounded: {why}"
        raise BudgetExceeded(msg) from None
