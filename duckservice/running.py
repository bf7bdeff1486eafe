"""A running service: the tree around `Service`, and what is to be known of it.

This is what the gateway talks to, and what `duckservice.open_service` wraps.
"""

from __future__ import annotations

import os
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, cast, final

import attrs
import trio

import duckservice
from duckservice.actors.circuit_breaker import CircuitBreaker
from duckservice.actors.cost_tracker import CostTracker
from duckservice.actors.job_board import JobBoard
from duckservice.actors.request_queue import RequestQueue
from duckservice.batches.batches import Batches
from duckservice.cache.caching import CachingService
from duckservice.calls.asking import ask
from duckservice.calls.offers import Offer, offer_fields, price_list_fields
from duckservice.completion import ModelInfo
from duckservice.config import Config
from duckservice.core.cost_sums import By, Summary
from duckservice.core.pricing import usd
from duckservice.errors import HAS_ENDED, InvalidRequest, NotFound, Unavailable
from duckservice.event_stream.hub import EventHub
from duckservice.events import BreakerMoved, Event, EventSink, QueueSwitched
from duckservice.jobs.durable import Durable, forgets, make_durable, open_opener
from duckservice.jobs.jobs import Jobs
from duckservice.jobs.news import telling
from duckservice.listing import ModelList
from duckservice.metrics.metrics import Metrics
from duckservice.provider_maker import Maker, makers_of
from duckservice.providers.base import Provider
from duckservice.reloading.changes import Changes
from duckservice.reloading.renewal import Renewal
from duckservice.reloading.retirement import Retirement
from duckservice.status.breaker import breaker_fields
from duckservice.status.money import budget_fields, costs_fields
from duckservice.status.providers import checked_fields, provider_fields
from duckservice.status.store import no_answer, store_status
from duckservice.store.base import Store
from duckservice.store_slot import StoreSlot
from duckservice.tree import GATEWAY, Guarded, Seams, make_parts, tree
from supervisors import (
    ChildNotFound,
    ChildSpec,
    Node,
    Supervisor,
    child,
    emit,
    open_supervisor,
)

Json: TypeAlias = dict[str, Any]

PROVIDER_ACTIONS = ("enable", "disable", "reset", "check")
BYS = ("provider", "model", "day", "hour", "total")

#: Seconds that readiness waits for the actors' answers.
READY_WITHIN = 2.0


class RestartRequested(Exception):
    """Somebody asked for the actor to be crashed and restarted."""


@final
@attrs.define(eq=False)
class RunningService(CachingService):
    """A service whose tree runs: requests (see `Service`), and a look inside."""

    root: Supervisor | None = None
    _jobs: Jobs | None = None
    _batches: Batches | None = None
    _slot: StoreSlot | None = None
    _events: EventHub | None = None
    _metrics: Metrics | None = None
    _durable: Durable | None = None
    _renewal: Renewal | None = None
    _started: float = attrs.field(factory=trio.current_time)
    _until_draining: set[trio.CancelScope] = attrs.field(factory=set[trio.CancelScope])
    _models: ModelList = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: ModelList(self.parts), takes_self=True),
    )

    @property
    def jobs(self) -> Jobs:
        """The durable jobs."""
        assert self._jobs is not None, "open_running sets it"
        return self._jobs

    @property
    def batch_jobs(self) -> Batches:
        """The batches of durable jobs."""
        assert self._batches is not None, "open_running sets it"
        return self._batches

    @property
    def events(self) -> EventHub:
        """What happens, for who follows it."""
        assert self._events is not None, "open_running sets it"
        return self._events

    def must_not_have_ended(self) -> None:
        """Raise `Unavailable`, not to be repeated, if the tree has stopped."""
        if self.root is not None and not self.root.is_running:
            raise Unavailable(HAS_ENDED, retryable=False)

    # What is to be known.

    async def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics as text, and its content type, as *accept* prefers."""
        assert self._metrics is not None, "open_running sets it"
        assert self._slot is not None, "open_running sets it"
        return await self._metrics.scrape(self, self._slot, accept)

    async def status(self) -> Json:
        """Return the state of the whole, at one glance."""
        summary = await self._summary("total")
        queue = await self.queue()
        return {
            "version": duckservice.__version__,
            "pid": os.getpid(),
            "uptime_s": round(trio.current_time() - self._started, 3),
            "state": "draining" if self.draining else "running",
            "requests": attrs.asdict(self.counters),
            "queue": queue,
            "providers": {
                name: {
                    **breaker_fields(guarded.board, trio.current_time()),
                    "in_flight": len(guarded.board.turns),
                    "health": round(guarded.board.health.score, 3),
                }
                for name, guarded in self.parts.providers.items()
            },
            "jobs": await self._job_counts(),
            "store": await self._store_status()
            | {"ledger_dropped": self.parts.ledger.dropped},
            "cache": self.cache_status(),
            "cost_usd": usd(summary.total.cost),
        }

    async def queue(self) -> Json:
        """Return how many requests run and wait."""
        self.must_not_have_ended()
        statistics = await ask(lambda: self.parts.queue.call(RequestQueue.statistics))
        return {
            "waiting": statistics.waiting,
            "running": sum(statistics.running_by_lane.values()),
            "depth": dict(statistics.waiting_by_priority),
            "lanes": {
                lane: {"waiting": waiting, "running": statistics.running_by_lane[lane]}
                for lane, waiting in statistics.waiting_by_lane.items()
            },
            "oldest_wait_s": round(statistics.oldest_wait, 3),
            "paused": statistics.paused,
            "max_size": statistics.max_size,
        }

    async def pause_queue(self, *, paused: bool) -> Json:
        """Give no more turns, or give them again; requests under way go on.

        Jobs do not begin either, also after a restart of the daemon.
        """
        self.must_not_have_ended()
        method = RequestQueue.pause if paused else RequestQueue.resume
        await ask(lambda: self.parts.queue.call(method))
        await (self.jobs.pause() if paused else self.jobs.resume())
        self.seams.emit(QueueSwitched(paused))
        return await self.queue()

    def tree(self) -> Json:
        """Return the supervision tree."""
        if self.root is None:
            msg = "the supervision tree is not up"
            raise Unavailable(msg)
        return _node(self.root.inspect())

    async def costs(self, by: str, since: float | None = None) -> Json:
        """Return what was spent since then (seconds since the epoch), split *by*.

        Raises:
            InvalidRequest: *by* is none of `BYS`.
        """
        _check_word("by", by, BYS)
        its, costs = cast(By, by), self.parts.costs
        if since is None:
            summary = await self._summary(its)
        else:
            summary = await ask(
                lambda: costs.call(CostTracker.summary_since, since, its)
            )
        return costs_fields(summary)

    def budgets(self) -> list[Json]:
        """Return what is left of each budget."""
        return [budget_fields(state) for state in self.parts.budgets.states()]

    async def providers(self) -> list[Json]:
        """Return each provider's state, limits and figures."""
        summary = await self._summary("provider")
        spent = {row.key: row.sum.cost for row in summary.rows}
        return [
            await provider_fields(guarded, spent.get(name, 0))
            for name, guarded in self.parts.providers.items()
        ]

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return the models that can be asked for; see `listing`."""
        return await self._models.models()

    async def offers(self) -> tuple[Offer, ...]:
        """Return each model at each provider, what it can do and what it costs."""
        return await self._models.offers()

    async def models_in_detail(self) -> Json:
        """Return the offers of each model by its id, and where prices come from."""
        offers = await self.offers()
        by_model: dict[str, list[Json]] = {}
        for offer in offers:
            by_model.setdefault(offer.model, []).append(offer_fields(offer))
        today = datetime.fromtimestamp(self.seams.wall_clock(), UTC).date()
        return {
            "offers": by_model,
            "price_list": price_list_fields(today),
            "silent_providers": dict(self._models.silent),
        }

    async def ready(self) -> Json:
        """Return that the root supervisor, the actors and the store answer.

        Raises:
            Unavailable: one does not, or the service is about to stop.
        """
        self.must_not_have_ended()
        if self.draining:
            msg = "draining"
            raise Unavailable(msg)
        self._root_must_run()
        asked = "an actor"
        with trio.move_on_after(READY_WITHIN) as scope:
            await self._summary("total")
            await ask(lambda: self.parts.queue.call(RequestQueue.statistics))
            asked = "the store"
            await self.jobs.ready()
        if scope.cancelled_caught:
            msg = f"{asked} did not answer within {READY_WITHIN:g} s"
            raise Unavailable(msg)
        return {"ready": True}

    # What operators may do.

    def drain(self) -> None:
        """Take nothing new, and begin no job; what runs goes on."""
        self.draining = True
        self.jobs.drain()
        for scope in self._until_draining:
            scope.cancel(reason="the daemon drains")

    @contextmanager
    def until_draining(self) -> Generator[trio.CancelScope]:
        """Return a scope that is cancelled when `drain` is called, or was already."""
        with trio.CancelScope() as scope:
            if self.draining:
                scope.cancel(reason="the daemon drains")
            self._until_draining.add(scope)
            try:
                yield scope
            finally:
                self._until_draining.discard(scope)

    async def provider_action(self, name: str, action: str) -> Json:
        """Carry out one of `PROVIDER_ACTIONS`; return the provider's state after it.

        Raises:
            NotFound: there is no such provider.
            InvalidRequest: there is no such action.
        """
        guarded = self.parts.providers.get(name)
        if guarded is None:
            msg = f"no provider {name!r}; there are: {', '.join(self.parts.providers)}"
            raise NotFound(msg)
        _check_word("action", action, PROVIDER_ACTIONS)
        if action == "check":
            return await checked_fields(guarded)
        method = {
            "enable": CircuitBreaker.enable,
            "disable": CircuitBreaker.disable,
            "reset": CircuitBreaker.reset,
        }[action]
        await ask(lambda: guarded.breaker.call(method))
        return await provider_fields(guarded, None)

    async def check_providers(self) -> Sequence[Json]:
        """Find out, of all providers side by side, which of them answer."""
        found: dict[str, Json] = {}
        providers = self.parts.providers

        async def check(guarded: Guarded) -> None:
            found[guarded.config.name] = await checked_fields(guarded)

        async with trio.open_nursery() as nursery:
            for guarded in providers.values():
                nursery.start_soon(check, guarded)
        return [found[name] for name in providers]

    async def reload(self, config: Config) -> Json:
        """Take over what *config* changes; all of it or, if it raises, nothing.

        Raises:
            InvalidRequest: a provider cannot be made from it.
            Unavailable: the tree or the store did not do its part in time.
        """
        assert self._renewal is not None, "open_running sets it"
        self.must_not_have_ended()
        found = await self._renewal.take_over(config)
        return {
            "changed": list(found.changed),
            "added": list(found.new_paths),
            "removed": list(found.gone_paths),
            "needs_restart": list(found.needs_restart),
            "warnings": list(config.warnings),
        }

    def taken_over(self, found: Changes) -> None:
        """Go by another config from now on; see `reload`."""
        self.refresh(found.config)
        others = (*found.added, *found.removed, *found.moved, *found.renewed)
        self._models.forget(others)
        assert self._durable is not None, "open_running sets it"
        self._durable.refresh(found.config)

    async def restart_actor(self, path: str) -> None:
        """Crash what runs at *path* of the tree; its supervisor restarts it by policy.

        Raises:
            NotFound: nothing runs there.
        """
        msg = f"no actor runs at {path!r}; `duck tree` shows the paths"
        root = self.root
        if root is None or root.find(path) is None:
            raise NotFound(msg)
        if path != GATEWAY:
            root.crash_child(path, RestartRequested(path))
            return
        # Who asks over the socket is to get an answer, before its connection goes.
        trio.lowlevel.current_trio_token().run_sync_soon(_crash, root, path)

    def new_request_id(self) -> str:
        """Return an id for a request that came without one."""
        return f"req_{self.new_id()}"

    def _root_must_run(self) -> None:
        state = "not up" if self.root is None else self.root.inspect().state
        if state != "running":
            msg = f"the root supervisor is {state}"
            raise Unavailable(msg)

    async def _store_status(self) -> Json:
        assert self._slot is not None, "open_running sets it"
        with trio.move_on_after(READY_WITHIN):
            return await store_status(self._slot, self.jobs)
        return no_answer(READY_WITHIN)

    async def _job_counts(self) -> Json | None:
        """Return how many jobs are in each state; None while the store cannot tell."""
        try:
            counts = await self.jobs.counts()
        except Unavailable:
            return None
        return {str(state): count for state, count in counts.items()}

    async def _summary(self, by: By) -> Summary:
        self.must_not_have_ended()
        costs = self.parts.costs
        return await ask(lambda: costs.call(CostTracker.summary, "all", by))


@asynccontextmanager
async def open_running(
    config: Config,
    *,
    providers: Mapping[str, Provider] | None = None,
    seams: Seams | None = None,
    gateway: Callable[[RunningService], Callable[..., Awaitable[object]]] | None = None,
    state_dir: Path | None = None,
    store: Store | None = None,
) -> AsyncGenerator[RunningService]:
    """Run the whole tree for the length of a block.

    *providers* replace the configured adapters (tests do that); *gateway* makes,
    from the service, the child that serves a socket. Jobs are kept in *store*, else
    where ``store.url`` says; without a *state_dir*, ``sqlite`` keeps them in memory.
    """
    seams = seams or Seams()
    hub, metrics = EventHub(seams.wall_clock, config.log.debug_bodies), Metrics()
    # A failing logger must not fail a request, nor crash an actor.
    seams = attrs.evolve(seams, emit=_to_all(seams.emit, hub.publish, metrics.add))
    async with open_opener(config, state_dir, store) as opener:
        open_ = telling(opener, seams.emit)
        makers = makers_of(config, providers)
        parts = make_parts(config, makers, seams.wall_clock)
        parts.ledger.enabled = store is not None or not forgets(config, state_dir)
        service = RunningService(config, parts, seams)
        durable = make_durable(service, open_)
        service._jobs = durable.jobs  # noqa: SLF001 - of our own class
        service._durable = durable  # noqa: SLF001 - of our own class
        waking = _waking(seams, durable.jobs.board)
        retirement = Retirement(parts, waking)
        service._renewal = Renewal(  # noqa: SLF001 - of our own class
            parts=parts,
            seams=waking,
            retirement=retirement,
            maker=Maker() if providers is None else None,
            config=lambda: service.config,
            on_change=service.taken_over,
        )
        service._slot = durable.slot  # noqa: SLF001 - of our own class
        service._batches = Batches(durable.jobs)  # noqa: SLF001 - of our own class
        service._events, service._metrics = hub, metrics  # noqa: SLF001 - of our own class
        spec = tree(
            config,
            parts,
            waking,
            jobs=durable.children,
            batches=service.batch_jobs.child(),
            gateway=None if gateway is None else gateway(service),
        )
        spec = service.with_cache(spec, state_dir)
        children = list(spec.children)
        more = [
            child("retirement", retirement.run),
            child("loop_lag", metrics.watch_loop),
        ]
        at = len(children) - (gateway is not None)
        children[at:at] = more
        if config.telemetry.enabled:
            # First, so that it is told of all the others' ends.
            children.insert(0, _telemetry(service, hub, metrics))
        spec = attrs.evolve(spec, children=children)
        try:
            async with open_supervisor(spec, on_event=seams.emit) as root:
                service.root = root
                yield service
        finally:
            durable.slot.stopped_for_good()


def _telemetry(service: RunningService, hub: EventHub, metrics: Metrics) -> ChildSpec:
    from duckservice.otel.exporter import Exporter, telemetry_child  # noqa: PLC0415 - an extra, which only those need who have switched it on

    exporter = Exporter.of(lambda: service.config, hub)
    metrics.spans = exporter.counts
    return telemetry_child(exporter)


def _to_all(*sinks: EventSink) -> EventSink:
    """Return what hands an event to each of *sinks*, whatever the others do."""

    def emit_to_all(event: Event) -> None:
        for sink in sinks:
            emit(sink, event)

    return emit_to_all


def _waking(seams: Seams, board: JobBoard) -> Seams:
    """Have the dispatcher look whenever a breaker has moved."""

    def emit_and_wake(event: Event) -> None:
        seams.emit(event)
        if isinstance(event, BreakerMoved):
            board.wake()

    return attrs.evolve(seams, emit=emit_and_wake)


def _crash(root: Supervisor, path: str) -> None:
    with suppress(ChildNotFound):
        root.crash_child(path, RestartRequested(path))


def _node(node: Node) -> Json:
    shown: Json = {
        "name": node.id,
        "path": node.path,
        "kind": node.kind,
        "state": node.state,
        "restarts": node.restarts,
        "inbox": node.inbox,
        "last_crash": node.last_crash,
    }
    if node.kind != "worker":
        shown["strategy"] = node.strategy
        shown["children"] = [_node(child) for child in node.children]
    return shown


def _check_word(what: str, word: str, allowed: Sequence[str]) -> None:
    if word not in allowed:
        msg = f"{what} is {word!r}; it may be: {', '.join(allowed)}"
        raise InvalidRequest(msg, param=what)
