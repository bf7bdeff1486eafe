"""Jobs as JSON: a submission read and checked, a job and its attempts written; pure.

    {"kind": "chat", "request": {...}, "priority": "low", "tags": {"team": "core"},
     "deadline": 3600, "not_before": "2026-01-01T00:00:00Z", "max_cost_usd": "0.05",
     "on_interrupt": "fail", "max_attempts": 5, "hold": true}

Only ``request`` is required. A time is seconds from now, or RFC 3339 text.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, TypeAlias

import msgspec

from duckservice.calls.call import (
    PRIORITIES,
    TAG_KEY_CHARS_MAX,
    TAG_VALUE_CHARS_MAX,
    TAGS_MAX,
    CallOptions,
    Priority,
    Submitter,
)
from duckservice.core.job import (
    ATTEMPTS_MAX,
    JobError,
    JobKind,
    OnInterrupt,
    Submission,
)
from duckservice.core.pricing import pico, usd
from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.fields import (
    Fields,
    at,
    decode_object,
    flag,
    integer,
    mapping,
    refuse_extras,
    refused,
    text,
    unknown,
    wrong,
)
from duckservice.gateway.wire.headers import DEADLINE_SECONDS_MAX, timestamp
from duckservice.gateway.wire.openai_reply import usage_fields
from duckservice.jobs.jobs import JobView
from duckservice.jobs.kinds import request_of
from duckservice.store.job_values import AttemptRecord

Json: TypeAlias = dict[str, Any]

_BESIDE = frozenset(
    {
        "kind",
        "priority",
        "tags",
        "deadline",
        "not_before",
        "max_cost_usd",
        "max_attempts",
        "on_interrupt",
        "hold",
    }
)
_TOP = _BESIDE | {"request"}
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_MONEY = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")

_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_canonical = msgspec.json.Encoder(order="deterministic").encode


def read_submission(
    body: bytes,
    *,
    now: float,
    max_attempts: int = 3,
    options: CallOptions | None = None,
    options_at: float = 0.0,
    idempotency_key: str | None = None,
    submitter: Submitter | None = None,
) -> Submission:
    """Read a body of ``POST /v1/jobs``, or one line of a bulk submission.

    *now* is in seconds since the epoch. What the body does not say is taken from the
    request's headers (*options*, whose deadline is on a clock that shows *options_at*
    now). The request inside is kept byte for byte.

    Raises:
        InvalidRequest: naming the field.
    """
    fields = decode_object(body)
    refuse_extras(fields, _TOP, "")
    if fields.get("request") is None:
        raise refused("request", "is required: the body of an OpenAI request")
    beside = {key: value for key, value in fields.items() if key != "request"}
    return make_submission(
        beside,
        bytes(_raw(body)["request"]),
        now=now,
        max_attempts=max_attempts,
        options=options,
        options_at=options_at,
        idempotency_key=idempotency_key,
        submitter=submitter,
    )


def make_submission(
    fields: Fields,
    request: bytes,
    *,
    now: float,
    max_attempts: int = 3,
    options: CallOptions | None = None,
    options_at: float = 0.0,
    idempotency_key: str | None = None,
    submitter: Submitter | None = None,
) -> Submission:
    """As `read_submission`, where *request* is the body of the request itself.

    *fields* are those beside it (``kind``, ``priority``, ...).
    """
    refuse_extras(fields, _BESIDE, "")
    its = options or CallOptions()
    kind = _kind(fields)
    tags = {**its.tags, **_tags(fields)}
    deadline = read_time(fields, "deadline", now)
    if deadline is None and its.deadline is not None:
        deadline = now + its.deadline - options_at
    if deadline is not None and deadline <= now:
        raise refused("deadline", "has passed already")
    not_before = read_time(fields, "not_before", now)
    if deadline is not None and not_before is not None and not_before >= deadline:
        raise refused("not_before", "is not before the deadline: it could never run")
    priority = _priority(fields) or its.priority
    max_cost = _max_cost(fields)
    attempts = integer(fields, "max_attempts", "", least=1, most=ATTEMPTS_MAX)
    return Submission(
        kind=kind,
        model=_model(kind, request),
        request=request,
        priority=priority,
        tags=tags,
        submitter=submitter or its.submitter,
        deadline=deadline,
        not_before=not_before,
        max_cost=its.max_cost if max_cost is None else max_cost,
        max_attempts=max_attempts if attempts is None else attempts,
        on_interrupt=_on_interrupt(fields),
        hold=flag(fields, "hold", "") is True,
        idempotency_key=idempotency_key,
        fingerprint=_fingerprint(fields, request, priority, tags, its.max_cost),
    )


def job_fields(view: JobView) -> Json:
    """Return a job as the API shows it; times are seconds since the epoch."""
    job = view.job
    submitter = job.submitter
    return {
        "id": job.id,
        "kind": job.kind,
        "state": str(job.state),
        "priority": job.priority,
        "tags": dict(job.tags),
        "submitter": None
        if submitter is None
        else {"uid": submitter.uid, "gid": submitter.gid, "pid": submitter.pid},
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "wait_reason": view.wait_reason,
        "wait_until": view.wait_until,
        "errors": [_error_fields(error) for error in job.errors],
        "provider": job.provider,
        "model": job.model,
        "served_model": job.served_model,
        "usage": None if job.usage is None else usage_fields(job.usage),
        "cost_usd": usd(job.cost),
        "cost_known": job.cost_known,
        "cost_estimated": job.cost_estimated,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "not_before": job.not_before,
        "deadline": job.deadline,
        "max_cost_usd": None if job.max_cost is None else usd(job.max_cost),
        "on_interrupt": job.on_interrupt,
        "maybe_billed": job.maybe_billed,
        "poisoned": job.poisoned,
        "batch": job.batch,
        "line": job.line,
    }


def attempt_fields(record: AttemptRecord) -> Json:
    """Return an attempt as the API shows it."""
    its = record.settlement
    return {
        "id": record.id,
        "number": record.number,
        "state": record.state,
        "provider": record.provider,
        "model": record.model,
        "why": record.why,
        "began_at": record.began_at,
        "ended_at": record.ended_at,
        "outcome": None if its is None else its.outcome,
        "counts": None if its is None else its.counts,
        "usage": None if its is None else usage_fields(its.usage),
        "reserved_usd": usd(record.reserved),
        "cost_usd": None if its is None or its.cost is None else usd(its.cost),
        "estimated": None if its is None else its.estimated,
    }


def _error_fields(error: JobError) -> Json:
    return {
        "at": error.at,
        "attempt": error.attempt,
        "code": error.code,
        "message": error.message,
        "provider": error.provider,
    }


# The fields of a submission.


def _kind(fields: Fields) -> JobKind:
    kind = text(fields, "kind", "")
    match kind:
        case None | "chat":
            return "chat"
        case "embedding" | "image":
            return kind
        case _:
            raise unknown("kind", kind, "chat, embedding, image")


def _model(kind: JobKind, request: bytes) -> str:
    try:
        return request_of(kind, request).model
    except InvalidRequest as error:
        path = "request" if error.param is None else at("request", error.param)
        raise InvalidRequest(f"request: {error.message}", param=path) from None


def _priority(fields: Fields) -> Priority | None:
    word = text(fields, "priority", "")
    if word is not None and word not in PRIORITIES:
        raise unknown("priority", word, ", ".join(PRIORITIES))
    return word


def _on_interrupt(fields: Fields) -> OnInterrupt:
    word = text(fields, "on_interrupt", "")
    match word:
        case None | "retry":
            return "retry"
        case "fail":
            return "fail"
        case _:
            raise unknown("on_interrupt", word, "retry, fail")


def _tags(fields: Fields) -> dict[str, str]:
    tags = mapping(fields, "tags", "") or {}
    if len(tags) > TAGS_MAX:
        raise refused("tags", f"has more than {TAGS_MAX} tags")
    for key, value in tags.items():
        path = at("tags", key[:TAG_KEY_CHARS_MAX])
        if type(value) is not str:
            raise wrong(path, "a string", value)
        if not (0 < len(key) <= TAG_KEY_CHARS_MAX):
            raise refused("tags", f"keys have 1 to {TAG_KEY_CHARS_MAX} characters")
        if not (0 < len(value) <= TAG_VALUE_CHARS_MAX):
            raise refused(path, f"must have 1 to {TAG_VALUE_CHARS_MAX} characters")
        if not (key.isprintable() and value.isprintable()):
            raise refused("tags", "must not hold control characters")
    return tags


def read_time(fields: Fields, key: str, now: float) -> float | None:
    """Return a time in seconds since the epoch; None where it is not said.

    Raises:
        InvalidRequest: it is no time, or more than a year away.
    """
    value: object = fields.get(key)
    seconds: float | None = None
    if value is None:
        return None
    if type(value) is int or type(value) is float:
        seconds = float(value)
    elif type(value) is str:
        moment = timestamp(value)
        if moment is not None:
            seconds = moment - now
        elif _SECONDS.fullmatch(value):
            seconds = float(value)
    if seconds is None:
        raise refused(key, "must be seconds from now, or an RFC 3339 time")
    if seconds > DEADLINE_SECONDS_MAX:
        raise refused(key, "must be within a year from now")
    return now + seconds


def _max_cost(fields: Fields) -> int | None:
    value: object = fields.get("max_cost_usd")
    if value is None:
        return None
    # JSON's 0.05 is read as the decimal that was written, and not as its float.
    written = repr(value) if type(value) in {int, float} else value
    if type(written) is float or type(written) is not str:
        raise wrong("max_cost_usd", "a number of dollars", value)
    if "e" in written and type(value) is float:
        written = f"{value:.12f}"
    if not _MONEY.fullmatch(written):
        raise refused(
            "max_cost_usd", "must be dollars, 0 or more, with at most 12 decimal places"
        )
    return pico(written)


def _fingerprint(
    fields: Fields,
    request: bytes,
    priority: Priority,
    tags: dict[str, str],
    max_cost: int | None,
) -> str:
    """Return a digest of all that was submitted, save what the clock has made of it."""
    beside = {key: value for key, value in fields.items() if value is not None}
    said = _canonical([beside, priority, sorted(tags.items()), max_cost])
    return hashlib.sha256(said + b"\n" + request).hexdigest()
