"""What metrics are read from where it is kept, at the moment somebody asks.

Nothing here waits for a provider, and no part that does not answer holds the others
up: what it would have told is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import attrs
import trio

from duckservice import __version__
from duckservice.actors.board import ProviderBoard
from duckservice.actors.request_queue import RequestQueue
from duckservice.calls.asking import ask
from duckservice.core.circuit_breaker import phase_name
from duckservice.core.pricing import PICO_PER_USD
from duckservice.core.request_queue import QueueStatistics
from duckservice.errors import DuckError
from duckservice.metrics.histogram import Histogram
from duckservice.metrics.table import Sample
from duckservice.metrics.tally import Labels, Tally, actor_label
from duckservice.store.base import StoreStatistics
from duckservice.store_slot import StoreSlot

if TYPE_CHECKING:
    from duckservice.running import RunningService

READ_WITHIN: Final = 2.0
"""Seconds that actors and the store may take."""

T = TypeVar("T")
_Read: TypeAlias = dict[str, list[Sample]]

_PHASES: Final = {"closed": 0, "half_open": 1, "open": 2, "disabled": 3}
_TOKENS: Final = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cached_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
}


@attrs.frozen(kw_only=True)
class Sources:
    """Where metrics come from."""

    service: RunningService
    slot: StoreSlot
    tally: Tally
    lag: Histogram
    since: float
    """When the service was started, on trio's clock."""
    spans: Mapping[str, int]
    """What has become of the spans for a collector; empty: there is none."""


async def read_samples(sources: Sources) -> _Read:
    """Return all samples of this moment; they stay as they are."""
    waited = await _waited_for(sources)
    service, tally = sources.service, sources.tally
    return {
        **_counted(tally.copy()),
        "duck_uptime_seconds": [((), trio.current_time() - sources.since)],
        **_of_service(service),
        **_of_providers(service),
        **_of_money(service, tally.models),
        **_of_tree(service),
        **_of_events(service),
        "duck_telemetry_spans_total": [
            ((result,), count) for result, count in sources.spans.items()
        ],
        "duck_loop_lag_seconds": [((), sources.lag.copy())],
        **waited,
    }


def _counted(tally: Tally) -> _Read:
    return {
        "duck_requests_finished_total": list(tally.requests.items()),
        "duck_jobs_finished_total": list(tally.jobs.items()),
        "duck_job_wait_seconds": list(tally.waits.items()),
        "duck_provider_attempts_total": list(tally.attempts.items()),
        "duck_provider_request_duration_seconds": list(tally.durations.items()),
        "duck_provider_time_to_first_chunk_seconds": list(tally.first_chunks.items()),
        "duck_limiter_wait_seconds": list(tally.limiter_waits.items()),
        "duck_breaker_transitions_total": list(tally.breaker_moves.items()),
        "duck_actor_restarts_total": list(tally.restarts.items()),
    }


def _of_service(service: RunningService) -> _Read:
    read: _Read = {
        "duck_build_info": [((__version__,), 1)],
        "duck_draining": [((), service.draining)],
        "duck_requests_in_flight": [((), service.counters.in_flight)],
    }
    cache = service.cache_status()
    if cache is not None:
        results = {"hit": "hits", "miss": "misses", "coalesced": "coalesced"}
        read["duck_cache_requests_total"] = [
            ((result,), cache[name]) for result, name in results.items()
        ]
    return read


def _of_providers(service: RunningService) -> _Read:
    now = trio.current_time()
    states, available = list[Sample](), list[Sample]()
    for name, guarded in service.parts.providers.items():
        states.append(((name,), _worst_phase(guarded.board)))
        if (limiter := guarded.board.limiter) is not None:
            its = limiter.statistics(now)
            if its.requests_available is not None:
                available.append(((name, "requests"), its.requests_available))
            if its.tokens_available is not None:
                available.append(((name, "tokens"), its.tokens_available))
    return {"duck_breaker_state": states, "duck_limiter_available": available}


def _worst_phase(board: ProviderBoard) -> int:
    return max(
        _PHASES[phase_name(state)]
        for state in (board.breaker, *board.breakers.values())
    )


def _of_money(service: RunningService, models: Labels) -> _Read:
    tokens = defaultdict[tuple[str, ...], int](int)
    costs = defaultdict[tuple[str, ...], int](int)
    for (provider, model), its in service.parts.sums.ever().items():
        label = models.of(model)
        costs[provider, label] += its.cost
        for kind, field in _TOKENS.items():
            tokens[provider, label, kind] += getattr(its, field)
    budgets = service.parts.budgets.states()
    return {
        "duck_tokens_total": list(tokens.items()),
        "duck_cost_usd_total": _usd(costs),
        "duck_budget_limit_usd": _usd(
            {(b.rule.name,): b.budget.limit for b in budgets}
        ),
        "duck_budget_remaining_usd": _usd(
            {(b.rule.name,): b.budget.remaining for b in budgets}
        ),
        "duck_budget_reserved_usd": _usd(
            {(b.rule.name,): b.budget.reserved for b in budgets}
        ),
    }


def _usd(amounts: Mapping[tuple[str, ...], int]) -> list[Sample]:
    return [(labels, amount / PICO_PER_USD) for labels, amount in amounts.items()]


def _of_tree(service: RunningService) -> _Read:
    if service.root is None:
        return {}
    depths = defaultdict[tuple[str, ...], int](int)
    for node in service.root.inspect().walk():
        if node.kind == "worker":
            depths[actor_label(node.path),] += node.inbox
    return {"duck_actor_mailbox_depth": list(depths.items())}


def _of_events(service: RunningService) -> _Read:
    its = service.events.statistics()
    return {
        "duck_events_total": [((), its.published)],
        "duck_event_readers": [((), its.readers)],
    }


# What must be asked for.


async def _waited_for(sources: Sources) -> _Read:
    """Return what actors and the store say; what they do not say in time is left out."""
    read: _Read = {}
    queue, jobs = sources.service.parts.queue, sources.service.jobs
    its = await _in_time(lambda: ask(lambda: queue.call(RequestQueue.statistics)))
    if its is not None:
        read |= _queue(its)
    counts = await _in_time(jobs.counts)
    if counts is not None:
        read["duck_jobs"] = [((state.value,), n) for state, n in counts.items()]
    # Where there is no store now, its attribute raises as the method would.
    store = await _in_time(lambda: jobs.store.statistics())  # noqa: PLW0108 - as above
    if store is not None:
        read |= _store(store)
    works = counts is not None and store is not None and sources.slot.failure is None
    read["duck_store_up"] = [((), works)]
    return read


async def _in_time(ask_for: Callable[[], Awaitable[T]]) -> T | None:
    with trio.move_on_after(READ_WITHIN), suppress(DuckError):
        return await ask_for()
    return None


def _queue(its: QueueStatistics) -> _Read:
    waiting, running = its.waiting_by_priority, its.running_by_lane
    return {
        "duck_queue_waiting": [((priority,), n) for priority, n in waiting.items()],
        "duck_queue_running": [((provider,), n) for provider, n in running.items()],
        "duck_queue_paused": [((), its.paused)],
    }


def _store(its: StoreStatistics) -> _Read:
    read: _Read = {}
    if its.used is not None:
        read["duck_store_used_bytes"] = [((), its.used)]
    if its.commits is not None:
        read["duck_store_commit_seconds"] = [((), its.commits.seconds)]
        read["duck_store_batch_size"] = [((), its.commits.sizes)]
    return read
