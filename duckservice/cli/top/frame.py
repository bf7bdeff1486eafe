"""One frame of `duck top` as a value: what it shows, before it is known how wide."""

from __future__ import annotations

from typing import Any

import attrs

from duckservice.cli.top.history import Note, Rates


@attrs.frozen(kw_only=True)
class Daemon:
    """Who answers, and how it is."""

    version: str
    pid: int
    state: str
    uptime_s: float
    store: str
    store_ok: bool
    requests: int
    failed: int
    in_flight: int
    usd_today: str
    usd_last_hour: str


@attrs.frozen(kw_only=True)
class Queue:
    """Requests that wait for a turn, and those that have one."""

    depth: dict[str, int]
    waiting: int
    running: int
    oldest_wait_s: float
    paused: bool
    max_size: int | None


@attrs.frozen(kw_only=True)
class Wait:
    """How many wait for the same thing."""

    number: int
    what: str
    """One of them: request or job."""
    why: str
    seconds: float | None
    """Until it is over, where that is known."""


@attrs.frozen(kw_only=True)
class Limit:
    """How much of a provider's limit is taken; of requests or tokens a minute."""

    left: int
    of: int | None
    """None: the limit is not known, only what is left of it."""

    @property
    def used(self) -> float | None:
        """The share that is taken."""
        if not self.of:
            return None
        return min(1.0, max(0.0, 1 - self.left / self.of))


@attrs.frozen(kw_only=True)
class Provider:
    """How a provider does."""

    name: str
    state: str
    """Its breaker's, or "disabled"."""
    in_flight: int
    max_concurrency: int
    waiting: int
    """For a turn or for a limit."""
    health: float
    requests: Limit | None
    tokens: Limit | None
    p50_ms: float | None
    p90_ms: float | None
    asked: int
    """Requests since the start."""
    failures: int
    usd: str
    rests_s: float | None
    """Until it is asked again: its breaker's wait, or its limit's."""
    why: str
    """Why it rests."""


@attrs.frozen(kw_only=True)
class Budget:
    """How much of a budget is gone."""

    name: str
    used: int
    """Percent, of what is spent and set aside."""
    usd_gone: str
    usd_limit: str
    window: str
    seconds: float | None
    """Until it begins anew."""


@attrs.frozen(kw_only=True)
class Actor:
    """An actor that was restarted, or whose messages wait."""

    path: str
    state: str
    restarts: int
    inbox: int
    last_crash: str


@attrs.frozen(kw_only=True)
class Job:
    """A durable job that is not over."""

    id: str
    state: str
    priority: str
    model: str
    age_s: float
    attempt: int
    waits_for: str
    seconds: float | None


@attrs.frozen(kw_only=True)
class Frame:
    """All that is shown at one moment."""

    at: float
    lost: str
    """Why nobody answers; empty where somebody does. The rest is as it was then."""
    daemon: Daemon
    rates: Rates
    throughput: tuple[int | None, ...]
    """Requests that ended, by second, the oldest first."""
    queue: Queue
    waits: tuple[Wait, ...]
    providers: tuple[Provider, ...]
    budgets: tuple[Budget, ...]
    actors: tuple[Actor, ...]
    jobs: tuple[Job, ...]
    job_counts: dict[str, int]
    notes: tuple[Note, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the frame as data for programs."""
        return attrs.asdict(self)
