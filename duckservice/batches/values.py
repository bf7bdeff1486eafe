"""What is known of a batch beside its files: values, and how they are stored.

validating ──> in_progress ──> finalizing ──> completed, expired
    │   └─────────┐ │
    v             v v
  failed       cancelling ──> cancelled
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import attrs
import msgspec

from duckservice.batches.lines import BadLine, BatchEndpoint
from duckservice.calls.call import Priority, Submitter
from duckservice.completion import Usage
from duckservice.core.job import Job
from duckservice.store.base import Batch

BatchStatus: TypeAlias = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
ENDED: Final = frozenset({"failed", "completed", "expired", "cancelled"})
"""Statuses that nothing leads out of."""
RESULTS_KEPT: Final = 30 * 86400.0
"""Seconds that the results are kept after the batch's window, unless it says less."""
ERRORS_MAX: Final = 100
"""So many bad lines are kept with a batch; the others are counted."""


@attrs.frozen(kw_only=True)
class Tally:
    """How far a batch has come."""

    total: int = 0
    """Requests; bad lines that are skipped are none."""
    completed: int = 0
    failed: int = 0
    usage: Usage = attrs.field(factory=Usage)
    cost: int = 0
    """Picodollars."""
    cost_known: bool = True
    """Whether every request's cost is known; else `cost` is a lower bound."""
    maybe_billed: int = 0
    """Requests broken off at least once; `cost` has them with their most if they were
    lost, and else with an estimate."""

    @property
    def left(self) -> int:
        """How many requests have no result yet."""
        return self.total - self.completed - self.failed

    def spent(self, job: Job) -> Tally:
        """Return the tally with what *job* has used."""
        its, more = self.usage, job.usage or Usage()
        usage = Usage(
            input_tokens=its.input_tokens + more.input_tokens,
            output_tokens=its.output_tokens + more.output_tokens,
            cached_tokens=its.cached_tokens + more.cached_tokens,
            cache_write_tokens=its.cache_write_tokens + more.cache_write_tokens,
            reasoning_tokens=its.reasoning_tokens + more.reasoning_tokens,
            estimated=its.estimated or more.estimated,
        )
        return attrs.evolve(
            self,
            usage=usage,
            cost=self.cost + job.cost,
            cost_known=self.cost_known and job.cost_known,
            maybe_billed=self.maybe_billed + job.maybe_billed,
        )


@attrs.frozen(kw_only=True)
class BatchDetails:
    """All that a store does not need to understand; it never changes but for the end."""

    endpoint: BatchEndpoint
    completion_window: str
    expires_at: float
    metadata: Mapping[str, str] | None = None
    model: str | None = None
    """For lines that name none."""
    priority: Priority = "normal"
    tags: Mapping[str, str] = attrs.field(factory=dict[str, str])
    submitter: Submitter | None = None
    max_cost: int | None = None
    """Picodollars, for all requests together."""
    skip_bad: bool = False
    """Whether bad lines are left out; else one of them fails the batch."""
    results_kept: float = RESULTS_KEPT
    """Seconds after `expires_at` until the results are deleted."""
    fingerprint: str = ""
    """A digest of what was asked for."""

    times: Mapping[str, float] = attrs.field(factory=dict[str, float])
    """When it came into which status."""
    bad: tuple[BadLine, ...] = ()
    bad_lines: int = 0
    """Including those that are not kept."""
    tally: Tally = attrs.field(factory=Tally)
    """As of the last change of status."""


_decode = msgspec.json.Decoder(BatchDetails).decode
_encode = msgspec.json.Encoder().encode


def details_of(batch: Batch) -> BatchDetails:
    """Return what is stored with *batch*."""
    return _decode(batch.details)


def with_details(batch: Batch, details: BatchDetails) -> Batch:
    """Return *batch* with these."""
    return attrs.evolve(batch, details=_encode(details))


def moved(batch: Batch, status: BatchStatus, now: float) -> Batch:
    """Return *batch* in another status."""
    its = details_of(batch)
    its = attrs.evolve(its, times={**its.times, status: now})
    return attrs.evolve(with_details(batch, its), status=status)
