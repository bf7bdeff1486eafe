"""What requests that are no jobs have cost, on its way into the store's ledger.

Most are written a moment later, many in one commit: a crash of the process may lose
the last `WINDOW` seconds of them. Where a budget binds a request, nothing is lost: its
entry is committed, open, with all that it may cost, before its first byte is sent. What
it has cost follows with the others; until then it counts with the whole. (Jobs lose
nothing either: see `jobs.attempts`.)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import final

import attrs
import trio

from duckservice.core.job import Settlement
from duckservice.errors import Conflict, DuckError, Unavailable
from duckservice.events import EntryLost, EventSink, to_log
from duckservice.store.base import LedgerEntry, Store, StoreUnavailable
from duckservice.store.decisions import settled_entry

WINDOW = 0.25
STORE_PAUSE = 1.0
WAITING_MAX = 100_000
"""While the store cannot write, so many wait; then new ones are counted, and lost."""
BATCH_MAX = 1000
OPEN_MAX = 10.0
"""Seconds in which the store must have written a reservation down: a disk may hang."""
UNSENT = Settlement(outcome="cancelled", counts=False)


@final
@attrs.define(eq=False)
class LedgerBuffer:
    """Takes entries at once, and writes them soon; opens those of budgets at once."""

    enabled: bool = True
    """False where the store forgets all anyway: it would only fill the memory."""
    store: Store | None = None
    """Where reservations are written; whoever opens the store sets it."""
    emit: EventSink = to_log
    """Is told of what cannot be written; whoever opens the store sets it."""
    dropped: int = 0
    """Entries that were lost, or what they have cost: because the store could not
    write for too long, or cannot keep such a value."""
    _waiting: list[LedgerEntry] = attrs.field(factory=list[LedgerEntry])
    _settled: list[tuple[str, Settlement]] = attrs.field(
        factory=list[tuple[str, Settlement]]
    )
    _opened: dict[str, LedgerEntry] = attrs.field(factory=dict[str, LedgerEntry])
    """Those that are open in the store, for all that it knows."""
    _flags: dict[str, str] = attrs.field(factory=dict[str, str])
    _something: trio.Event = attrs.field(factory=trio.Event)
    _writing: trio.Lock = attrs.field(factory=trio.Lock)

    def add(self, entry: LedgerEntry) -> None:
        """Take an entry that is settled."""
        if self._has_room():
            self._waiting.append(entry)
            self._something.set()

    async def open(self, entry: LedgerEntry) -> None:
        """Write a reservation down; when this returns it is committed.

        Raises:
            Unavailable: the store could not do it. Nothing may be sent.
        """
        store = self.store
        if not self.enabled or store is None:
            return
        self._opened[entry.id] = entry
        try:
            with trio.move_on_after(OPEN_MAX) as scope:
                await store.record([entry])
        except StoreUnavailable as error:
            # Who seems to have failed may have written it after all.
            self.settle(entry.id, UNSENT)
            raise _not_written(error.message) from error
        except BaseException:
            self.settle(entry.id, UNSENT)
            raise
        if scope.cancelled_caught:
            self.settle(entry.id, UNSENT)
            raise _not_written(f"it did not answer within {OPEN_MAX:g} s")

    def settle(self, entry: str, settlement: Settlement) -> None:
        """Take how an entry has ended that was opened."""
        if self._has_room():
            self._settled.append((entry, settlement))
            self._something.set()
        else:
            self._opened.pop(entry, None)

    def remember(self, flag: str, value: str) -> None:
        """Have a flag of the store set."""
        if self.enabled:
            self._flags[flag] = value
            self._something.set()

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[Sequence[LedgerEntry]]:
        """Write nothing for the length of a block; return what is yet to be written.

        All that was settled before the block is in the store, or returned.
        """
        async with self._writing:
            ended = [
                settled_entry(self._opened[entry], end)
                for entry, end in self._settled
                if end.counts and entry in self._opened
            ]
            yield (*self._waiting, *ended)

    async def run(self, store: Store) -> None:
        """Write until cancelled, and what is left then; the body of its child."""
        try:
            while True:
                await self._something.wait()
                await trio.sleep(WINDOW)
                await self._write(store)
        finally:
            with trio.move_on_after(1, shield=True):
                await self._write(store)

    def _has_room(self) -> bool:
        if not self.enabled:
            return False
        if len(self._waiting) + len(self._settled) >= WAITING_MAX:
            self.dropped += 1
            return False
        return True

    async def _write(self, store: Store) -> None:
        while self._waiting or self._settled or self._flags:
            try:
                async with self._writing:
                    await self._write_some(store)
            except StoreUnavailable:
                await trio.sleep(STORE_PAUSE)
        self._something = trio.Event()

    async def _write_some(self, store: Store) -> None:
        some, settled = self._waiting[:BATCH_MAX], self._settled[:BATCH_MAX]
        # Whoever is cancelled here does not know whether it is written, and writes it
        # again: what is there already is passed over. Not more is taken out than was
        # written: others may have come in the meantime.
        if some:
            await self._record(store, some)
        if settled:
            await self._settle(store, settled)
        for flag, value in list(self._flags.items()):
            await store.set_flag(flag, value)
            if self._flags[flag] == value:
                del self._flags[flag]

    async def _record(self, store: Store, entries: list[LedgerEntry]) -> None:
        """Write the first of those that wait, all of them or one by one."""
        try:
            await store.record(entries)
        except StoreUnavailable:
            raise
        except DuckError:
            for entry in entries:
                await self._record_alone(store, entry)
                del self._waiting[0]
        else:
            del self._waiting[: len(entries)]

    async def _record_alone(self, store: Store, entry: LedgerEntry) -> None:
        try:
            await store.record([entry])
        except StoreUnavailable:
            raise
        except Conflict:
            pass  # a try that seemed to fail has written it after all
        except DuckError as error:
            self._lose(entry.id, error)

    async def _settle(
        self, store: Store, settled: list[tuple[str, Settlement]]
    ) -> None:
        """Settle the first of those that wait, all of them or one by one."""
        try:
            await store.settle_entries(settled)
        except StoreUnavailable:
            raise
        except DuckError:
            for entry, settlement in settled:
                await self._settle_alone(store, entry, settlement)
                self._opened.pop(entry, None)
                del self._settled[0]
        else:
            for entry, _ in settled:
                self._opened.pop(entry, None)
            del self._settled[: len(settled)]

    async def _settle_alone(
        self, store: Store, entry: str, settlement: Settlement
    ) -> None:
        try:
            await store.settle_entries([(entry, settlement)])
        except StoreUnavailable:
            raise
        except DuckError as error:
            # It counts with all that was reserved then, as it would if it stayed open;
            # but what is open is never deleted.
            await _settle_without_cost(store, entry, settlement)
            self._lose(entry, error)

    def _lose(self, entry: str, error: DuckError) -> None:
        self.dropped += 1
        self.emit(EntryLost(entry=entry, reason=error.message))


async def _settle_without_cost(
    store: Store, entry: str, settlement: Settlement
) -> None:
    try:
        await store.settle_entries([(entry, settlement.without_cost())])
    except StoreUnavailable:
        raise
    except DuckError:
        pass  # it stays open, until the next start counts it as lost


def _not_written(why: str) -> Unavailable:
    msg = f"a budget binds the request, and its reservation cannot be written: {why}"
    return Unavailable(msg, retry_after=STORE_PAUSE)
