"""The memory engine: a whole store that forgets all when it is closed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import final

import trio

from duckservice.store.memory_files import Cabinet, MemoryFiles
from duckservice.store.memory_jobs import MemoryDeltas, MemoryJobs
from duckservice.store.memory_ledger import Ledger, MemoryLedger
from duckservice.store.memory_rows import Rows
from duckservice.store.upkeep import Health, Pruned, Retention, StoreStatistics


@final
class MemoryStore(MemoryJobs, MemoryDeltas, MemoryLedger, MemoryFiles):
    """A store in this process's memory."""

    def __init__(self, *, aging: float = 30.0) -> None:
        """*aging* is the time in seconds after which a job rises by one class."""
        self.rows = Rows(aging=aging)
        self.ledger = Ledger()
        self.cabinet = Cabinet()
        self._flags: dict[str, str] = {}

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<MemoryStore {len(self.rows)} jobs{state}>"

    async def set_flag(self, name: str, value: str | None) -> None:
        """See `Upkeep.set_flag`."""
        await self.ready()
        if value is None:
            self._flags.pop(name, None)
        else:
            self._flags[name] = value
        self.rows.tell_news()

    async def flags(self) -> Mapping[str, str]:
        """See `Upkeep.flags`."""
        await self.ready()
        return dict(self._flags)

    async def prune(
        self, retention: Retention, now: float, *, limit: int = 1000
    ) -> Pruned:
        """See `Upkeep.prune`."""
        await self.ready()
        ledger_until = now - retention.ledger
        jobs, more_jobs = self.rows.prune(retention, now, limit)
        streams, more_streams = self.rows.prune_streams(now - retention.deltas, limit)
        entries, more_entries = self.ledger.prune(ledger_until, limit)
        files, more_files = self.cabinet.prune(now, limit)
        return Pruned(
            jobs=jobs,
            streams=streams,
            entries=entries,
            files=files,
            more=more_jobs or more_streams or more_entries or more_files,
        )

    async def statistics(self) -> StoreStatistics:
        """See `Upkeep.statistics`."""
        await self.ready()
        return StoreStatistics(
            jobs=len(self.rows), unfinished=self.rows.unfinished(), bytes=None
        )

    async def check(self) -> Health:
        """See `Upkeep.check`."""
        if self.closed:
            return Health(ok=False, detail="the store is closed", may_recover=False)
        await self.ready()
        return Health(ok=True, detail="in memory: a restart forgets all jobs")

    async def aclose(self) -> None:
        """See `Upkeep.aclose`."""
        if not self.closed:
            self.closed = True
            self.rows.wake_all()
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_memory(*, aging: float = 30.0) -> AsyncGenerator[MemoryStore]:
    """Open an empty store for the length of a block."""
    store = MemoryStore(aging=aging)
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):
            await store.aclose()
