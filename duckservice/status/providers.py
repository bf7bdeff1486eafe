"""A provider as operators see it: its state, its limits, its keys, and whether it answers."""

from __future__ import annotations

from typing import Any, TypeAlias

import trio

from duckservice.actors.rate_limiter import RateLimiter
from duckservice.calls.asking import ask
from duckservice.config import ProviderConfig
from duckservice.core.grants import KeyStatistics, ModelStatistics
from duckservice.core.pricing import usd
from duckservice.errors import DuckError
from duckservice.providers.auth.key_state import HasKeys
from duckservice.providers.base import Provider
from duckservice.status.breaker import breaker_fields
from duckservice.status.performance import performance_fields
from duckservice.tree import Guarded

Json: TypeAlias = dict[str, Any]

CHECK_LIMIT = 8.0
"""Seconds that a provider may take to say that it is there; the command waits for 10."""


async def provider_fields(guarded: Guarded, cost: int | None) -> Json:
    """Return how a provider is; *cost* in picodollars, None where it was not asked for."""
    its, config = guarded.board, guarded.config
    limiter = await ask(lambda: guarded.limiter.call(RateLimiter.statistics))
    return {
        "name": config.name,
        "adapter": config.adapter,
        "models": list(config.models),
        "priority": config.priority,
        **breaker_fields(its, trio.current_time()),
        "in_flight": len(its.turns),
        "max_concurrency": config.max_concurrency,
        "health": round(its.health.score, 3),
        "latency_ms": None
        if its.health.latency is None
        else round(its.health.latency * 1000, 1),
        "requests": its.requests,
        "failures": its.failures,
        "cost_usd": None if cost is None else usd(cost),
        "keys": _keys(guarded.provider),
        "limiter": {
            "available": limiter.requests_available,
            "tokens_available": limiter.tokens_available,
            "limits": _limits(config),
            "key_limits": {
                "requests_per_minute": config.key_limits.requests_per_minute,
                "tokens_per_minute": config.key_limits.tokens_per_minute,
            },
            "waiting": limiter.waiting,
            "blocked_s": None
            if limiter.blocked_until is None
            else round(limiter.blocked_until - trio.current_time(), 3),
            "keys": [_key_limits(its) for its in limiter.keys],
            "told": {its.model: _told_limits(its) for its in limiter.told},
        },
        **await performance_fields(its.performance),
    }


async def checked_fields(guarded: Guarded) -> Json:
    """Find out whether a provider answers; return what it says, or why it does not."""
    found: Json = {
        "name": guarded.config.name,
        "adapter": guarded.config.adapter,
        "healthy": False,
        "latency_ms": None,
        "detail": f"no answer within {CHECK_LIMIT:g} s",
    }
    with trio.move_on_after(CHECK_LIMIT):
        try:
            with guarded.client.used() as provider:
                report = await provider.health_check()
        except DuckError as error:
            keys = _keys(guarded.provider)
            return {**found, "detail": error.message, "keys": keys}
        return {
            **found,
            "healthy": report.healthy,
            "latency_ms": round(report.latency * 1000, 1),
            "detail": report.detail,
            "keys": _keys(guarded.provider),
        }
    return found


def _limits(config: ProviderConfig) -> Json:
    """Return what is configured, for comparison with what is left of it."""
    return {
        "requests_per_minute": config.limits.requests_per_minute,
        "tokens_per_minute": config.limits.tokens_per_minute,
        "burst": None if config.rate_limit is None else config.rate_limit.capacity,
    }


def _told_limits(its: ModelStatistics) -> Json:
    """Return what the provider has told of one model's limits."""
    return {
        "requests_limit": its.requests_limit,
        "tokens_limit": its.tokens_limit,
        "available": its.requests_available,
        "tokens_available": its.tokens_available,
    }


def _key_limits(its: KeyStatistics) -> Json:
    """Return what the rate limit of one of several keys has left."""
    until = its.rests_until
    return {
        "available": its.requests_available,
        "tokens_available": its.tokens_available,
        "rests_s": None if until is None else round(until - trio.current_time(), 3),
    }


def _keys(provider: Provider) -> list[Json]:
    """Return how each of the provider's keys is; they are masked."""
    if not isinstance(provider, HasKeys):
        return []
    return [
        {
            "key": its.key,
            "state": its.state,
            "wait_s": None if its.wait is None else round(its.wait, 3),
        }
        for its in provider.key_states()
    ]
