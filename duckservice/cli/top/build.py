"""From what the daemon answers to one frame of `duck top`; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias

import attrs

from duckservice.cli.budget import percent
from duckservice.cli.status import store_text
from duckservice.cli.top.frame import (
    Actor,
    Budget,
    Daemon,
    Frame,
    Job,
    Limit,
    Provider,
    Queue,
)
from duckservice.cli.top.history import History
from duckservice.cli.top.waits import lane_of, part_of, waits

Json: TypeAlias = Mapping[str, Any]

_WORRIES: Final = ("restarting", "stopped", "stopping", "starting")
_JOBS_ORDER: Final = ("executing", "retryable", "available", "scheduled", "suspended")


@attrs.frozen(kw_only=True)
class Bodies:
    """What the daemon has answered, all at about the same moment."""

    status: Json
    providers: Sequence[Json]
    budgets: Sequence[Json]
    tree: Json
    today: Json
    """The costs since midnight, UTC."""
    last_hour: Json
    jobs: Sequence[Json]
    """Those that are not over."""


def frame(bodies: Bodies, history: History, now: float, *, lost: str = "") -> Frame:
    """Return what is to be shown at *now*, seconds since the epoch."""
    providers = tuple(_provider(its, bodies.status) for its in bodies.providers)
    return Frame(
        at=now,
        lost=lost,
        daemon=_daemon(bodies),
        rates=history.rates(now),
        throughput=history.throughput(now),
        queue=_queue(bodies),
        waits=tuple(waits(bodies.status["queue"], bodies.providers, bodies.jobs)),
        providers=providers,
        budgets=tuple(_budget(its, now) for its in bodies.budgets),
        actors=_actors(bodies.tree),
        jobs=_jobs(bodies.jobs, now),
        job_counts={name: n for name, n in part_of(bodies.status, "jobs").items() if n},
        notes=history.notes(),
    )


def _daemon(bodies: Bodies) -> Daemon:
    status = bodies.status
    requests = status["requests"]
    store = status.get("store")
    return Daemon(
        version=status["version"],
        pid=status["pid"],
        state=status["state"],
        uptime_s=status["uptime_s"],
        store=store_text(store) if store else "",
        store_ok=not store or bool(store["ok"] and not store.get("full")),
        requests=requests["completed"] + requests["failed"],
        failed=requests["failed"],
        in_flight=requests["in_flight"],
        usd_today=bodies.today["total"]["cost_usd"],
        usd_last_hour=bodies.last_hour["total"]["cost_usd"],
    )


def _queue(bodies: Bodies) -> Queue:
    queue = bodies.status["queue"]
    # Who waits for a limit has a turn, and has sent nothing yet.
    limited: int = sum(its["limiter"]["waiting"] for its in bodies.providers)
    return Queue(
        depth=dict(queue["depth"]),
        waiting=queue["waiting"],
        running=max(0, queue["running"] - limited),
        oldest_wait_s=queue.get("oldest_wait_s") or 0.0,
        paused=bool(queue.get("paused")),
        max_size=queue.get("max_size"),
    )


def _provider(its: Json, status: Json) -> Provider:
    limiter, performance = its["limiter"], part_of(its, "performance")
    rests_s, why = _rest(its)
    return Provider(
        name=its["name"],
        state=its["breaker"] if its["enabled"] else "disabled",
        in_flight=its["in_flight"],
        max_concurrency=its["max_concurrency"],
        waiting=lane_of(status["queue"], its["name"])["waiting"] + limiter["waiting"],
        health=its["health"],
        requests=_limit(
            limiter, "available", "requests_limit", ("requests_per_minute", "burst")
        ),
        tokens=_limit(
            limiter, "tokens_available", "tokens_limit", ("tokens_per_minute",)
        ),
        p50_ms=performance.get("p50_latency_ms"),
        p90_ms=performance.get("p90_latency_ms"),
        asked=its["requests"],
        failures=its["failures"],
        usd=its["cost_usd"] or "0",
        rests_s=rests_s,
        why=why,
    )


def _rest(its: Json) -> tuple[float | None, str]:
    if its.get("breaker_why"):
        return its.get("breaker_wait_s"), its["breaker_why"]
    blocked = its["limiter"]["blocked_s"]
    if blocked is not None and blocked > 0:
        return blocked, "rate limit"
    return None, ""


def _limit(limiter: Json, left: str, of: str, limits: Sequence[str]) -> Limit | None:
    """Return the tightest limit: what is configured, or else told by the provider."""
    if limiter.get(left) is not None:
        return Limit(left=limiter[left], of=_configured(limiter, limits))
    told = [
        Limit(left=its[left], of=its[of])
        for its in part_of(limiter, "told").values()
        if its.get(left) is not None and its.get(of)
    ]
    return max(told, key=lambda its: its.used or 0.0) if told else None


def _configured(limiter: Json, limits: Sequence[str]) -> int | None:
    """Return the smallest limit of all keys, which have no more than theirs together."""
    known, each = part_of(limiter, "limits"), part_of(limiter, "key_limits")
    keys = len(limiter.get("keys", ())) or 1
    whole = [known[name] for name in limits if known.get(name)]
    of_keys = [each[name] * keys for name in limits if each.get(name)]
    return min([*whole, *of_keys], default=None)


def _budget(its: Json, now: float) -> Budget:
    until = its["until"]
    gone = Decimal(its["spent_usd"]) + Decimal(its["reserved_usd"])
    return Budget(
        name=its["name"],
        used=percent(its),
        usd_gone=f"{gone:f}",
        usd_limit=its["limit_usd"],
        window=its["window"],
        seconds=None
        if until is None
        else max(0.0, datetime.fromisoformat(until).timestamp() - now),
    )


def _actors(root: Json) -> tuple[Actor, ...]:
    """Return those to look at: not running, restarted, or with messages that wait."""
    found = [
        Actor(
            path=its["path"] or its["name"],
            state=its["state"],
            restarts=its["restarts"],
            inbox=its["inbox"],
            last_crash=its["last_crash"] or "",
        )
        for its in _nodes(root)
        if its["restarts"] or its["inbox"] or its["state"] in _WORRIES
    ]
    found.sort(
        key=lambda its: (its.state == "running", -its.restarts, -its.inbox, its.path)
    )
    return tuple(found)


def _nodes(node: Json) -> Iterator[Json]:
    yield node
    for child in node.get("children", ()):
        yield from _nodes(child)


def _jobs(jobs: Iterable[Json], now: float) -> tuple[Job, ...]:
    rank = {state: n for n, state in enumerate(_JOBS_ORDER)}
    ordered = sorted(
        jobs, key=lambda its: (rank.get(its["state"], len(rank)), its["created_at"])
    )
    return tuple(_job(its, now) for its in ordered)


def _job(its: Json, now: float) -> Job:
    until = its["wait_until"]
    return Job(
        id=its["id"],
        state=its["state"],
        priority=its["priority"],
        model=its["model"],
        age_s=max(0.0, now - its["created_at"]),
        attempt=its["attempt"],
        waits_for=its["wait_reason"] or "",
        seconds=until - now if until and until > now else None,
    )
