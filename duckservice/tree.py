"""The supervision tree: who is started, in which order, and what a crash does.

    root (one_for_one)
    ├── store                       of durable jobs: the first to start, the last to end
    ├── store_keeper                deletes what is old; sees to it that it recovers
    ├── ledger                      writes down what requests cost that are no jobs
    ├── cost_tracker
    ├── providers (one_for_one)
    │   └── <name> (one_for_one)
    │       ├── rate_limiter
    │       ├── circuit_breaker
    │       └── client              the connections; closed when it ends
    ├── request_queue
    ├── dispatcher (rest_for_one)
    │   ├── jobs                    a task for each job that runs
    │   ├── dispatcher
    │   └── news                    of work, from the store
    ├── batches (rest_for_one)
    │   ├── runs                    a task for each batch that runs
    │   └── starter
    ├── retirement                  of what a reload has replaced: ends when nobody uses it
    ├── loop_lag                    how late the event loop is, for the metrics
    └── gateway                     in the daemon only: listener and connections

Refs outlive restarts, and what must outlive them too is on the board, so no
part has to be restarted because another one was. All is one_for_one: a crash of
the queue breaks no client's connection, one of a limiter none to its provider.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

import attrs
import trio

from duckservice.actors.board import Board, ProviderBoard
from duckservice.actors.circuit_breaker import CircuitBreaker
from duckservice.actors.cost_tracker import CostTracker
from duckservice.actors.rate_limiter import RateLimiter
from duckservice.actors.request_queue import RequestQueue
from duckservice.config import Config, ProviderConfig, keys_of
from duckservice.core.breaker_policy import BreakerPolicy
from duckservice.core.cost_sums import CostSums
from duckservice.core.grants import Limits
from duckservice.events import EventSink, to_log
from duckservice.money.budgets import Budgets
from duckservice.money.ledger import LedgerBuffer
from duckservice.providers.base import Provider
from supervisors import (
    ActorRef,
    ChildSpec,
    Restart,
    Strategy,
    Supervisor,
    SupervisorSpec,
    actor,
    child,
    supervisor,
)

#: Messages that may wait for an actor: more than there can be callers, so that
#: a full inbox means a stuck actor, and not a busy one.
MAX_INBOX = 10_000

#: The path of what serves the daemon's socket.
GATEWAY = "gateway"


@attrs.frozen(kw_only=True)
class Seams:
    """What comes from outside and is replaced in tests; time itself is trio's clock."""

    wall_clock: Callable[[], float] = time.time
    """Seconds since the epoch; for calendars only, never for measuring."""
    random: random.Random = attrs.field(factory=random.Random)
    """For jitter, weights and ids."""
    emit: EventSink = to_log


@attrs.define(eq=False)
class Client:
    """A provider's connections: made anew by each incarnation of their actor."""

    make: Callable[[], Provider]
    provider: Provider
    _closed: bool = False
    _left: list[Provider] = attrs.field(factory=list[Provider])
    """Those that requests under way may still have connections of."""
    _users: Counter[int] = attrs.field(factory=Counter[int])
    """Of each provider, what uses it without a turn; by its `id`."""

    def renew(self, make: Callable[[], Provider], provider: Provider) -> None:
        """Use *provider* from now on, and what *make* makes after a crash.

        Requests under way go on with the one that they have. It must share its
        connections with this one: they are closed together.
        """
        self.make = make
        if not self._closed:
            self.provider = provider

    def replace(
        self, make: Callable[[], Provider], provider: Provider
    ) -> Provider | None:
        """Use *provider*, which has connections of its own, from now on.

        Returns the one of before: `close` it once nobody has a request there.
        """
        before = None if self._closed else self.provider
        self.renew(make, provider)
        if before is not None:
            self._left.append(before)
        return before

    @contextmanager
    def used(self) -> Generator[Provider]:
        """Yield the provider of today to who needs no turn, as for a list of models."""
        its = self.provider
        self._users[id(its)] += 1
        try:
            yield its
        finally:
            self._users[id(its)] -= 1

    def is_used(self, provider: Provider | None = None) -> bool:
        """Say whether somebody uses *provider*, or any, without a turn."""
        if provider is None:
            return any(self._users.values())
        return bool(self._users[id(provider)])

    async def close(self, left: Provider) -> None:
        """Close one that was left, for 2 s at most: whoever waits has more to close."""
        if left in self._left:
            self._left.remove(left)
            with trio.move_on_after(2):
                await left.aclose()

    async def run(self) -> None:
        """Keep the connections until the tree, or this part of it, stops."""
        if self._closed:
            self.provider, self._closed = self.make(), False
        try:
            await trio.sleep_forever()
        finally:
            self._closed = True
            with trio.move_on_after(2, shield=True):
                await self.provider.aclose()
                for left in list(self._left):
                    await self.close(left)


@attrs.define(eq=False)
class Guarded:
    """A provider, with the actors that guard it."""

    config: ProviderConfig
    """A reload replaces it."""
    client: Client
    breaker: ActorRef[CircuitBreaker]
    limiter: ActorRef[RateLimiter]
    board: ProviderBoard

    @property
    def provider(self) -> Provider:
        """The provider of today; a crash of its client replaces it."""
        return self.client.provider


@attrs.define(eq=False, kw_only=True)
class Parts:
    """The addresses of everything, valid before and after every restart."""

    providers: Mapping[str, Guarded]
    """Replaced, and not changed, when the config names others."""
    providers_root: Supervisor
    """What supervises them."""
    queue: ActorRef[RequestQueue]
    costs: ActorRef[CostTracker]
    board: Board
    sums: CostSums
    """What was spent; the cost tracker's, but it outlives it."""
    budgets: Budgets
    ledger: LedgerBuffer
    debug_bodies: bool = False
    """Whether the log may show what providers and clients wrote."""

    def own_name(self, provider: str, model: str) -> str:
        """Return what *provider*, if there is one, is asked for where *model* is meant."""
        guarded = self.providers.get(provider)
        return model if guarded is None else guarded.provider.own_name(model)


def make_parts(
    config: Config,
    providers: Mapping[str, Callable[[], Provider]],
    wall_clock: Callable[[], float],
) -> Parts:
    """Make the addresses; nothing runs yet. *providers* make one of each name."""
    guarded = {
        name: make_guarded(its, providers[name], whole=config)
        for name, its in config.providers.items()
    }
    return Parts(
        providers=guarded,
        providers_root=Supervisor(patient([]), name="providers"),
        queue=ActorRef("request_queue", max_inbox=MAX_INBOX),
        costs=ActorRef("cost_tracker", max_inbox=MAX_INBOX),
        board=Board(
            providers={name: its.board for name, its in guarded.items()},
            queue_max=config.queue.max_size,
        ),
        sums=CostSums(),
        budgets=Budgets.of(config.budgets, wall_clock),
        ledger=LedgerBuffer(),
        debug_bodies=config.log.debug_bodies,
    )


def make_guarded(
    config: ProviderConfig, make: Callable[[], Provider], *, whole: Config
) -> Guarded:
    """Make the addresses of one provider of the *whole* config; nothing runs yet."""
    name = config.name
    return Guarded(
        config=config,
        client=Client(make, make()),
        breaker=ActorRef(f"circuit_breaker.{name}", max_inbox=MAX_INBOX),
        limiter=ActorRef(f"rate_limiter.{name}", max_inbox=MAX_INBOX),
        board=ProviderBoard(
            name,
            config.max_concurrency,
            limits=limits_of(config, whole),
            policy=policy_of(config),
            by_model=config.breaker.scope == "model",
        ),
    )


def limits_of(config: ProviderConfig, whole: Config) -> Limits:
    """Return what the rate limiter is to hold a provider of the *whole* config to."""
    bucket = config.rate_limit
    return Limits(
        capacity=bucket.capacity if bucket else None,
        refill_rate=bucket.refill_rate if bucket else None,
        requests_per_minute=config.limits.requests_per_minute,
        tokens_per_minute=config.limits.tokens_per_minute,
        keys=len(keys_of(config)),
        key_requests_per_minute=config.key_limits.requests_per_minute,
        key_tokens_per_minute=config.key_limits.tokens_per_minute,
        aging=whole.queue.aging,
        guess_max=whole.retry.max_delay,
    )


def policy_of(config: ProviderConfig) -> BreakerPolicy:
    """Return when the circuit breaker of a provider is to open, and how it closes."""
    its = config.breaker
    return BreakerPolicy(
        failure_threshold=its.failure_threshold,
        success_threshold=its.success_threshold,
        reset_timeout=its.reset_timeout,
        half_open_max=its.half_open_max,
        # A probe may take as long as a request may.
        probe_timeout=config.timeout.total,
        failure_rate=its.failure_rate,
        slow_call=its.slow_call,
        slow_rate=its.slow_rate,
        window=its.window,
        min_requests=its.min_requests,
    )


@attrs.frozen(kw_only=True)
class JobChildren:
    """The children that durable jobs add to the tree."""

    store: ChildSpec
    store_keeper: ChildSpec
    ledger: ChildSpec
    dispatcher: ChildSpec


def tree(
    config: Config,
    parts: Parts,
    seams: Seams,
    *,
    jobs: JobChildren,
    batches: ChildSpec | None = None,
    gateway: Callable[..., Awaitable[object]] | None = None,
) -> SupervisorSpec:
    """Return the whole tree; *gateway* serves the daemon's socket."""
    children = [
        jobs.store,
        jobs.store_keeper,
        jobs.ledger,
        _named(
            "cost_tracker",
            actor(parts.costs, CostTracker, parts.sums, seams.wall_clock),
        ),
        supervisor("providers", _providers(parts, seams)),
        _named(
            "request_queue",
            actor(parts.queue, RequestQueue.start, parts.board, config.queue.aging),
        ),
        jobs.dispatcher,
    ]
    if batches is not None:
        children.append(batches)
    if gateway is not None:
        # It returns when the daemon has drained it; only a crash restarts it.
        spec = child(GATEWAY, gateway)
        children.append(attrs.evolve(spec, restart=Restart.TRANSIENT))
    return patient(children)


def _providers(parts: Parts, seams: Seams) -> Supervisor:
    its = parts.providers_root
    children = [
        provider_spec(guarded, parts.board, seams)
        for guarded in parts.providers.values()
    ]
    its.spec = patient(children)
    return its


def provider_spec(guarded: Guarded, board: Board, seams: Seams) -> ChildSpec:
    """Return what runs for one provider, below `Parts.providers_root`."""
    limiter, breaker, its = guarded.limiter, guarded.breaker, guarded.board
    children = [
        _named("rate_limiter", actor(limiter, RateLimiter.start, limiter, its)),
        _named(
            "circuit_breaker",
            actor(breaker, CircuitBreaker.start, its, board.eras, seams.emit),
        ),
        child("client", guarded.client.run),
    ]
    return supervisor(its.name, patient(children))


def _named(id_: str, spec: ChildSpec) -> ChildSpec:
    """Give an actor a short id: its path says the rest."""
    return attrs.evolve(spec, id=id_)


def patient(
    children: Sequence[ChildSpec], strategy: Strategy = Strategy.ONE_FOR_ONE
) -> SupervisorSpec:
    """Allow more restarts than OTP's default: one message must not end a daemon."""
    return SupervisorSpec(
        children=children, strategy=strategy, max_restarts=20, max_seconds=10.0
    )
