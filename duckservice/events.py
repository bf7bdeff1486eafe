"""What happens in the service, as frozen values, and their way into the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, assert_never

import attrs
import structlog

import supervisors
from duckservice.errors import DuckError
from duckservice.store import UnknownStore
from supervisors import Crashed, StartError
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
    operation: str = ""
    """As in `RequestStarted`."""
    served_model: str = ""
    """What the provider says has answered; empty: it does not say."""
    pieces: int = 0
    """In which the reply came, if it was streamed; 0: it came whole, or not at all."""


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
class EntryLost:
    """What a request has cost is not in the ledger: the store cannot keep the value."""

    entry: str
    """The ledger's id for it: the request's, and the number of the attempt."""
    reason: str


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
    why: str = "so much of it is spent"


@attrs.frozen(kw_only=True)
class CacheFileFailed:
    """The file of the cache was damaged, or cannot be used; nobody's request fails."""

    path: str
    reason: str
    """What became of it, and why."""


@attrs.frozen(kw_only=True)
class RequestStarted:
    """A request has come in; a job's begins anew with each call that it makes."""

    job: str
    request_id: str
    operation: str = ""
    """``chat``, ``embeddings`` or ``image_generation``; empty: not known (yet)."""
    model: str = ""
    """The model that the request names; empty: not known (yet)."""
    priority: str = "normal"
    submitter: int | None = None
    """The uid of whoever has sent it."""
    runs_job: bool = False
    """Whether it is a run of a durable job, and no client waits for it."""
    traceparent: str = ""
    """What the client says of its trace, as it came; it is for `duckservice.otel`."""


@attrs.frozen(kw_only=True)
class RequestEnded:
    """A request is over."""

    job: str
    request_id: str
    operation: str = ""
    model: str = ""
    """The model that the request names, as in `RequestStarted`."""
    priority: str = "normal"
    outcome: str
    """``ok``, ``cancelled``, or the code of the error."""
    duration: float
    """Seconds."""
    queued: float = 0.0
    """Seconds waited for a turn and for the rate limit, over all attempts."""
    provider: str = ""
    """Who has served it; empty: nobody has."""
    served_model: str = ""
    attempts: int = 0
    cost: int | None = None
    """Picodollars; None: not known."""
    estimated: bool = False
    cache: str | None = None
    """``hit`` or ``miss``; None: the cache was not asked."""


@attrs.frozen(kw_only=True)
class JobMoved:
    """A durable job is in another state, and that is in the store."""

    job: str
    state: str
    kind: str = ""
    model: str = ""
    """The model that its request names; empty, as `kind`: it expired unseen."""
    priority: str = "normal"
    attempt: int = 0
    provider: str | None = None
    """Whom its last attempt asked."""
    batch: str | None = None
    wait_reason: str | None = None
    waited: float | None = None
    """Seconds that it has waited for its turn, where it begins to run."""
    error: str | None = None
    """The code of its last error, where it came to nothing or is tried again."""


@attrs.frozen
class QueueSwitched:
    """Somebody has paused the queue, or had it go on."""

    paused: bool


Event: TypeAlias = (
    BreakerMoved
    | AttemptEnded
    | RequestStarted
    | RequestEnded
    | JobMoved
    | QueueSwitched
    | MessageDropped
    | StoreFailed
    | StoreRecovered
    | StorePruned
    | EntryLost
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
        case StoreFailed() | StoreRecovered() | StorePruned():
            _store(event)
        case EntryLost():
            log.error("ledger.entry_lost", **attrs.asdict(event))
        case BudgetAlert():
            write = log.error if event.share >= 100 else log.warning
            write("budget.alert", **attrs.asdict(event))
        case CacheFileFailed():
            log.warning("cache.file_failed", **attrs.asdict(event))
        case QueueSwitched(paused=paused):
            log.warning("queue.paused" if paused else "queue.resumed")
        case RequestStarted() | RequestEnded() | JobMoved():
            pass  # each of their attempts has its line; these are for `EventHub`
        case _:
            _of_the_tree(event)


def _of_the_tree(event: supervisors.Event) -> None:
    match event:
        case StartError(path, Crashed(DuckError() | UnknownStore() as error)):
            # The disk's fault, or the config's: a traceback would only hide it.
            log.error("actor.start_failed", actor=path, message=str(error))
        case _:
            # The log's processor prints tracebacks without locals.
            log_event(event, log)


def _store(event: StoreFailed | StoreRecovered | StorePruned) -> None:
    match event:
        case StoreFailed(reason=reason, may_recover=may_recover):
            log.error("store.failed", reason=reason, may_recover=may_recover)
        case StoreRecovered(failed_for=seconds):
            log.info("store.recovered", failed_s=round(seconds, 3))
        case StorePruned():
            log.info("store.pruned", **attrs.asdict(event))
        case _:
            assert_never(event)


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
