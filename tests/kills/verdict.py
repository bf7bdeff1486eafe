"""Every promise, checked on what is there in the end against the judge's record."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import attrs

from tests.kills.clients import digest
from tests.kills.provider import REPLY_TOKENS
from tests.kills.reading import Found
from tests.kills.record import Call, Record

INPUT, OUTPUT = Decimal("0.0000025"), Decimal("0.00001")
"""Dollars per token, as the config says."""
CRASHES_MAX = 3
INTERRUPTED = {"cancelled", "unavailable", "internal_error"}
"""How an attempt ends that the daemon has broken off, and lives to tell it."""
SLACK = 2.0
"""Seconds that a request may take from the daemon to the judge, both busy."""


@attrs.define
class Verdict:
    """What was found wrong, and the figures."""

    wrong: list[str] = attrs.field(factory=list)
    figures: dict[str, int] = attrs.field(factory=dict)


def judge(record: Record, jobs: Mapping[str, Found], costs: dict[str, Any]) -> Verdict:
    """Return the verdict."""
    # What is worst comes first: who reads the list may have cut it.
    wrong = list(_presence(record, jobs))
    wrong += record.odd
    for job in jobs.values():
        if job.marker not in record.orders:
            wrong.append(f"{job.id}: nobody has submitted {job.request!r}")
            continue
        calls = record.calls.get(job.marker, [])
        for problems in (
            _outcome(record, job),
            _attempts(record, job),
            _interruptions(record, job, calls),
            _bill(job, calls),
            _after_cancel(record, job, calls),
        ):
            wrong += [f"{job.id} ({job.marker}): {problem}" for problem in problems]
    wrong += _sums(jobs, costs)
    attempts = sum(len(job.attempts) for job in jobs.values())
    uncounted = attempts - costs["total"]["requests"]
    return Verdict(wrong, {**_figures(record, jobs), "uncounted": uncounted})


def _presence(record: Record, jobs: Mapping[str, Found]) -> Iterator[str]:
    for marker, ids in record.accepted.items():
        for job in {*ids} - {*jobs}:
            yield f"lost: {job} ({marker}) was accepted, and is not there"
        if len({*ids}) > 1:
            yield f"doubled: {marker} was accepted as {sorted({*ids})}"
    for marker, count in Counter(job.marker for job in jobs.values()).items():
        if count > 1:
            yield f"doubled: there are {count} jobs of {marker}"


def _outcome(record: Record, job: Found) -> Iterator[str]:
    order = record.orders[job.marker]
    if job.request != order.request:
        yield f"changed: {job.request!r} was submitted as {order.request!r}"
    if job.state not in {"completed", "discarded", "cancelled"}:
        yield f"not over: it is {job.state}"
    if (job.result is not None) != (job.state == "completed"):
        yield f"it is {job.state}, and has result {job.result!r}"
    if job.result is not None:
        content = json.loads(job.result)["choices"][0]["message"]["content"]
        if content != f"echo {job.marker}":
            yield f"it has got another's reply, or a part of its own: {content!r}"
    state, result = record.shown.get(job.id, (job.state, None))
    if state != job.state or (result and result != digest(job.result or b"")):
        yield f"it was shown as {state} {result}, and is {job.state}"
    if job.id in record.cancelled and job.state != "cancelled":
        yield f"it was cancelled, and is {job.state}"
    last = "done" if job.state == "completed" else "error"
    ends = [event for event in job.events or [last] if event != "delta"]
    if ends != [last]:
        yield f"it is {job.state}, and its stream ends with {ends}"


def _attempts(record: Record, job: Found) -> Iterator[str]:
    order = record.orders[job.marker]
    lost = job.in_state("lost")
    if job.in_state("open"):
        yield "an attempt is still open, and so is its reservation"
    counted = len(lost) + sum(bool(each["counts"]) for each in job.in_state("settled"))
    if counted > order.max_attempts:
        yield f"{counted} attempts, where {order.max_attempts} are allowed"
    ok = [each for each in job.in_state("settled") if each["outcome"] == "ok"]
    if job.state == "completed" and len(ok) != 1:
        yield f"completed, with {len(ok)} attempts that went well"


def _interruptions(record: Record, job: Found, calls: list[Call]) -> Iterator[str]:
    fields, lost = job.fields, job.in_state("lost")
    if lost and not fields["maybe_billed"]:
        yield f"{len(lost)} attempts were lost, and maybe_billed is false"
    blamed = [_faults_in(record, each["began_at"], each["ended_at"]) for each in lost]
    # Each by a fault of its own: a fault costs a job one attempt.
    if not all(blamed) or len({max(each, default=0) for each in blamed}) < len(lost):
        yield f"{len(lost)} attempts were lost in faults {blamed}"
    if record.orders[job.marker].once_only:
        if lost and (len(lost) > 1 or lost[0] is not job.attempts[-1]):
            yield "on_interrupt is fail, and it was sent again"
        if lost and job.state not in {"discarded", "cancelled"}:
            yield f"on_interrupt is fail, one was lost, and it is {job.state}"
        if sum(call.bill == "all" for call in calls) > 1:
            yield f"on_interrupt is fail, and it was paid twice: {job.attempts}"
    if fields["poisoned"]:
        faults = _faults_in(record, fields["created_at"], fields["finished_at"])
        if job.state != "discarded" or len(faults) < CRASHES_MAX:
            yield f"poisoned, and {job.state}, by {len(faults)} faults"


def interrupted(attempt: Mapping[str, Any]) -> bool:
    """Say whether the daemon broke it off, by a fault or for a cancellation."""
    return attempt["state"] == "lost" or attempt["outcome"] in INTERRUPTED


def _faults_in(record: Record, since: float, until: float) -> list[int]:
    return [
        number
        for number, (began, ended) in enumerate(record.faults, 1)
        if began <= until and ended >= since
    ]


def _bill(job: Found, calls: list[Call]) -> Iterator[str]:
    if len(calls) > len(job.attempts):
        yield f"the upstream saw {len(calls)} requests, {len(job.attempts)} on record"
    paid = {call.tokens for call in calls if call.bill == "all"}
    for each in job.in_state("settled"):
        if each["outcome"] == "ok":
            tokens = each["usage"]["prompt_tokens"]
            if tokens not in paid:
                yield f"attempt {each['id']} names {tokens} tokens, billed were {paid}"
            paid.discard(tokens)
            if Decimal(each["cost_usd"]) != tokens * INPUT + REPLY_TOKENS * OUTPUT:
                yield f"attempt {each['id']} of {tokens} tokens cost {each['cost_usd']}"
    # Paid for nothing: only what a fault, or a cancellation, has broken off.
    broken = [each for each in job.attempts if interrupted(each)]
    if len(paid) > len(broken):
        yield f"{len(paid)} replies were paid and not used, {len(broken)} broken off"


def _after_cancel(record: Record, job: Found, calls: list[Call]) -> Iterator[str]:
    if job.state != "cancelled":
        return
    ended = job.fields["finished_at"]
    late = [each["id"] for each in job.attempts if each["began_at"] > ended]
    if late:
        yield f"attempts {late} began after it was cancelled"
    acked = record.cancelled.get(job.id)
    if acked and any(call.at > acked + SLACK for call in calls):
        yield "the upstream was asked after it was cancelled"


def _sums(jobs: Mapping[str, Found], costs: dict[str, Any]) -> Iterator[str]:
    spent = Decimal(0)
    for job in jobs.values():
        own = sum(
            Decimal(each["cost_usd"] or each["reserved_usd"]) for each in job.attempts
        )
        if own != Decimal(job.fields["cost_usd"]):
            yield f"{job.id}: cost {job.fields['cost_usd']}, its attempts {own}"
        spent += own
    total = costs["total"]
    if Decimal(total["cost_usd"]) != spent:
        yield f"costs: {total}, but the attempts have cost {spent}"


def _figures(record: Record, jobs: Mapping[str, Found]) -> dict[str, int]:
    states = Counter(job.state for job in jobs.values())
    accepted = {job for ids in record.accepted.values() for job in ids}
    paid_twice = [
        order
        for marker, order in record.orders.items()
        if sum(call.bill == "all" for call in record.calls.get(marker, [])) > 1
    ]
    return {
        "faults": len(record.faults),
        "accepted": len(accepted),
        "stored": len(jobs),
        "lost": len(accepted - {*jobs}),
        "completed": states["completed"],
        "discarded": states["discarded"],
        "cancelled": states["cancelled"],
        "poisoned": sum(job.fields["poisoned"] for job in jobs.values()),
        "maybe_billed": sum(job.fields["maybe_billed"] for job in jobs.values()),
        "attempts": sum(len(job.attempts) for job in jobs.values()),
        "attempts_lost": sum(len(job.in_state("lost")) for job in jobs.values()),
        "upstream_requests": record.calls_seen,
        "paid_twice": len(paid_twice),
        "paid_twice_under_fail": sum(order.once_only for order in paid_twice),
        "resent": len(record.resent),
        "shown": len(record.shown),
    }
