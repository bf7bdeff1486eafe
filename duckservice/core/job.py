"""The life of a durable job, as a value and the functions that change it.

    action        from                                     to
    submit        -                                        available; scheduled, with a
                                                           `not_before`; suspended, held
    become_due    scheduled, retryable                     available
    claim         available                                executing
    begin         executing                                executing, one attempt more
    settle, lose  any: money is counted, come what may     the same
    finish        executing                                completed
    fail          executing                                retryable; discarded, without
                                                           a time or an attempt left
    snooze        executing                                scheduled; available, if due
    rescue        executing                                available; discarded
    expire        all but the final ones                   expired
    cancel        all but the final ones                   cancelled
    hold          scheduled, available, retryable          suspended
    release       suspended                                available; scheduled
    patch         all but the final ones                   the same
    retry         retryable, discarded, cancelled, expired available

Final are completed, discarded, cancelled and expired. Only the explicit wish to
retry leads out of one, and never out of completed.

An *attempt* is one request to one provider. `begin` uses one up; `settle` gives it
back where the provider did not try (429) or we broke it off (shutdown). Being
claimed uses up none.

Times are seconds since the epoch, as the caller's wall clock tells them; money is
whole picodollars. Illegal actions raise `IllegalTransition`, a ``conflict``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import attrs
from attrs import validators

from duckservice.calls.call import Submitter
from duckservice.completion import Usage
from duckservice.core.waiting_line import PRIORITIES, Priority
from duckservice.errors import Conflict

CRASHES_MAX: Final = 3
"""A job that has taken its processor down so often is not run again."""
ATTEMPTS_MAX: Final = 100
"""The most that a submission may ask for."""
ERRORS_MAX: Final = 20
"""So many of a job's last errors are kept."""

JobKind: TypeAlias = Literal["chat", "embedding", "image"]
OnInterrupt: TypeAlias = Literal["retry", "fail"]
Action: TypeAlias = Literal[
    "become_due",
    "claim",
    "begin",
    "finish",
    "fail",
    "snooze",
    "rescue",
    "expire",
    "cancel",
    "hold",
    "release",
    "patch",
    "retry",
]


class JobState(StrEnum):
    """Where a job stands; the words are Oban's, and the API's."""

    SUSPENDED = "suspended"
    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Whether the job is over."""
        return self in FINAL


WAITING: Final = frozenset(
    {
        JobState.SUSPENDED,
        JobState.SCHEDULED,
        JobState.AVAILABLE,
        JobState.RETRYABLE,
    }
)
FINAL: Final = frozenset(
    {
        JobState.COMPLETED,
        JobState.DISCARDED,
        JobState.CANCELLED,
        JobState.EXPIRED,
    }
)
UNFINISHED: Final = WAITING | {JobState.EXECUTING}

_EXECUTING: Final = frozenset({JobState.EXECUTING})

LEGAL: Final[Mapping[Action, frozenset[JobState]]] = {
    "become_due": frozenset({JobState.SCHEDULED, JobState.RETRYABLE}),
    "claim": frozenset({JobState.AVAILABLE}),
    "begin": _EXECUTING,
    "finish": _EXECUTING,
    "fail": _EXECUTING,
    "snooze": _EXECUTING,
    "rescue": _EXECUTING,
    "expire": UNFINISHED,
    "cancel": UNFINISHED,
    "hold": WAITING - {JobState.SUSPENDED},
    "release": frozenset({JobState.SUSPENDED}),
    "patch": UNFINISHED,
    "retry": (FINAL - {JobState.COMPLETED}) | {JobState.RETRYABLE},
}
"""In which states each action is legal."""


class IllegalTransition(Conflict):
    """The job is in a state in which this cannot be done to it."""

    def __init__(self, job: str, action: str, state: JobState) -> None:
        super().__init__(f"job {job} is {state}: cannot {action} it")
        self.job = job
        self.action = action
        self.state = state


@attrs.frozen(kw_only=True)
class JobError:
    """Why an attempt, or the job, came to nothing."""

    at: float
    attempt: int
    """How many attempts were used up by then."""
    code: str
    """One of the API's error codes."""
    message: str
    provider: str | None = None


_text = validators.instance_of(str)


def _whole(_: object, field: attrs.Attribute[Any], value: object) -> None:
    # True is an int to Python, and none in the store.
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{field.name} must be a whole number, not {value!r}"
        raise TypeError(msg)


def _moment(_: object, field: attrs.Attribute[Any], value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and math.isfinite(cast("float", value))):
        msg = f"{field.name} must be seconds since the epoch, not {value!r}"
        raise TypeError(msg)


@attrs.frozen(kw_only=True)
class Submission:
    """What a client hands in.

    It is checked here, in the caller's task: of what is in the store, one wrong
    value would crash the dispatcher each time that it looks at the job.

    Raises:
        TypeError: a value is of the wrong type.
        ValueError: it is none of those that are allowed.
    """

    kind: JobKind
    model: str
    """The model that the request names."""
    request: bytes = attrs.field(repr=False)
    """The OpenAI body as JSON, byte for byte as submitted."""
    priority: Priority = attrs.field(
        default="normal", validator=validators.in_(PRIORITIES)
    )
    tags: Mapping[str, str] = attrs.field(
        factory=dict[str, str], validator=validators.deep_mapping(_text, _text)
    )
    submitter: Submitter | None = None
    deadline: float | None = attrs.field(default=None, validator=_moment)
    not_before: float | None = attrs.field(default=None, validator=_moment)
    max_cost: int | None = attrs.field(
        default=None, validator=validators.optional([_whole, validators.ge(0)])
    )
    max_attempts: int = attrs.field(
        default=3, validator=[_whole, validators.ge(1), validators.le(ATTEMPTS_MAX)]
    )
    on_interrupt: OnInterrupt = attrs.field(
        default="retry", validator=validators.in_(get_args(OnInterrupt))
    )
    hold: bool = attrs.field(default=False, validator=validators.instance_of(bool))
    batch: str | None = None
    line: int | None = None
    """The job's line in its batch's file, from 1."""
    idempotency_key: str | None = attrs.field(
        default=None, validator=validators.optional(_text)
    )
    fingerprint: str = ""
    """A digest of the whole submission, to tell a repetition from a mistake."""


@attrs.frozen(kw_only=True)
class Job:
    """One durable job, without its request and result, which may be large."""

    id: str
    """Sorts by time of submission."""
    kind: JobKind
    model: str
    """The model that the request names."""
    state: JobState
    priority: Priority = "normal"
    tags: Mapping[str, str] = attrs.field(factory=dict[str, str])
    submitter: Submitter | None = None

    created_at: float
    due_at: float
    """Before this it is not run: `not_before`, or the end of a pause."""
    queued_at: float
    """Since when it waits for its turn; age counts from here, pauses included."""
    started_at: float | None = None
    """When it was first claimed."""
    finished_at: float | None = None
    deadline: float | None = None
    not_before: float | None = None

    attempt: int = 0
    """Attempts used up."""
    max_attempts: int = 3
    """Rises when the job is begun anew, as `attempt` goes on."""
    attempts_before: int = 0
    """Attempts used up when it was begun anew the last time."""
    max_cost: int | None = None
    on_interrupt: OnInterrupt = "retry"
    crashes: int = 0
    """How often its processor has died with it."""
    poisoned: bool = False
    """Whether it was discarded for its crashes."""
    maybe_billed: bool = False
    """Whether a request was lost in flight, or broken off before its end was seen,
    which its provider may have billed."""

    wait_reason: str | None = None
    """Why it waits, in the API's words; ``queued`` is all that a store can know of
    an available job: what holds its model or tags up, the dispatcher knows."""
    errors: tuple[JobError, ...] = ()
    provider: str | None = None
    """Whom the last attempt asked."""
    served_model: str | None = None
    """What the last attempt asked it for."""
    usage: Usage | None = None
    """Of the attempt that was settled last."""
    cost: int = 0
    """Of all attempts; a lost one counts with all that was reserved for it."""
    cost_known: bool = True
    """Whether every attempt's cost is known; else `cost` is a lower bound."""
    cost_estimated: bool = False
    """Whether we have guessed the tokens of an attempt, and so a part of `cost`."""

    batch: str | None = None
    line: int | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""


@attrs.frozen(kw_only=True)
class Settlement:
    """How one attempt has ended."""

    outcome: str
    """``ok``, ``cancelled`` or an error's code."""
    usage: Usage = attrs.field(factory=Usage)
    cost: int | None = 0
    """None if it is not known."""
    estimated: bool = False
    counts: bool = True
    """Whether it used up an attempt; a 429 does not, nor does a shutdown."""

    @property
    def maybe_billed(self) -> bool:
        """Whether it was broken off, and nobody saw what its provider counts of it."""
        return self.estimated and self.outcome != "ok"

    def without_cost(self) -> Settlement:
        """Return it for a store that refuses its figures: it may have cost anything."""
        return attrs.evolve(self, usage=Usage(), cost=None, estimated=True)


def submit(submission: Submission, *, id_: str, now: float) -> Job:
    """Return the job of *submission*, in its first state."""
    its = submission
    due_at = now if its.not_before is None else max(now, its.not_before)
    state, reason = _first_state(its.hold, due_at, now)
    return Job(
        id=id_,
        kind=its.kind,
        model=its.model,
        state=state,
        wait_reason=reason,
        priority=its.priority,
        tags=dict(its.tags),
        submitter=its.submitter,
        created_at=now,
        due_at=due_at,
        queued_at=due_at,
        deadline=its.deadline,
        not_before=its.not_before,
        max_attempts=its.max_attempts,
        max_cost=its.max_cost,
        on_interrupt=its.on_interrupt,
        batch=its.batch,
        line=its.line,
        idempotency_key=its.idempotency_key,
        fingerprint=its.fingerprint,
    )


def become_due(job: Job, now: float) -> Job:
    """Return the job waiting for its turn, its pause being over."""
    _must_allow(job, "become_due")
    assert job.due_at <= now, "its time has not come"
    return _available(job)


def claim(job: Job, now: float) -> Job:
    """Return the job in the hands of a processor; that alone uses up no attempt."""
    _must_allow(job, "claim")
    started_at = now if job.started_at is None else job.started_at
    return _to(job, JobState.EXECUTING, started_at=started_at)


def begin(job: Job, *, provider: str, model: str) -> Job:
    """Return the job with one attempt more, which *provider* is asked for *model*.

    Raises:
        IllegalTransition: it does not run, or has used up its attempts.
    """
    _must_allow(job, "begin")
    if job.attempt >= job.max_attempts:
        action = f"begin attempt {job.attempt + 1} of {job.max_attempts} of"
        raise IllegalTransition(job.id, action, job.state)
    return _with(job, attempt=job.attempt + 1, provider=provider, served_model=model)


def settle(job: Job, settlement: Settlement) -> Job:
    """Return the job with an attempt's cost added, in whatever state it is."""
    its = settlement
    # One that ends after the job was begun anew gives that no attempt more.
    given_back = max(job.attempts_before, job.attempt - 1)
    attempt = job.attempt if its.counts else given_back
    return _with(
        job,
        attempt=attempt,
        usage=its.usage,
        cost=job.cost + (its.cost or 0),
        cost_known=job.cost_known and its.cost is not None,
        cost_estimated=job.cost_estimated or its.estimated,
        maybe_billed=job.maybe_billed or its.maybe_billed,
    )


def reconcile(job: Job, settlement: Settlement, *, lost: int) -> Job:
    """Return the job with the true cost of an attempt that was taken for lost.

    It has counted with *lost*. Whatever else the job has become since then, this
    attempt has no part in.
    """
    return _with(
        job,
        cost=job.cost - lost + (settlement.cost or 0),
        cost_known=job.cost_known and settlement.cost is not None,
        cost_estimated=job.cost_estimated or settlement.estimated,
    )


def finish(job: Job, now: float) -> Job:
    """Return the job completed."""
    _must_allow(job, "finish")
    return _to(job, JobState.COMPLETED, finished_at=now)


def fail(job: Job, now: float, error: JobError, *, retry_at: float | None) -> Job:
    """Return the job waiting for another attempt at *retry_at*, or discarded.

    It is discarded where nothing is to be hoped from another attempt (None), none
    is left, or the deadline would come first.
    """
    _must_allow(job, "fail")
    errors = _with_error(job, error)
    if retry_at is None or not _may_try_again(job, retry_at):
        return _to(job, JobState.DISCARDED, finished_at=now, errors=errors)
    return _to(
        job,
        JobState.RETRYABLE,
        wait_reason="retry_backoff",
        due_at=retry_at,
        errors=errors,
    )


def snooze(job: Job, now: float, *, until: float, reason: str) -> Job:
    """Return the job put back until then; it keeps its age, and its attempts.

    *reason* is the API's word, such as ``rate_limited:openai``; it says nothing
    any more once the time has come, so a job that is due at once is ``queued``.
    """
    _must_allow(job, "snooze")
    if until <= now:
        return _available(job)
    return _to(job, JobState.SCHEDULED, wait_reason=reason, due_at=until)


def lose(job: Job, reserved: int) -> Job:
    """Return the job with an attempt lost: nobody knows whether it will be billed."""
    return _with(job, maybe_billed=True, cost=job.cost + reserved)


def rescue(
    job: Job, now: float, *, in_flight: bool, lost: int = 0, blame: bool = True
) -> Job:
    """Return the job after its processor has died with it.

    *in_flight* says whether a request was under way, and *lost* what was reserved
    for it, which counts as spent. Only then it matters what the submitter wishes
    `on_interrupt`: without one, running it again costs nothing twice. *blame* is
    False where the job is known to be innocent of the death.
    """
    _must_allow(job, "rescue")
    crashes = job.crashes + blame
    poisoned = crashes >= CRASHES_MAX
    job = _with(job, crashes=crashes, poisoned=poisoned)
    if in_flight:
        job = lose(job, lost)
    no_more = in_flight and (
        job.on_interrupt == "fail" or job.attempt >= job.max_attempts
    )
    if not (poisoned or no_more):
        return _available(job)
    error = JobError(
        at=now,
        attempt=job.attempt,
        code="internal_error",
        message=_why_no_more(job),
        provider=job.provider if in_flight else None,
    )
    errors = _with_error(job, error)
    return _to(job, JobState.DISCARDED, finished_at=now, errors=errors)


def expire(job: Job, now: float) -> Job:
    """Return the job given up, its deadline having passed.

    Raises:
        IllegalTransition: it is over, or its deadline was moved.
    """
    _must_allow(job, "expire")
    if not is_overdue(job, now):
        raise IllegalTransition(job.id, "expire", job.state)
    return _to(job, JobState.EXPIRED, finished_at=now)


def is_overdue(job: Job, now: float) -> bool:
    """Say whether the job's deadline has passed."""
    return job.deadline is not None and job.deadline <= now


def cancel(job: Job, now: float) -> Job:
    """Return the job given up by its owner; what runs of it must be stopped."""
    _must_allow(job, "cancel")
    return _to(job, JobState.CANCELLED, finished_at=now)


def hold(job: Job) -> Job:
    """Return the job waiting until it is released."""
    _must_allow(job, "hold")
    return _to(job, JobState.SUSPENDED, wait_reason="held")


def release(job: Job, now: float) -> Job:
    """Return the job no longer held: it runs when it can, but not before its time."""
    _must_allow(job, "release")
    if job.not_before is not None and job.not_before > now:
        return _to(
            job,
            JobState.SCHEDULED,
            wait_reason="not_before",
            due_at=job.not_before,
        )
    return _available(_with(job, due_at=min(job.due_at, now)))


def retry(job: Job, now: float) -> Job:
    """Return the job to be run at once: begun anew if it was over.

    It has as many attempts again as at first, beside those that are used up, and
    the age of a new one. Its errors, its cost and `maybe_billed` stay; a deadline that
    has passed does not, for the job would expire again. One that waits out its backoff
    has the attempts it had.
    """
    _must_allow(job, "retry")
    if not job.state.final:
        return _available(_with(job, due_at=now))
    return _available(
        _with(
            job,
            max_attempts=job.attempt + job.max_attempts - job.attempts_before,
            attempts_before=job.attempt,
            crashes=0,
            poisoned=False,
            finished_at=None,
            due_at=now,
            queued_at=now,
            deadline=None if is_overdue(job, now) else job.deadline,
        )
    )


def patch(
    job: Job,
    *,
    priority: Priority | None = None,
    deadline: float | None = None,
) -> Job:
    """Return the job with another priority or deadline; None leaves it as it is.

    A new priority changes nothing about its age.
    """
    _must_allow(job, "patch")
    return _with(
        job,
        priority=job.priority if priority is None else priority,
        deadline=job.deadline if deadline is None else deadline,
    )


# Helpers.

_NAMES: Final = tuple(field.name for field in attrs.fields(Job))
_values: Final = attrgetter(*_NAMES)
_setters: Final = tuple(getattr(Job, name).__set__ for name in _NAMES)


def _with(job: Job, **changes: Any) -> Job:
    """Return *job* with some fields changed; `attrs.evolve` takes twice as long."""
    changed = object.__new__(Job)
    for put, value in zip(_setters, _values(job), strict=True):
        put(changed, value)
    for name, value in changes.items():
        object.__setattr__(changed, name, value)
    return changed


def _must_allow(job: Job, action: Action) -> None:
    if job.state not in LEGAL[action]:
        raise IllegalTransition(job.id, action.replace("_", " "), job.state)


def _first_state(
    held: bool,
    due_at: float,
    now: float,
) -> tuple[JobState, str]:
    if held:
        return JobState.SUSPENDED, "held"
    if due_at > now:
        return JobState.SCHEDULED, "not_before"
    return JobState.AVAILABLE, "queued"


def _available(job: Job) -> Job:
    return _to(job, JobState.AVAILABLE, wait_reason="queued")


def _to(
    job: Job, state: JobState, *, wait_reason: str | None = None, **changes: Any
) -> Job:
    return _with(job, state=state, wait_reason=wait_reason, **changes)


def _may_try_again(job: Job, retry_at: float) -> bool:
    in_time = job.deadline is None or retry_at < job.deadline
    return in_time and job.attempt < job.max_attempts


def _with_error(job: Job, error: JobError) -> tuple[JobError, ...]:
    return (*job.errors, error)[-ERRORS_MAX:]


def _why_no_more(job: Job) -> str:
    if job.poisoned:
        return f"it took its processor down {job.crashes} times: it is not run again"
    if job.on_interrupt == "fail":
        return "it was interrupted in flight, and is not to be sent twice"
    return "it was interrupted in flight, and has no attempt left"
