"""The ledger in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from heapq import heappop, heappush

import attrs

from duckservice.completion import Usage
from duckservice.core.job import Settlement
from duckservice.errors import Conflict, NotFound
from duckservice.store.decisions import lost_entry, settled_entry
from duckservice.store.errors import StaleLease
from duckservice.store.ledger_store import LedgerEntry, LedgerFilter, LedgerSum
from duckservice.store.memory_part import Part

_HOUR = 3600


@attrs.define(eq=False)
class Ledger:
    """The entries, by id; nothing here waits."""

    entries: dict[str, LedgerEntry] = attrs.field(factory=dict[str, LedgerEntry])
    open: dict[str, None] = attrs.field(factory=dict[str, None])
    _by_time: list[tuple[float, str]] = attrs.field(factory=list[tuple[float, str]])

    def put(self, entry: LedgerEntry) -> None:
        """Insert an entry, or replace it."""
        if entry.id not in self.entries:
            heappush(self._by_time, (entry.at, entry.id))
        self.entries[entry.id] = entry
        if entry.state == "open":
            self.open[entry.id] = None
        else:
            self.open.pop(entry.id, None)

    def get(self, entry: str) -> LedgerEntry:
        """Return an entry.

        Raises:
            NotFound: there is none of that id.
        """
        try:
            return self.entries[entry]
        except KeyError:
            msg = f"the ledger has no entry {entry}"
            raise NotFound(msg) from None

    def lose(self, entry: str) -> None:
        """Count an open entry with all that was reserved for it."""
        if entry in self.open:
            self.put(lost_entry(self.entries[entry]))

    def prune(self, before: float, limit: int) -> tuple[int, bool]:
        """Delete entries begun by then, except open ones; say how many, and if more."""
        deleted, more = 0, False
        kept = list[tuple[float, str]]()
        while self._by_time and self._by_time[0][0] <= before:
            top = self._by_time[0]
            if top[1] in self.open:
                kept.append(heappop(self._by_time))
            elif deleted < limit:
                del self.entries[heappop(self._by_time)[1]]
                deleted += 1
            else:
                more = True
                break
        for top in kept:
            heappush(self._by_time, top)
        return deleted, more


class MemoryLedger(Part):
    """The part of the memory engine that is `LedgerStore`."""

    ledger: Ledger

    async def record(self, entries: Sequence[LedgerEntry]) -> None:
        """See `LedgerStore.record`."""
        await self.ready()
        for entry in entries:
            if entry.id in self.ledger.entries:
                msg = f"the ledger has an entry {entry.id} already"
                raise Conflict(msg)
        for entry in entries:
            self.ledger.put(entry)

    async def settle_entry(self, entry: str, settlement: Settlement) -> LedgerEntry:
        """See `LedgerStore.settle_entry`."""
        await self.ready()
        done = settled_entry(self.ledger.get(entry), settlement)
        self.ledger.put(done)
        return done

    async def settle_entries(
        self, settlements: Sequence[tuple[str, Settlement]]
    ) -> None:
        """See `LedgerStore.settle_entries`."""
        await self.ready()
        for entry, settlement in settlements:
            with suppress(NotFound, StaleLease):
                self.ledger.put(settled_entry(self.ledger.get(entry), settlement))

    async def sums(self, which: LedgerFilter) -> tuple[LedgerSum, ...]:
        """See `LedgerStore.sums`."""
        await self.ready()
        sums: dict[tuple[int, str, str], LedgerSum] = {}
        for entry in self.ledger.entries.values():
            if _matches(entry, which):
                key = (int(entry.at // _HOUR), entry.provider, entry.model)
                so_far = sums.get(key) or LedgerSum(
                    hour=key[0], provider=key[1], model=key[2]
                )
                sums[key] = _plus(so_far, entry)
        return tuple(one for _, one in sorted(sums.items()))

    async def open_entries(self) -> tuple[LedgerEntry, ...]:
        """See `LedgerStore.open_entries`."""
        await self.ready()
        entries = [self.ledger.entries[entry] for entry in self.ledger.open]
        return tuple(sorted(entries, key=lambda entry: (entry.at, entry.id)))


def has_tags(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Say whether *tags* have all that are wanted."""
    return wanted.items() <= tags.items()


def _matches(entry: LedgerEntry, which: LedgerFilter) -> bool:
    return (
        (which.since is None or entry.at >= which.since)
        and (which.before is None or entry.at < which.before)
        and (which.provider is None or entry.provider == which.provider)
        and (which.model is None or entry.model == which.model)
        and which.submitter in {None, entry.submitter}
        and has_tags(entry.tags, which.tags)
    )


def _plus(so_far: LedgerSum, entry: LedgerEntry) -> LedgerSum:
    is_open = entry.state == "open"
    return attrs.evolve(
        so_far,
        entries=so_far.entries + 1,
        failures=so_far.failures + (not is_open and entry.outcome != "ok"),
        open=so_far.open + is_open,
        unpriced=so_far.unpriced + (not is_open and entry.amount is None),
        estimated=so_far.estimated + entry.usage.estimated,
        amount=so_far.amount + (0 if is_open else entry.amount or 0),
        reserved=so_far.reserved + (entry.reserved if is_open else 0),
        counted=so_far.counted + entry.counts_with,
        sure=so_far.sure + entry.sure,
        usage=_usage(so_far.usage, entry.usage),
    )


def _usage(one: Usage, other: Usage) -> Usage:
    return Usage(
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        cache_write_tokens=one.cache_write_tokens + other.cache_write_tokens,
        reasoning_tokens=one.reasoning_tokens + other.reasoning_tokens,
        estimated=one.estimated or other.estimated,
    )
