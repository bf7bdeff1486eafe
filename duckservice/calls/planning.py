"""Whom to ask for a request, in which order, and why: the plan of a call.

The decision itself is `core.route`, and pure; here is gathered what it needs to know
of the providers of this moment, from the board, without asking anybody.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar, final

import attrs
import trio

from duckservice.actors.board import ProviderBoard
from duckservice.calls.call import CallOptions
from duckservice.calls.permissions import tokens_to_reserve
from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    EmbeddingRequest,
    ImageRequest,
)
from duckservice.config import Config, RoutingConfig
from duckservice.core import circuit_breaker
from duckservice.core.breaker_words import why_refused
from duckservice.core.pricing import usd
from duckservice.core.route import Candidate, NoneEligible, Route, faded, order
from duckservice.errors import (
    BudgetExceeded,
    CircuitOpen,
    ContentFiltered,
    ContextLengthExceeded,
    DuckError,
    InvalidRequest,
    ModelNotFound,
)
from duckservice.money.spending import likely_cost, why_unknown, worst_cost
from duckservice.tree import Guarded, Parts, Seams

#: Longer names of models are refused: they would fill the log and the books.
MODEL_CHARS_MAX = 256

#: So many models' providers are remembered.
SERVING_MAX = 1000

#: Seconds that a reply is reckoned with where none has come yet.
UNKNOWN_LATENCY = 1.0

#: Of so many sessions it is known who has served them.
SESSIONS_MAX = 10_000

R = TypeVar("R", ChatRequest, EmbeddingRequest, ImageRequest)


@attrs.frozen(kw_only=True)
class Step(Generic[R]):
    """One provider to ask, in its own words for the model."""

    guarded: Guarded
    request: R
    why: str
    """Why it is asked, and at this place."""

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self.guarded.config.name


Plan: TypeAlias = deque[Step[R]]
"""Which providers to ask, the best first."""


@attrs.frozen
class _Wish:
    """What the caller wants, beside the reply."""

    options: CallOptions
    streaming: bool


Session: TypeAlias = tuple[str, str]
"""A model, and the value of the tag that names the session."""


@final
@attrs.define(eq=False)
class Planner:
    """Makes plans."""

    parts: Parts
    seams: Seams
    _config: Callable[[], Config]
    _serving: dict[str, tuple[Guarded, ...]] = attrs.field(
        factory=dict[str, tuple[Guarded, ...]]
    )
    _sessions: OrderedDict[Session, str] = attrs.field(
        factory=OrderedDict[Session, str]
    )

    def refresh(self) -> None:
        """Take note that the config is another one."""
        self._serving.clear()

    def plan(
        self, request: R, options: CallOptions, *, streaming: bool = False
    ) -> Plan[R]:
        """Return whom to ask, the best first; fallback models come behind.

        *streaming* says that the first words count, and not the whole reply.

        Raises:
            ModelNotFound: nobody serves the model, nor one of its fallbacks.
            InvalidRequest: nobody who serves it can translate the request.
            CircuitOpen: everybody who could is taking a rest.
            BudgetExceeded: nobody is sure to stay within the caller's limit.
        """
        if len(request.model) > MODEL_CHARS_MAX:
            msg = f"no model has a name of more than {MODEL_CHARS_MAX} characters"
            raise ModelNotFound(msg, param="model")
        wish = _Wish(options, streaming)
        plan, refusals = self._for_models(self._models_of(request), request, wish)
        if not plan:
            raise _refusal(refusals) or _not_served(request.model)
        try:
            return _affordable(plan, options)
        except BudgetExceeded:
            self._wait_for_the_cheap(request, options)
            raise

    def fallbacks_after(
        self,
        error: DuckError,
        request: R,
        options: CallOptions,
        *,
        streaming: bool = False,
    ) -> Plan[R]:
        """Return whom to ask instead, where *error* says that the model is the wrong one.

        It may be empty: then nothing is configured for the model, or nobody is there.
        """
        models = _instead(self._routing, error).get(request.model, ())
        plan, _ = self._for_models(models, request, _Wish(options, streaming))
        try:
            return _affordable(plan, options) if plan else plan
        except BudgetExceeded:
            return deque()

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

    def refusals(self, request: AnyRequest) -> Sequence[DuckError]:
        """Return what those who cannot translate *request* say about it."""
        refusals = list[DuckError]()
        for model in self._models_of(request):
            self._able(attrs.evolve(request, model=model), refusals)
        return refusals

    def able(self, request: R) -> list[tuple[Guarded, R]]:
        """Return everybody who could serve *request*, each in its own words."""
        return [
            (guarded, its)
            for model in self._models_of(request)
            for its in [_for_model(request, model)]
            for guarded in self._able(its, [])
        ]

    def models_for(self, model: str) -> Sequence[tuple[str, str]]:
        """Return all that may be asked for where *model* is: by our and by its own name.

        It is never empty: where nobody serves the model, that is known by our name only.
        """
        models = (model, *self._routing.fallbacks.get(model, ()))
        names = [
            (each, guarded.provider.own_name(each))
            for each in models
            for guarded in self._who_serves(each)
        ]
        return list(dict.fromkeys(names)) or [(model, model)]

    def candidates(self, model: str) -> list[Guarded]:
        """Return who serves *model* or its fallbacks, as they would be asked now.

        Those that rest after failures come last.
        """
        models = (model, *self._routing.fallbacks.get(model, ()))
        return [
            g for each in models for g in self._in_order(each, self._who_serves(each))
        ]

    def served(self, step: Step[R], options: CallOptions) -> None:
        """Take note that *step* has served: a session stays where it is."""
        session = self._session(step.request.model, options)
        if session is None:
            return
        self._sessions[session] = step.provider
        self._sessions.move_to_end(session)
        if len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)

    def _wait_for_the_cheap(self, request: R, options: CallOptions) -> None:
        """Find out whether somebody would stay within the limit who rests now.

        Raises:
            CircuitOpen: yes.
        """
        now = trio.current_time()
        resting = [
            (guarded, its.model)
            for guarded, its in self.able(request)
            if not _may_be_asked(guarded, its.model, now)
            and _fits(worst_cost(guarded.provider, its), options)
        ]
        if resting:
            times = [_rests_until(guarded, model) for guarded, model in resting]
            at = min((time for time in times if time is not None), default=None)
            raise CircuitOpen(
                "; ".join(_why_it_rests(guarded, model) for guarded, model in resting),
                retry_after=None if at is None else max(0.0, at - now),
            ) from None

    @property
    def _routing(self) -> RoutingConfig:
        return self._config().routing

    def _models_of(self, request: AnyRequest) -> tuple[str, ...]:
        return (request.model, *self._routing.fallbacks.get(request.model, ()))

    def _for_models(
        self, models: Sequence[str], request: R, wish: _Wish
    ) -> tuple[Plan[R], list[DuckError]]:
        """Return the plan for *models*, one after the other, and who was left out."""
        plan: Plan[R] = deque()
        refusals = list[DuckError]()
        for model in models:
            its = _for_model(request, model)
            able = self._able(its, refusals)
            if able:
                stands_in = "" if model == request.model else f"{model} stands in; "
                plan.extend(self._ranked(able, its, wish, refusals, stands_in))
        return plan, refusals

    def _in_order(self, model: str, serving: Sequence[Guarded]) -> list[Guarded]:
        if len(serving) < 2:
            return list(serving)
        now = trio.current_time()
        routing = self._routing
        route = order(
            [_candidate(guarded, now, model, None, routing) for guarded in serving],
            routing.strategy,
            0.0,
            spill_after=routing.spill_after,
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
        able: Sequence[Guarded],
        request: R,
        wish: _Wish,
        refusals: list[DuckError],
        stands_in: str,
    ) -> list[Step[R]]:
        now = trio.current_time()
        if len(able) == 1 and _may_be_asked(able[0], request.model, now):
            # Most models have one provider, and there is nothing to compare.
            why = f"{stands_in}nobody else serves it"
            return [Step(guarded=able[0], request=request, why=why)]
        routing = self._routing
        route = order(
            [
                _candidate(
                    guarded, now, request.model, request, routing, wish.streaming
                )
                for guarded in able
            ],
            routing.strategy,
            self.seams.random.random(),
            spill_after=routing.spill_after,
            keeps=self._keeps(request.model, wish.options),
        )
        if isinstance(route, NoneEligible):
            refusals.append(_all_rest(route, able, request.model, now))
            return []
        return _steps(route, able, request, stands_in)

    def _keeps(self, model: str, options: CallOptions) -> str | None:
        session = self._session(model, options)
        return None if session is None else self._sessions.get(session)

    def _session(self, model: str, options: CallOptions) -> Session | None:
        tag = self._routing.sticky
        value = options.tags.get(tag) if tag else None
        return None if value is None else (model, value)


def _steps(
    route: Route, able: Sequence[Guarded], request: R, stands_in: str
) -> list[Step[R]]:
    by_name = {guarded.config.name: guarded for guarded in able}
    left_out = "".join(
        f"; not {each.name}: {each.reason}" for each in route.passed_over
    )
    return [
        Step(
            guarded=by_name[ranked.name],
            request=request,
            why=f"{stands_in}{ranked.reason}{left_out}",
        )
        for ranked in route.ranked
    ]


def _for_model(request: R, model: str) -> R:
    return request if model == request.model else attrs.evolve(request, model=model)


def _instead(routing: RoutingConfig, error: DuckError) -> Mapping[str, tuple[str, ...]]:
    match error:
        case ContextLengthExceeded():
            return routing.context_fallbacks
        case ContentFiltered():
            return routing.content_fallbacks
        case _:
            return {}


def _may_be_asked(guarded: Guarded, model: str, now: float) -> bool:
    breaker = guarded.board.breaker_of(guarded.provider.own_name(model))
    # Half open, only the breaker itself knows: the end of a probe may be in its
    # inbox, ahead of the question. It refuses at once if there is no place.
    half_open = isinstance(breaker, circuit_breaker.HalfOpen)
    return half_open or circuit_breaker.eligible(breaker, now)


def could_go_now(step: Step[R]) -> bool:
    """Say whether *step* could be sent without any wait, as far as the board tells."""
    guarded, request, now = step.guarded, step.request, trio.current_time()
    its = guarded.board
    tokens = tokens_to_reserve(guarded, request)
    own = guarded.provider.own_name(request.model)
    return (
        len(its.turns) + its.queued < its.max_concurrency
        and _may_be_asked(guarded, request.model, now)
        and (
            its.limiter is None
            or its.limiter.expected_at(now, tokens, model=own) <= now
        )
    )


def _candidate(
    guarded: Guarded,
    now: float,
    model: str,
    request: AnyRequest | None,
    routing: RoutingConfig,
    streaming: bool = False,
) -> Candidate:
    """Return the provider as it is now; with what *request* in particular comes to."""
    its, config = guarded.board, guarded.config
    breaker = its.breaker_of(guarded.provider.own_name(model))
    priced = request is not None and routing.strategy == "cheapest"
    return Candidate(
        name=config.name,
        priority=config.priority,
        weight=config.weight,
        eligible=_may_be_asked(guarded, model, now),
        retry_at=circuit_breaker.retry_at(breaker),
        health=its.health.rested(
            now - its.health_at, config.breaker.reset_timeout
        ).score,
        load=its.load,
        latency=_latency(its, model, now, streaming)
        if routing.strategy == "fastest"
        else None,
        catch_all=not guarded.provider.names_model(model),
        price=likely_cost(guarded.provider, request) if request and priced else None,
        wait=_wait(guarded, now, model, request, routing),
    )


def _latency(
    its: ProviderBoard,
    model: str,
    now: float,
    streaming: bool,
) -> float | None:
    outlook = its.performance.outlook(model, now)
    known = outlook.ttft_ewma if streaming else None
    if known is None:
        known = outlook.latency_ewma
    return None if known is None else faded(known, outlook.age or 0.0)


def _wait(
    guarded: Guarded,
    now: float,
    model: str,
    request: AnyRequest | None,
    routing: RoutingConfig,
) -> float:
    """Return how many seconds the provider's limits would hold the request back."""
    its = guarded.board
    limiter = its.limiter
    wait = 0.0
    if limiter is not None:
        tokens = 0 if request is None else tokens_to_reserve(guarded, request)
        own = guarded.provider.own_name(model)
        at = limiter.expected_at(now, tokens, model=own, ahead=its.queued)
        wait = max(0.0, at - now)
        if limiter.blocked_until > now:
            # It has asked us to wait: others are asked before, however short it is.
            wait = max(wait, math.nextafter(routing.spill_after, math.inf))
    if len(its.turns) + its.queued >= its.max_concurrency:
        wait = max(wait, _turn_in(guarded))
    return wait


def _turn_in(guarded: Guarded) -> float:
    """Return the seconds after which a turn will be free for one who comes now.

    As long as replies take here lately, or as the oldest that is under way has taken
    already: one that hangs is not in any average.
    """
    its, now = guarded.board, trio.current_time()
    usual = its.performance.outlook(None, now).latency_ewma or UNKNOWN_LATENCY
    oldest = now - next(iter(its.turns.values()), now)
    return max(usual, oldest) * (its.queued + 1) / its.max_concurrency


def _affordable(plan: Plan[R], options: CallOptions) -> Plan[R]:
    """Keep only those steps that cannot exceed the caller's limit.

    Raises:
        BudgetExceeded: there are none, or the cost cannot be bounded.
    """
    if options.max_cost is None:
        return plan
    worst = [worst_cost(step.guarded.provider, step.request) for step in plan]
    fitting = deque(
        step for step, cost in zip(plan, worst, strict=True) if _fits(cost, options)
    )
    if fitting:
        return fitting
    known = [cost for cost in worst if cost is not None]
    may = (
        f"may cost {usd(min(known))} USD"
        if known
        else f"cannot be bounded in cost ({_why_unknown(plan)})"
    )
    msg = f"the request {may}, and its limit is {usd(options.max_cost)} USD"
    raise BudgetExceeded(msg)


def _fits(worst: int | None, options: CallOptions) -> bool:
    limit = options.max_cost
    return limit is None or (worst is not None and worst <= limit)


def _why_unknown(plan: Plan[R]) -> str:
    """Say, for each reason once, why nobody in the *plan* has a largest cost."""
    whys = (why_unknown(step.guarded.provider, step.request) for step in plan)
    return "; ".join(dict.fromkeys(whys))


def _all_rest(
    route: NoneEligible, able: Sequence[Guarded], model: str, now: float
) -> CircuitOpen:
    wait = None if route.retry_at is None else max(0.0, route.retry_at - now)
    msg = "; ".join(_why_it_rests(guarded, model) for guarded in able)
    return CircuitOpen(msg, retry_after=wait)


def _why_it_rests(guarded: Guarded, model: str) -> str:
    name = repr(guarded.config.name)
    breaker = guarded.board.breaker_of(guarded.provider.own_name(model))
    if isinstance(breaker, circuit_breaker.Disabled):
        return f"{name} is disabled"
    return f"{name} is left alone for now: {why_refused(breaker)}"


def _rests_until(guarded: Guarded, model: str) -> float | None:
    own = guarded.provider.own_name(model)
    return circuit_breaker.retry_at(guarded.board.breaker_of(own))


def _refusal(refusals: Sequence[DuckError]) -> DuckError | None:
    """Return what becomes of a request that nobody is planned for.

    That somebody rests, rather than that somebody else cannot translate it: the one
    passes, and a job that waits for it must not be over.
    """
    passing = (error for error in refusals if error.retryable)
    return next(passing, refusals[0] if refusals else None)


def _not_served(model: str) -> ModelNotFound:
    shown = model[:MODEL_CHARS_MAX]
    return ModelNotFound(f"no provider serves the model {shown!r}", param="model")
