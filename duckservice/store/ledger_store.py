"""The part of the Store protocol that keeps what was spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs

from duckservice.completion import Usage
from duckservice.core.job import Settlement
from duckservice.store.job_values import AttemptState


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """What one request to one provider costs, of a job or not.

    `begin_attempt`, `settle_attempt`, `end` and the rescues keep those of jobs,
    under the attempts' ids.
    """

    id: str
    job: str | None = None
    """None: of a request that was no durable job."""
    provider: str
    model: str
    tags: Mapping[str, str] = attrs.field(factory=dict[str, str])
    submitter: int | None = None
    """The uid of who asked, where it is known."""
    at: float
    """When the request was begun; it belongs to the budgets of that time."""
    reserved: int
    state: AttemptState = "open"
    amount: int | None = 0
    """Picodollars; of a lost one, all that was reserved. None: not known."""
    usage: Usage = attrs.field(factory=Usage)
    outcome: str = ""

    @property
    def counts_with(self) -> int:
        """What it takes from a budget: the reservation, until the cost is known.

        What we only guess at, or cannot price, may have cost all of it.
        """
        if self.state == "open":
            return self.reserved
        if self.usage.estimated or self.amount is None:
            return max(self.reserved, self.amount or 0)
        return self.amount

    @property
    def sure(self) -> int:
        """What it has surely cost."""
        known = self.state == "settled" and not self.usage.estimated
        return (self.amount or 0) if known else 0


@attrs.frozen(kw_only=True)
class LedgerFilter:
    """Which entries to add up; None and empty: any."""

    since: float | None = None
    before: float | None = None
    tags: Mapping[str, str] = attrs.field(factory=dict[str, str])
    submitter: int | None = None
    provider: str | None = None
    model: str | None = None


@attrs.frozen(kw_only=True)
class LedgerSum:
    """Entries of one hour, provider and model, added up."""

    hour: int
    """Hours since the epoch."""
    provider: str
    model: str
    entries: int = 0
    failures: int = 0
    """Of the entries: those that are neither open nor ``ok``."""
    open: int = 0
    """Of the entries."""
    unpriced: int = 0
    """Of the entries: those whose amount is not known."""
    estimated: int = 0
    """Of the entries: those whose usage is a guess of ours, and so their amount."""
    amount: int = 0
    """Picodollars of those that are not open."""
    reserved: int = 0
    """Picodollars of those that are."""
    counted: int = 0
    """Picodollars that all of them take from a budget; see `LedgerEntry.counts_with`."""
    sure: int = 0
    """Of those: what was surely spent, and is no reservation and no guess."""
    usage: Usage = attrs.field(factory=Usage)


class LedgerStore(Protocol):
    """Knows what was spent, and what is reserved; budgets are rebuilt from it."""

    async def record(self, entries: Sequence[LedgerEntry]) -> None:
        """Insert entries of requests that are no jobs, open or settled."""
        ...

    async def settle_entry(self, entry: str, settlement: Settlement) -> LedgerEntry:
        """Settle an open or lost entry of a request that is no job, once.

        Raises:
            NotFound: there is no such entry.
            StaleLease: it was settled already.
        """
        ...

    async def settle_entries(
        self, settlements: Sequence[tuple[str, Settlement]]
    ) -> None:
        """Settle many in one commit; what is not there, or settled, is passed over.

        So whoever does not know whether it was done may do it again.
        """
        ...

    async def sums(self, which: LedgerFilter) -> tuple[LedgerSum, ...]:
        """Return sums by hour, provider and model, sorted by these."""
        ...

    async def open_entries(self) -> tuple[LedgerEntry, ...]:
        """Return the entries that are not settled nor lost, the oldest first."""
        ...
