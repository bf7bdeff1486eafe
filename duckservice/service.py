"""The way of a request, from top to bottom.

The caller's own task carries it: plan which providers to ask, in which order;
for each, get the permissions (`attempt`), send, and settle; decide what a
failure means (`core.retry`); answer. Nothing here holds state between requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

import attrs
import trio

from duckservice.attempt import Attempt, Call, open_attempt
from duckservice.call import Answer, CallOptions, CallReport, StreamAnswer
from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    Chunk,
    Completion,
    EmbeddingRequest,
    Embeddings,
    ImageRequest,
    Images,
    Usage,
)
from duckservice.config import Config
from duckservice.core import circuit_breaker, retry
from duckservice.core.pricing import usd
from duckservice.core.retry import (
    FailOver,
    GiveUp,
    RetriesSpent,
    Retry,
    RetryPolicy,
)
from duckservice.core.route import Candidate, NoneEligible, order
from duckservice.errors import (
    BadProviderResponse,
    BudgetExceeded,
    CircuitOpen,
    DeadlineExceeded,
    Draining,
    DuckError,
    InvalidRequest,
    ModelNotFound,
    NoAvailableProvider,
    RequestError,
    Unavailable,
)
from duckservice.providers.sending import may_be_accepted
from duckservice.spending import likely_cost, why_unknown, worst_cost
from duckservice.tree import Guarded, Parts, Seams

#: Longer names of models are refused: they would fill the log and the books.
MODEL_CHARS_MAX = 256

#: So many models' providers are remembered.
SERVING_MAX = 1000

#: Seconds that who may not ask anybody waits, if no better time is known.
HELD_PAUSE = 5.0

T = TypeVar("T")
R = TypeVar("R", ChatRequest, EmbeddingRequest, ImageRequest)
W = TypeVar("W", Completion, Embeddings, Images)

Plan: TypeAlias = deque[tuple[Guarded, R]]
"""Which providers to ask, the best first, each in its own words for the model."""


@attrs.define(eq=False)
class Counters:
    """Requests of clients since the start."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    in_flight: int = 0


@attrs.define(eq=False)
class Service:
    """Carries requests to providers."""

    config: Config
    parts: Parts
    seams: Seams
    counters: Counters = attrs.field(factory=Counters)
    draining: bool = False
    _last_id: int = 0
    _serving: dict[str, tuple[Guarded, ...]] = attrs.field(
        factory=dict[str, tuple[Guarded, ...]]
    )

    async def complete(
        self, request: ChatRequest, options: CallOptions | None = None
    ) -> Answer[Completion]:
        """Return the completion that the first able provider gives.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        return await self._answer(request, options, _complete)

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, options: CallOptions | None = None
    ) -> AsyncGenerator[StreamAnswer]:
        """Stream the completion; entered when its first chunks are here.

        Until then a failing provider is replaced unseen. From then on it is not:
        a stream that breaks off raises a typed error, and nothing is repeated.
        """
        async with self._call(options or CallOptions()) as call:
            plan = self._plan(request)
            self._check_cost(plan, call.options)
            with self._naming_who_could_not(request):
                opened = await self._attempts(call, plan, _open_stream)
            async with opened:
                yield StreamAnswer(opened, call.report)

    async def embed(
        self, request: EmbeddingRequest, options: CallOptions | None = None
    ) -> Answer[Embeddings]:
        """Return the embeddings that the first able provider gives.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        return await self._answer(request, options, _embed)

    async def generate_images(
        self, request: ImageRequest, options: CallOptions | None = None
    ) -> Answer[Images]:
        """Return the pictures that the first able provider makes.

        Raises:
            DuckError: see `duckservice.errors` for what each class means.
        """
        return await self._answer(request, options, _draw)

    async def count_tokens(
        self, request: ChatRequest, options: CallOptions | None = None
    ) -> Usage:
        """Return the prompt's size, from the provider that would be asked first."""
        async with self._call(options or CallOptions()):
            guarded, its = self._plan(request)[0]
            return await guarded.provider.count_tokens(its)

    def new_id(self) -> str:
        """Return an id that sorts by time, and within a millisecond by order."""
        milliseconds = int(self.seams.wall_clock() * 1000)
        number = milliseconds << 64 | self.seams.random.getrandbits(64)
        if number >> 64 == self._last_id >> 64:
            number = self._last_id + 1
        self._last_id = number
        return f"{number:028x}"

    # The call.

    async def _answer(
        self,
        request: R,
        options: CallOptions | None,
        send: Callable[[Attempt, R], Awaitable[T]],
    ) -> Answer[T]:
        async with self._call(options or CallOptions()) as call:
            plan = self._plan(request)
            self._check_cost(plan, call.options)
            with self._naming_who_could_not(request):
                value = await self._attempts(call, plan, send)
        return Answer(value, call.report)

    @asynccontextmanager
    async def _call(self, options: CallOptions) -> AsyncGenerator[Call]:
        """Count a request in and out, and hold it to its deadline."""
        id_ = self.new_id()
        request_id = options.request_id or f"req_{id_}"
        job = options.job or f"job_{id_}"
        call = Call(options, CallReport(job=job, request_id=request_id))
        counters = self.counters
        counters.total += 1
        counters.in_flight += 1
        completed = False
        try:
            if self.draining and not options.job:
                msg = "the daemon is about to stop, and takes no new requests"
                raise Draining(msg, retry_after=1.0)
            with trio.CancelScope() as scope:
                if options.deadline is not None:
                    scope.deadline = options.deadline
                yield call
            if scope.cancelled_caught:
                msg = "the request's deadline has passed"
                raise DeadlineExceeded(msg)
            completed = True
        except DuckError as error:
            error.job, error.request_id = call.report.job, request_id
            raise
        finally:
            counters.in_flight -= 1
            counters.completed += completed
            counters.failed += not completed

    # The plan.

    def _plan(self, request: R) -> Plan[R]:
        """Return whom to ask, the best first; fallback models come behind.

        Raises:
            ModelNotFound: nobody serves the model, nor one of its fallbacks.
            InvalidRequest: nobody who serves it can translate the request.
            CircuitOpen: everybody who could is taking a rest.
        """
        if len(request.model) > MODEL_CHARS_MAX:
            msg = f"no model has a name of more than {MODEL_CHARS_MAX} characters"
            raise ModelNotFound(msg, param="model")
        plan: Plan[R] = deque()
        refusals = list[DuckError]()
        for model in self._models_of(request):
            its = (
                request
                if model == request.model
                else attrs.evolve(request, model=model)
            )
            able = self._able(its, refusals)
            if able:
                ranked = self._ranked(able, its, refusals)
                plan.extend((guarded, its) for guarded in ranked)
        if plan:
            return plan
        if refusals:
            raise refusals[0]
        raise _not_served(request.model)

    @contextmanager
    def _naming_who_could_not(self, request: AnyRequest) -> Generator[None]:
        """Add to a failure who was not even asked, because of which field.

        Else nobody sees that a request has no stand-in where others have one.
        """
        try:
            yield
        except DuckError as error:
            if not isinstance(error, RequestError):
                refusals = list[DuckError]()
                for model in self._models_of(request):
                    self._able(attrs.evolve(request, model=model), refusals)
                for refusal in refusals:
                    error.message += f"; {refusal.provider} was not asked: {refusal}"
                error.args = (error.message,)
            raise

    def _models_of(self, request: AnyRequest) -> tuple[str, ...]:
        fallbacks = self.config.routing.fallbacks.get(request.model, ())
        return (request.model, *fallbacks)

    def check(self, request: AnyRequest) -> None:
        """Find out whether anybody here could ever serve *request*.

        Raises:
            ModelNotFound: nobody serves the model, nor one of its fallbacks.
            InvalidRequest: nobody who serves it can translate the request.
        """
        refusals = list[DuckError]()
        for model in self._models_of(request):
            if self._able(attrs.evolve(request, model=model), refusals):
                return
        raise refusals[0] if refusals else _not_served(request.model)

    def candidates(self, model: str) -> list[Guarded]:
        """Return who serves *model* or its fallbacks, as they would be asked now.

        Those that rest after failures come last.
        """
        models = (model, *self.config.routing.fallbacks.get(model, ()))
        return [
            g for each in models for g in self._in_order(each, self._who_serves(each))
        ]

    def _in_order(self, model: str, serving: Sequence[Guarded]) -> list[Guarded]:
        if len(serving) < 2:
            return list(serving)
        now = trio.current_time()
        route = order(
            [_candidate(guarded, now, model, None) for guarded in serving],
            self.config.routing.strategy,
            0.0,
        )
        names = () if isinstance(route, NoneEligible) else route.names
        place = {name: number for number, name in enumerate(names)}
        return sorted(serving, key=lambda g: place.get(g.config.name, len(place)))

    def _able(self, request: AnyRequest, refusals: list[DuckError]) -> list[Guarded]:
        """Return who serves the model and can translate the request."""
        able = list[Guarded]()
        for guarded in self._who_serves(request.model):
            try:
                guarded.provider.check(request)
            except InvalidRequest as refusal:
                refusals.append(refusal)
            else:
                able.append(guarded)
        return able

    def _who_serves(self, model: str) -> tuple[Guarded, ...]:
        serving = self._serving.get(model)
        if serving is None:
            serving = tuple(
                guarded
                for guarded in self.parts.providers.values()
                if guarded.provider.supports_model(model)
            )
            if any(guarded.provider.names_model(model) for guarded in serving):
                # Who says nothing of models serves what nobody else does.
                serving = tuple(
                    guarded
                    for guarded in serving
                    if guarded.config.models or guarded.provider.names_model(model)
                )
            if len(self._serving) >= SERVING_MAX:
                # A pattern serves any name that somebody makes up.
                self._serving.clear()
            self._serving[model] = serving
        return serving

    def _ranked(
        self,
        able: list[Guarded],
        request: AnyRequest,
        refusals: list[DuckError],
    ) -> Sequence[Guarded]:
        now = trio.current_time()
        chance = self.seams.random.random()
        strategy = self.config.routing.strategy
        priced = request if strategy == "cheapest" else None
        candidates = [
            _candidate(guarded, now, request.model, priced) for guarded in able
        ]
        route = order(candidates, strategy, chance)
        if isinstance(route, NoneEligible):
            wait = None if route.retry_at is None else max(0.0, route.retry_at - now)
            msg = "; ".join(_why_it_rests(guarded) for guarded in able)
            refusals.append(CircuitOpen(msg, retry_after=wait))
            return ()
        by_name = {guarded.config.name: guarded for guarded in able}
        ranked = [by_name[name] for name in route.names]
        if len(ranked) > 1:
            # Whoever has asked us to wait is asked last, but is asked.
            ranked.sort(key=lambda guarded: _blocked(guarded, now))
        return ranked

    def _check_cost(self, plan: Plan[R], options: CallOptions) -> None:
        """Keep only those providers that cannot exceed the caller's limit.

        Raises:
            BudgetExceeded: there are none, or the cost cannot be bounded.
        """
        if options.max_cost is None:
            return
        worst = [worst_cost(guarded.provider, request) for guarded, request in plan]
        fitting = [
            candidate
            for candidate, cost in zip(plan, worst, strict=True)
            if cost is not None and cost <= options.max_cost
        ]
        if not fitting:
            known = [cost for cost in worst if cost is not None]
            may = (
                f"may cost {usd(min(known))} USD"
                if known
                else f"cannot be bounded in cost ({_why_unknown(plan)})"
            )
            msg = f"the request {may}, and its limit is {usd(options.max_cost)} USD"
            raise BudgetExceeded(msg)
        plan.clear()
        plan.extend(fitting)

    # The attempts.

    async def _attempts(
        self, call: Call, plan: Plan[R], send: Callable[[Attempt, R], Awaitable[T]]
    ) -> T:
        """Ask one provider after the other, each as often as the policy says."""
        errors = list[DuckError]()
        watch = call.options.watch
        before = None if watch is None else watch.asked_before
        tried = set[str]() if before is None else {before}
        held = list[Guarded]()
        pause: float | None = None
        while plan:
            guarded, request = plan[0]
            if pause is None and not self._may_begin(call, guarded, request, tried):
                held.append(guarded)
                plan.popleft()
                continue
            try:
                attempt = await open_attempt(
                    self.parts, self.seams.emit, call, guarded, request
                )
            except DuckError as refusal:
                if refusal.provider is None:  # what all share has refused
                    raise
                errors.append(refusal)
                plan.popleft()
                pause = None
                continue
            self._earn_retry(guarded, tried)
            try:
                return await send(attempt, request)
            except DuckError as error:
                errors.append(error)
                pause = self._what_next(call, plan, errors)
            if pause is None:
                plan.popleft()
            else:
                await trio.sleep(pause)
        if not errors:
            raise _retries_spent(held)
        raise _verdict(errors)

    def _may_begin(
        self,
        call: Call,
        guarded: Guarded,
        request: AnyRequest,
        tried: set[str],
    ) -> bool:
        """Say whether the next in the plan may be asked.

        A provider that comes twice, with a fallback model, is asked again: that
        is a retry, and takes from its budget.
        """
        if not _is_affordable(call, guarded, request):
            return False
        return guarded.config.name not in tried or _spend_retry(guarded)

    def _earn_retry(self, guarded: Guarded, tried: set[str]) -> None:
        if guarded.config.name not in tried:
            tried.add(guarded.config.name)
            its = guarded.board
            its.retry_budget = retry.earn(its.retry_budget, trio.current_time())

    def _what_next(
        self, call: Call, plan: Plan[R], errors: Sequence[DuckError]
    ) -> float | None:
        """Return the pause before the same provider is asked again, None for the next.

        Raises:
            DuckError: what the *errors* so far amount to, if that is the answer.
        """
        error = errors[-1]
        if _is_paid_already(call, plan[0][1], error):
            # Whoever would repeat it after us, client or job, would pay again, too.
            error.retryable = False
            raise error
        decision = retry.decide(
            error,
            attempt=call.report.attempts,
            policy=self._policy_of(call),
            chance=self.seams.random.random(),
            now=trio.current_time(),
            deadline=call.options.deadline,
            others_left=len(plan) > 1,
            delivered=False,
        )
        match decision:
            case FailOver():
                return None
            case Retry(after):
                guarded, request = plan[0]
                if call.options.watch is not None:  # the pause is its own affair
                    raise _verdict(errors)
                if _is_affordable(call, guarded, request) and _spend_retry(guarded):
                    return after
                raise _verdict(errors)
            case GiveUp():
                raise _verdict(errors)

    def _policy_of(self, call: Call) -> RetryPolicy:
        watch = call.options.watch
        if watch is None:
            return self.retry_policy
        return attrs.evolve(self.retry_policy, max_attempts=max(1, watch.attempts_max))

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often and how soon a failed request is tried again."""
        its = self.config.retry
        return RetryPolicy(
            max_attempts=its.max_attempts,
            base_delay=its.base_delay,
            max_delay=its.max_delay,
            jitter=its.jitter,
        )


# What is sent.


async def _complete(attempt: Attempt, request: ChatRequest) -> Completion:
    return await _whole(attempt, attempt.guarded.provider.complete, request)


async def _embed(attempt: Attempt, request: EmbeddingRequest) -> Embeddings:
    return await _whole(attempt, attempt.guarded.provider.embed, request)


async def _draw(attempt: Attempt, request: ImageRequest) -> Images:
    return await _whole(attempt, attempt.guarded.provider.generate_images, request)


async def _whole(attempt: Attempt, ask: Callable[[R], Awaitable[W]], request: R) -> W:
    with _settled(attempt):
        await attempt.begin()
        reply = await ask(request)
        attempt.answered()
        attempt.succeeded(reply.usage)
    return reply


async def _open_stream(attempt: Attempt, request: ChatRequest) -> OpenStream:
    with _settled(attempt, unless_open=True):
        await attempt.begin()
        async with AsyncExitStack() as stack:
            batches = await stack.enter_async_context(
                attempt.guarded.provider.stream(request)
            )
            first = await anext(batches, None)
            if first is None:
                msg = "the stream ended before it began"
                raise BadProviderResponse(msg, provider=attempt.guarded.config.name)
            attempt.answered()
            attempt.meter.read(first)
            return OpenStream(attempt, first, batches, stack.pop_all())


@attrs.define(eq=False)
class OpenStream:
    """A stream whose first chunks are here; leaving it ends the attempt.

    It is an iterator and no generator, so one that is left early leaks nothing.
    """

    attempt: Attempt
    first: Sequence[Chunk] | None
    rest: AsyncIterator[Sequence[Chunk]]
    _stack: AsyncExitStack

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Chunk]:
        first = self.first
        if first is not None:
            self.first = None
            return first
        attempt = self.attempt
        try:
            batch = await anext(self.rest)
        except StopAsyncIteration:
            if not attempt.closed:
                attempt.succeeded(attempt.meter.total(attempt.request))
            raise
        except Exception as error:
            if not attempt.closed:
                attempt.broken_off(error)
            raise
        attempt.meter.read(batch)
        return batch

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._stack.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - what it closes shields itself
        finally:
            if not self.attempt.closed:
                self.attempt.abandoned()


@attrs.define
class _settled:  # noqa: N801 - used like a function, as contextlib's are
    """End the attempt by how the block ends, if the block has not ended it."""

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


# Helpers.


def _spend_retry(guarded: Guarded) -> bool:
    """Take a retry from the provider's budget; say whether there was one."""
    its = guarded.board
    budget = retry.spend(its.retry_budget, trio.current_time())
    if budget is None:
        return False
    its.retry_budget = budget
    return True


def _retries_spent(held: Sequence[Guarded]) -> RetriesSpent:
    """Return the error for who has been asked before, and must not be asked yet."""
    now = trio.current_time()
    at = [retry.next_retry_at(guarded.board.retry_budget, now) for guarded in held]
    msg = "so many requests are being repeated that this one has to wait"
    wait = min(at, default=now) - now
    # A little later than that: what rests comes back after its time.
    return RetriesSpent(msg, retry_after=wait + 0.1 if wait > 0 else HELD_PAUSE)


def _candidate(
    guarded: Guarded, now: float, model: str, priced: AnyRequest | None
) -> Candidate:
    """Return the provider as it is now; with its price, for what is to be *priced*."""
    its, config = guarded.board, guarded.config
    # Half open, only the breaker itself knows: the end of a probe may be in its
    # inbox, ahead of the question. It refuses at once if there is no place.
    half_open = isinstance(its.breaker, circuit_breaker.HalfOpen)
    return Candidate(
        name=config.name,
        priority=config.priority,
        weight=config.weight,
        eligible=half_open or circuit_breaker.eligible(its.breaker, now),
        retry_at=circuit_breaker.retry_at(its.breaker),
        health=its.health.rested(now - its.health_at).score,
        load=its.load,
        latency=its.health.latency,
        catch_all=not guarded.provider.names_model(model),
        price=None if priced is None else likely_cost(guarded.provider, priced),
    )


def _not_served(model: str) -> ModelNotFound:
    shown = model[:MODEL_CHARS_MAX]
    return ModelNotFound(f"no provider serves the model {shown!r}", param="model")


def _why_it_rests(guarded: Guarded) -> str:
    name = repr(guarded.config.name)
    if isinstance(guarded.board.breaker, circuit_breaker.Disabled):
        return f"{name} is disabled"
    return f"{name} is left alone for now, after failures"


def _blocked(guarded: Guarded, now: float) -> bool:
    limiter = guarded.board.limiter
    return limiter is not None and limiter.blocked_until > now


def _is_affordable(call: Call, guarded: Guarded, request: AnyRequest) -> bool:
    """Say whether one more attempt stays within the caller's limit, if there is one."""
    limit = call.options.max_cost
    if limit is None:
        return True
    worst = worst_cost(guarded.provider, request)
    return worst is not None and call.committed + worst <= limit


def _is_paid_already(call: Call, request: AnyRequest, error: DuckError) -> bool:
    """Say whether *request* is for pictures that may be made, and paid for, already."""
    if not isinstance(request, ImageRequest) or not may_be_accepted(error):
        return False
    # What we broke off ourselves is a job's own affair: it says so in on_interrupt.
    return call.options.watch is None or not isinstance(error, Unavailable)


def _why_unknown(plan: Plan[R]) -> str:
    """Say, for each reason once, why nobody in the *plan* has a largest cost."""
    whys = (why_unknown(guarded.provider, request) for guarded, request in plan)
    return "; ".join(dict.fromkeys(whys))


def _verdict(errors: Sequence[DuckError]) -> DuckError:
    """Return the one error that says what became of all attempts."""
    if isinstance(errors[-1], RequestError):
        return errors[-1]
    if all(isinstance(error, CircuitOpen) for error in errors):
        return min(errors, key=lambda error: error.retry_after or 0.0)
    if len({error.provider for error in errors}) == 1:
        return errors[-1]
    tried = "; ".join(
        f"{error.provider or 'duckservice'}: {error.code}" for error in errors
    )
    waits = [error.retry_after for error in errors if error.retry_after is not None]
    verdict = NoAvailableProvider(
        f"no provider could serve the request ({tried})",
        retry_after=min(waits, default=None),
    )
    verdict.__cause__ = ExceptionGroup("every provider failed", list(errors))
    return verdict
