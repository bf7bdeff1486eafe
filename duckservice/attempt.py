"""One request to one provider: the permissions it needs, and how they end.

    open    a turn from the queue, a permit from the breaker, a grant from the limiter
    close   the breaker learns the outcome, the limiter and the cost tracker the
            tokens, the queue gets the turn back

Whatever happens in between, cancellation included, every permission ends once.
Closing only leaves messages, so it cannot be cancelled half-way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType

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
from duckservice.core.budget_rule import Spender
from duckservice.core.circuit_breaker import Outcome, Permit, outcome_of
from duckservice.core.grants import Grant
from duckservice.core.job import Settlement
from duckservice.core.performance_figures import Sample
from duckservice.core.pricing import usd
from duckservice.core.rate_hints import RateHints
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
from duckservice.providers.request_context import KeyRest, Sending
from duckservice.providers.sending import may_be_accepted
from duckservice.spending import (
    likely_cost,
    likely_usage,
    prompt_size,
    why_unknown,
    worst_cost,
)
from duckservice.store.base import LedgerEntry
from duckservice.store.decisions import settled_entry
from duckservice.tree import Guarded, Parts

#: Seconds from a grant to its request after which it counts from the latter: the rate
#: limit's minute is longer than the provider's by more than this.
SENT_LATE = 0.1


@attrs.define(eq=False)
class Call:
    """One request of a client, over all its attempts."""

    options: CallOptions
    report: CallReport
    unpriced: bool = False
    """Whether an attempt had a cost that is not known, so that there is no sum."""
    at_most: int = 0
    """Picodollars that the attempts so far, those under way included, may cost; kept
    only where the caller has set a limit."""
    _entries: int = 0

    def new_entry(self) -> str:
        """Return an id for the ledger that no other attempt has, sent or not."""
        self._entries += 1
        return f"{self.report.job}.{self._entries}"

    def charge(self, cost: int | None, *, estimated: bool) -> None:
        """Add what an attempt has cost: *cost*, None if that is not known."""
        report = self.report
        self.unpriced |= cost is None
        report.cost = None if self.unpriced else (report.cost or 0) + (cost or 0)
        report.cost_estimated |= estimated


@attrs.define(eq=False)
class Meter:
    """What has been seen of a stream: enough to bill one that breaks off."""

    reported: Usage = attrs.field(factory=Usage)
    first_content: float | None = None
    """When the first of the reply itself was here, after what only announces it."""
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
        # A call without arguments is content, too.
        if self.first_content is None and (
            self._chars or any(isinstance(chunk, ToolCallDelta) for chunk in batch)
        ):
            self.first_content = trio.current_time()

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
    entry: str
    """The id of what it costs, in the ledger."""
    started: float
    queued: float
    why: str = ""
    """Why this provider was asked."""
    at_most: int = 0
    """What it was reckoned with in `Call.at_most`."""
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

    async def begin(self) -> None:
        """Have it written down, where somebody keeps a record; then send at once.

        Raises:
            NotBegun: it must not be sent; all permissions are given back.
        """
        self._sending = Sending(self.grant.key, self._hear, self._have_key_rest)
        self._sending.begin()
        watch = self.call.options.watch
        if watch is None:
            self._send_late()
            return
        worst = worst_cost(self.guarded.provider, self.request)
        likely = worst or likely_cost(self.guarded.provider, self.request) or 0
        info = AttemptInfo(
            provider=self.guarded.config.name,
            model=self.request.model,
            reserved=likely,
            why=self.why,
            at=None if self.reservation is None else self.reservation.at,
        )
        try:
            await watch.before_send(info)
        except BaseException:
            self._give_back()
            raise
        self._watched = True
        self._send_late()

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
        if _is_of_the_provider(error) and not self._a_key_rests:
            asked, key = error.retry_after, self.grant.key
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
            self._tell(lambda: limiter.cast(RateLimiter.set_aside, pause, its.key))

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
        if error is not None and not begun and not may_be_accepted(error):
            unclear = False  # no connection stood: there was nobody to bill it
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
        its.performance.track(
            self.request.model, self._sample(now, outcome, health, usage)
        )
        self.call.charge(cost, estimated=usage.estimated)
        self.call.at_most += self._may_have_cost(usage, cost) - self.at_most
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

    def _book(self, outcome: str, usage: Usage, cost: int | None) -> None:
        """Tell the budgets and the ledger."""
        its = self.reservation
        if its is not None:
            # What we only guess at, or cannot price, may have cost all of it.
            sure = cost is not None and not usage.estimated
            least = 0 if sure else its.amount
            self.parts.budgets.settle(its, max(least, cost or 0))
        ledger = self.parts.ledger
        end = Settlement(
            outcome=outcome, usage=usage, cost=cost, estimated=usage.estimated
        )
        if self.call.options.watch is not None:
            pass  # whoever watches has its own record
        elif its is not None:
            ledger.settle(self.entry, end)  # it was opened before it was sent
        else:
            now = self.parts.budgets.now()
            entry = self._ledger_entry(at=now, reserved=cost or 0)
            ledger.add(settled_entry(entry, end))

    def belong_to_now(self, spender: Spender) -> None:
        """Have its budgets count it in the windows of this moment.

        Raises:
            BudgetExceeded: one that has just begun is full; all is given back.
        """
        its, self.reservation = self.reservation, None
        try:
            self.reservation = self.parts.budgets.move(its, spender)
        except BudgetExceeded:
            self._give_back()
            raise

    async def open_entry(self) -> None:
        """Have the ledger hold what a budget has set aside for it, unless a job does.

        Raises:
            Unavailable: the store cannot write; all permissions are given back.
        """
        its = self.reservation
        if its is None or self.call.options.watch is not None:
            return
        try:
            entry = self._ledger_entry(at=its.at, reserved=its.amount)
            await self.parts.ledger.open(entry)
        except BaseException as error:
            self._give_back()
            if isinstance(error, Unavailable) and its.spares_others:
                error.provider = self.guarded.config.name
            raise

    def _ledger_entry(self, *, at: float, reserved: int) -> LedgerEntry:
        submitter = self.call.options.submitter
        return LedgerEntry(
            id=self.entry,
            provider=self.guarded.config.name,
            model=self.request.model,
            tags=self.call.options.tags,
            submitter=None if submitter is None else submitter.uid,
            at=at,
            reserved=reserved,
        )

    def _send_late(self) -> None:
        """Have the rate limit count it from now on, if writing it down took long."""
        if trio.current_time() - self.grant.at > SENT_LATE:
            self._tell(
                lambda: self.guarded.limiter.cast(RateLimiter.was_sent, self.grant)
            )

    def _give_back(self) -> None:
        """End it unsent: nobody was asked, so nobody is judged or paid."""
        self.closed = True
        if self._sending is not None:
            self._sending.end()
        self.call.report.attempts -= 1
        self.call.at_most -= self.at_most
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

    def _may_have_cost(self, usage: Usage, cost: int | None) -> int:
        if self.call.options.max_cost is None:
            return 0
        return self.at_most if usage.estimated or cost is None else cost

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


async def open_attempt(
    parts: Parts,
    emit: EventSink,
    call: Call,
    guarded: Guarded,
    request: AnyRequest,
    *,
    why: str = "",
) -> Attempt:
    """Get all permissions to send *request* to *guarded*, waiting for them in turn.

    *why* says why it is this one that is asked.

    Raises:
        BudgetExceeded: a budget has not enough left. It names the provider, as the
            others do, where another one may be free of that budget.
        CircuitOpen: the provider's breaker refuses.
        RateLimited: the request can never fit the rate limit.
        QueueFull: too many wait already.
        Unavailable, InternalError: an actor does not answer; or a budget binds the
            request, and the store cannot write.
    """
    since = trio.current_time()
    report = call.report
    options = call.options
    at_most = _limited(options, guarded, request)
    spender = _spender(options, guarded, request)
    reservation = _reserve(parts, spender, guarded, request)
    call.at_most += at_most
    try:
        permissions = await get_permissions(
            parts,
            emit,
            guarded,
            request,
            options.priority,
            yields=options.watch is not None,  # jobs have more time than people
            submitter=options.submitter,
            deadline=options.deadline,
        )
    except BaseException:
        parts.budgets.settle(reservation, 0)
        call.at_most -= at_most
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
    attempt = Attempt(
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
        entry=call.new_entry(),
        started=now,
        queued=now - since,
        why=why,
        at_most=at_most,
    )
    attempt.belong_to_now(spender)
    await attempt.open_entry()
    return attempt


def _is_of_the_provider(error: DuckError) -> bool:
    """Say whether *error* is a limit that others meet too, and not too large a request."""
    return isinstance(error, RateLimited) and (
        error.retryable or error.retry_after is not None
    )


def _limited(options: CallOptions, guarded: Guarded, request: AnyRequest) -> int:
    """Return what *request* takes of its caller's limit, 0 where there is none."""
    if options.max_cost is None:
        return 0
    return worst_cost(guarded.provider, request) or 0


def _spender(options: CallOptions, guarded: Guarded, request: AnyRequest) -> Spender:
    submitter = options.submitter
    return Spender(
        tags=options.tags,
        submitter=None if submitter is None else submitter.uid,
        provider=guarded.config.name,
        model=request.model,
    )


def _reserve(
    parts: Parts, spender: Spender, guarded: Guarded, request: AnyRequest
) -> Reservation | None:
    if not parts.budgets.any:
        return None
    worst = worst_cost(guarded.provider, request)
    return parts.budgets.reserve(
        spender, worst, lambda: why_unknown(guarded.provider, request)
    )
