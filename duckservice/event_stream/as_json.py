"""Events for outsiders as plain JSON, a line each.

There is nothing in it of what clients, providers or models wrote: no prompt, no
reply, no message of an error that quotes. Each field is named here, so that one which
an event gets later, and which may be for the log only, is not told by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

import msgspec

from duckservice.core.pricing import usd
from duckservice.event_stream.words import ActorEvent, Kept
from duckservice.events import (
    AttemptEnded,
    BreakerMoved,
    BudgetAlert,
    CacheFileFailed,
    EntryLost,
    JobMoved,
    MessageDropped,
    QueueSwitched,
    RequestEnded,
    RequestStarted,
    StoreFailed,
    StorePruned,
    StoreRecovered,
)
from duckservice.redaction import holds_secret, redact

Json: TypeAlias = dict[str, Any]


def encode(word: str, at: float, fields: Mapping[str, Any]) -> bytes:
    """Return an event on one line of JSON, without any secret."""
    shown = {"type": word, "at": round(at, 3), **fields}
    texts = [value for value in shown.values() if isinstance(value, str)]
    if holds_secret("\n".join(texts)):
        shown = {
            name: redact(value) if isinstance(value, str) else value
            for name, value in shown.items()
        }
    try:
        return _encode(shown)
    except UnicodeError:  # a lone surrogate, as in the name of a model
        return _encode({name: _utf8(value) for name, value in shown.items()})


def fields_of(word: str, event: Kept, *, quotes: bool = False) -> Json:
    """Return what is told of *event* under *word*, as plain values.

    *quotes* says whether its error may quote a provider; then it is left out.
    """
    if word == "cost":
        return _cost(cast(AttemptEnded, event))
    show = cast("Callable[[Any], Json]", _SHOW[event.__class__])
    fields = show(event)
    if quotes and word == "attempt":
        fields["error"] = None
    return fields


def _started(event: RequestStarted) -> Json:
    return {
        "job": event.job,
        "request_id": event.request_id,
        "operation": event.operation or None,
        "model": event.model or None,
        "priority": event.priority,
        "submitter_uid": event.submitter,
    }


def _ended(event: RequestEnded) -> Json:
    return {
        "job": event.job,
        "request_id": event.request_id,
        "operation": event.operation or None,
        "model": event.model or None,
        "priority": event.priority,
        "outcome": event.outcome,
        "duration_ms": _ms(event.duration),
        "queue_ms": _ms(event.queued),
        "provider": event.provider or None,
        "served_model": event.served_model or None,
        "attempts": event.attempts,
        "cost_usd": None if event.cost is None else usd(event.cost),
        "estimated": event.estimated,
        "cache": event.cache,
    }


def _attempt(event: AttemptEnded) -> Json:
    return {
        "job": event.job,
        "request_id": event.request_id,
        "provider": event.provider,
        "model": event.model,
        "attempt": event.attempt,
        "why": event.why or None,
        "outcome": event.outcome,
        "duration_ms": _ms(event.duration),
        "first_byte_ms": _ms(event.first_byte),
        "queue_ms": _ms(event.queued),
        "error": event.error,
        "upstream_status": event.upstream_status,
    }


def _cost(event: AttemptEnded) -> Json:
    return {
        "job": event.job,
        "provider": event.provider,
        "model": event.model,
        "input_tokens": event.input_tokens,
        "output_tokens": event.output_tokens,
        "cost_usd": event.cost_usd,
        "estimated": event.estimated,
    }


def _job(event: JobMoved) -> Json:
    return {
        "job": event.job,
        "state": event.state,
        "kind": event.kind or None,
        "model": event.model or None,
        "priority": event.priority,
        "attempt": event.attempt,
        "provider": event.provider,
        "batch": event.batch,
        "wait_reason": event.wait_reason,
        "waited_ms": _ms(event.waited),
        "error": event.error,
    }


def _breaker(event: BreakerMoved) -> Json:
    return {
        "provider": event.provider,
        "model": event.model or None,
        "was": event.was,
        "now": event.now,
        "why": event.why or None,
    }


def _budget(event: BudgetAlert) -> Json:
    return {
        "budget": event.budget,
        "share": event.share,
        "window": event.window,
        "limit_usd": event.limit_usd,
        "spent_usd": event.spent_usd,
        "reserved_usd": event.reserved_usd,
        "since": event.since,
        "until": event.until,
        "why": event.why,
    }


def _actor(event: ActorEvent) -> Json:
    return {
        "actor": event.actor or "root",
        "what": event.what,
        "reason": event.reason,
        "incarnation": event.incarnation,
        "count": event.count,
        "delay_s": event.delay,
    }


def _store_failed(event: StoreFailed) -> Json:
    return {
        "what": "failed",
        "reason": event.reason,
        "may_recover": event.may_recover,
    }


def _store_recovered(event: StoreRecovered) -> Json:
    return {"what": "recovered", "failed_s": round(event.failed_for, 3)}


def _store_pruned(event: StorePruned) -> Json:
    return {
        "what": "pruned",
        "jobs": event.jobs,
        "streams": event.streams,
        "entries": event.entries,
        "files": event.files,
    }


def _dropped(event: MessageDropped) -> Json:
    return {"actor": event.actor, "reason": event.reason}


def _cache(event: CacheFileFailed) -> Json:
    return {"path": event.path, "reason": event.reason}


def _entry_lost(event: EntryLost) -> Json:
    return {"what": "entry_lost", "entry": event.entry, "reason": event.reason}


def _nothing(_: QueueSwitched) -> Json:
    return {}


_SHOW: Final[Mapping[type, Callable[..., Json]]] = {
    RequestStarted: _started,
    RequestEnded: _ended,
    AttemptEnded: _attempt,
    JobMoved: _job,
    BreakerMoved: _breaker,
    BudgetAlert: _budget,
    StoreFailed: _store_failed,
    StoreRecovered: _store_recovered,
    StorePruned: _store_pruned,
    EntryLost: _entry_lost,
    QueueSwitched: _nothing,
    MessageDropped: _dropped,
    CacheFileFailed: _cache,
    ActorEvent: _actor,
}

_encode = msgspec.json.Encoder().encode


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _utf8(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
