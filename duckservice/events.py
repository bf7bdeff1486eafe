"""What happens in the service, as frozen values, and their way into the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs
import structlog

import supervisors
from supervisors.structlog import log_event


@attrs.frozen(kw_only=True)
class BreakerMoved:
    """A circuit breaker changed its phase."""

    provider: str
    was: str
    now: str
    model: str = ""
    """Whose breaker it is; empty for the provider's own."""
    why: str = ""
    """In words: ``5 failures in a row``, ``failure rate 0.62``, ``reset by hand``."""


@attrs.frozen(kw_only=True)
class AttemptEnded:
    """One request to one provider has ended: the canonical line of the log."""

    job: str
    request_id: str
    provider: str
    model: str
    attempt: int
    why: str = ""
    """Why this provider was asked, in words."""
    outcome: str
    """``ok``, ``cancelled``, or the code of the error."""
    duration: float
    """Seconds, from the permission to the end."""
    first_byte: float | None
    """Seconds to the first of the reply; None where there was none."""
    queued: float
    """Seconds waited for a turn and for the rate limit."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: str | None = None
    estimated: bool = False
    """Whether tokens and cost are our estimate, because the provider did not say."""
    error: str | None = None
    """What went wrong; None where only the provider's own words say it, because
    they may quote a prompt (``log.debug_bodies`` lets them through)."""
    upstream_status: int | None = None


@attrs.frozen(kw_only=True)
class MessageDropped:
    """An actor could not take a message that nobody waits for an answer to."""

    actor: str
    reason: str


@attrs.frozen(kw_only=True)
class StoreFailed:
    """The store cannot do its work, from now on."""

    reason: str
    may_recover: bool


@attrs.frozen(kw_only=True)
class StoreRecovered:
    """The store, which had failed, can do its work again."""

    failed_for: float
    """Seconds."""


@attrs.frozen(kw_only=True)
class StorePruned:
    """What was kept for long enough was deleted."""

    jobs: int
    streams: int
    entries: int
    files: int


@attrs.frozen(kw_only=True)
class BudgetAlert:
    """So much of a budget is spent; each share is told once in each window."""

    budget: str
    share: int
    """Percent of the limit: 50, 80 or 100; 100 also once it has refused a request."""
    window: str
    limit_usd: str
    spent_usd: str
    reserved_usd: str
    since: int
    """The beginning of the window, in seconds since the epoch."""
    until: int | None
    """Its end; None: it has none."""


@attrs.frozen(kw_only=True)
class CacheFileFailed:
    """The file of the cache was damaged, or cannot be used; nobody's request fails."""

    path: str
    reason: str
    """What became of it, and why."""


Event: TypeAlias = (
    BreakerMoved
    | AttemptEnded
    | MessageDropped
    | StoreFailed
    | StoreRecovered
    | StorePruned
    | BudgetAlert
    | CacheFileFailed
    | supervisors.Event
)
EventSink: TypeAlias = Callable[[Event], None]

log = structlog.get_logger("duckservice")


def to_log(event: Event) -> None:
    """Write *event* to the log, as one line."""
    match event:
        case AttemptEnded():
            _attempt(event)
        case BreakerMoved():
            log.warning("breaker.moved", **attrs.asdict(event))
        case MessageDropped(actor=actor, reason=reason):
            log.warning("message.dropped", actor=actor, reason=reason)
        case StoreFailed(reason=reason, may_recover=may_recover):
            log.error("store.failed", reason=reason, may_recover=may_recover)
        case StoreRecovered(failed_for=seconds):
            log.info("store.recovered", failed_s=round(seconds, 3))
        case BudgetAlert():
            write = log.error if event.share >= 100 else log.warning
            write("budget.alert", **attrs.asdict(event))
        case CacheFileFailed():
            log.warning("cache.file_failed", **attrs.asdict(event))
        case StorePruned():
            log.info("store.pruned", **attrs.asdict(event))
        case _:
            # The log's processor prints tracebacks without locals.
            log_event(event, log)


def _attempt(event: AttemptEnded) -> None:
    write = log.info if event.outcome in {"ok", "cancelled"} else log.warning
    write(
        "attempt",
        job=event.job,
        request_id=event.request_id,
        provider=event.provider,
        model=event.model,
        attempt=event.attempt,
        why=event.why,
        outcome=event.outcome,
        ms=round(event.duration * 1000, 1),
        first_byte_ms=None
        if event.first_byte is None
        else round(event.first_byte * 1000, 1),
        queued_ms=round(event.queued * 1000, 1),
        input_tokens=event.input_tokens,
        output_tokens=event.output_tokens,
        cost_usd=event.cost_usd,
        estimated=event.estimated,
        error=event.error,
        upstream_status=event.upstream_status,
    )
