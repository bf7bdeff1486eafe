"""What a client says about jobs outside a submission: filters, patches, how to wait."""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs
from starlette.datastructures import QueryParams

from duckservice.calls.call import PRIORITIES, Priority
from duckservice.core.job import JobState
from duckservice.errors import InvalidRequest
from duckservice.gateway.app.insight import parse_since
from duckservice.gateway.wire.fields import (
    Fields,
    decode_object,
    refuse_extras,
    refused,
    text,
    unknown,
)
from duckservice.gateway.wire.headers import Header
from duckservice.jobs.as_json import read_time
from duckservice.store.base import JobFilter

WAIT_SECONDS_MAX = 600.0
"""Whoever wants to wait longer asks again."""
PAGE = 100
"""So many jobs are on a page unless the query says otherwise."""
LAST_ID_MAX = 2**53

_WAIT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_ONCE = ("model", "batch", "since", "limit", "cursor")
_MANY = ("state", "tag")


@attrs.frozen(kw_only=True)
class Listing:
    """Which jobs to list, and from where."""

    which: JobFilter
    limit: int
    cursor: str | None


@attrs.frozen(kw_only=True)
class Changes:
    """What a client wants changed; None: nothing."""

    priority: Priority | None
    deadline: float | None
    """Seconds since the epoch."""


def read_listing(query: QueryParams, *, now: float, submitter: int | None) -> Listing:
    """Return what a query asks for, of the jobs of *submitter* (None: of all).

    ``state`` and ``tag`` may be given several times: any of the states, all of the
    tags. States may also stand with commas between them. A parameter that is not known is refused,
    for whoever acts on the list relies on it.

    Raises:
        InvalidRequest: naming the parameter.
    """
    given = query.multi_items()
    for name in {name for name, _ in given}:
        if name not in _ONCE and name not in _MANY:
            raise unknown("query", name, ", ".join((*_MANY, *_ONCE)))
        if name in _ONCE and len(query.getlist(name)) > 1:
            raise refused(name, "is given twice")
    since, limit = query.get("since"), query.get("limit", str(PAGE))
    if _NUMBER.fullmatch(limit) is None:
        raise refused("limit", "must be a whole number")
    which = JobFilter(
        states=_states(query.getlist("state")),
        model=query.get("model"),
        tags=dict(_tag(word) for word in query.getlist("tag")),
        batch=query.get("batch"),
        since=None if since is None else parse_since(since, now),
        submitter=submitter,
    )
    return Listing(which=which, limit=int(limit), cursor=query.get("cursor"))


def read_changes(body: bytes, *, now: float) -> Changes:
    """Return what the body of a PATCH wants; a deadline is read as at submission.

    Raises:
        InvalidRequest: naming the field.
    """
    fields = decode_object(body)
    refuse_extras(fields, frozenset({"priority", "deadline"}), "")
    for name, value in fields.items():
        if value is None:
            raise refused(name, "cannot be taken away, only changed")
    priority = text(fields, "priority", "")
    if priority is not None and priority not in PRIORITIES:
        raise unknown("priority", priority, ", ".join(PRIORITIES))
    return Changes(priority=priority, deadline=_deadline(fields, now))


def read_wait(headers: Iterable[Header]) -> float | None:
    """Return the seconds of ``Prefer: wait=SECONDS``; None where it is not said.

    Other preferences are ignored, as RFC 7240 wants it.

    Raises:
        InvalidRequest: the number is none.
    """
    given = b",".join([value for name, value in headers if name == b"prefer"])
    if not given:
        return None
    for preference in given.decode("latin-1").split(","):
        name, equals, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() != "wait":
            continue
        number = value.strip().strip('"')
        if not equals or _WAIT.fullmatch(number) is None:
            msg = "header Prefer: wait must be a number of seconds, as in wait=10"
            raise InvalidRequest(msg, param="Prefer")
        return min(float(number), WAIT_SECONDS_MAX)
    return None


def read_last_id(headers: Iterable[Header]) -> int:
    """Return the number in ``Last-Event-ID``; 0, before all others, without one.

    Raises:
        InvalidRequest: it is none of a job's stream.
    """
    given = [value for name, value in headers if name == b"last-event-id"]
    if not given or given == [b""]:
        return 0
    if len(given) > 1 or re.fullmatch(rb"[0-9]{1,16}", given[0]) is None:
        msg = "header Last-Event-ID: must be the id of an event of this stream"
        raise InvalidRequest(msg, param="Last-Event-ID")
    return min(int(given[0]), LAST_ID_MAX)


def _states(given: list[str]) -> frozenset[JobState]:
    words = [word for value in given for word in value.split(",")]
    for word in words:
        if word not in list(JobState):
            raise unknown("state", word, ", ".join(JobState))
    return frozenset(map(JobState, words))


def _tag(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not (key and equals and value):
        raise refused("tag", "must read key=value")
    return key, value


def _deadline(fields: Fields, now: float) -> float | None:
    deadline = read_time(fields, "deadline", now)
    if deadline is not None and deadline <= now:
        raise refused("deadline", "must be in the future")
    return deadline
