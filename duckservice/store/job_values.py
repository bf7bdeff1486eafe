"""What goes into a job store and comes out of it, as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

from duckservice.core.job import Job, JobError, JobState, Settlement
from duckservice.core.job_order import Lane
from duckservice.core.waiting_line import Priority
from duckservice.errors import Conflict, QueueFull


@attrs.frozen(kw_only=True)
class NewJob:
    """A job to be inserted, as `core.job.submit` gives it."""

    job: Job
    request: bytes = attrs.field(repr=False)


@attrs.frozen
class Inserted:
    """The job is in the store now."""

    job: Job


@attrs.frozen
class Existing:
    """The same submission came before, under the same key: this is its job."""

    job: Job


@attrs.frozen
class Refused:
    """The job was not inserted: its key was used for another, or there are too many."""

    error: Conflict | QueueFull


InsertOutcome: TypeAlias = Inserted | Existing | Refused


@attrs.frozen(kw_only=True)
class JobFilter:
    """Which jobs to list; None and empty: any."""

    states: frozenset[JobState] = frozenset()
    model: str | None = None
    """The model that the request names."""
    tags: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """A job must have all of them."""
    batch: str | None = None
    since: float | None = None
    """Created then or later."""
    submitter: int | None = None
    """Its uid."""


@attrs.frozen
class JobPage:
    """Some jobs of a list, and where it goes on."""

    jobs: tuple[Job, ...]
    cursor: str | None
    """For the next page; None: this is the last. Opaque, and valid for ever."""


@attrs.frozen
class Cancel:
    """Give the job up."""


@attrs.frozen
class Hold:
    """Do not run the job until it is released."""


@attrs.frozen
class Release:
    """Run the job when it can be."""


@attrs.frozen
class Retry:
    """Begin the job anew."""


@attrs.frozen(kw_only=True)
class Patch:
    """Change what is given."""

    priority: Priority | None = None
    deadline: float | None = None


Change: TypeAlias = Cancel | Hold | Release | Retry | Patch


@attrs.frozen(kw_only=True)
class LaneLoad:
    """How many jobs are available in one lane."""

    lane: Lane
    available: int
    oldest: float
    """When the first of them was queued."""


@attrs.frozen(kw_only=True)
class Staged:
    """What time alone has changed."""

    available: int
    """So many jobs have become due."""
    expired: tuple[str, ...]
    """The ids of those whose deadline has passed while they waited."""
    next_at: float | None
    """When the next change of this kind is due; not later than now if some were
    left over by the limit."""


@attrs.frozen(kw_only=True)
class Lease:
    """The right to work on a job."""

    job: str
    number: int
    """Which claim of this job it is, from 1."""
    until: float
    """After this, others may rescue the job. No part of the fence."""


@attrs.frozen(kw_only=True)
class Claimed:
    """A job to be run, with all that is needed for it."""

    job: Job
    request: bytes = attrs.field(repr=False)
    lease: Lease


@attrs.frozen(kw_only=True)
class Finish:
    """The job is completed."""

    result: bytes = attrs.field(repr=False)
    """The OpenAI body as JSON."""


@attrs.frozen(kw_only=True)
class Fail:
    """The attempt came to nothing; see `core.job.fail`."""

    error: JobError
    retry_at: float | None
    """None: nothing is to be hoped from another attempt."""


@attrs.frozen(kw_only=True)
class Snooze:
    """The job cannot run now, through no fault of its own; see `core.job.snooze`."""

    until: float
    reason: str


@attrs.frozen
class Expire:
    """The job's deadline has passed while it ran."""


@attrs.frozen(kw_only=True)
class Crash:
    """Its processor has died with it; open attempts are lost. See `core.job.rescue`."""

    blame: bool = True


Outcome: TypeAlias = Finish | Fail | Snooze | Expire | Crash


@attrs.frozen(kw_only=True)
class AttemptRecord:
    """One request to one provider, written down before its first byte is sent."""

    id: str
    """The job's id, a dot and the number."""
    job: str
    number: int
    """From 1; every record has one of its own, also those that do not count."""
    provider: str
    model: str
    reserved: int
    """What it may cost, in picodollars."""
    began_at: float
    why: str = ""
    """Why this provider was asked, in words."""
    state: AttemptState = "open"
    ended_at: float | None = None
    settlement: Settlement | None = None


AttemptState: TypeAlias = Literal["open", "settled", "lost"]
"""An attempt whose processor died is lost: it counts with all that was reserved
for it, until somebody settles it after all."""
