"""What requests that are no jobs have cost, on its way into the store's ledger.

Written a moment later, many in one commit: a crash of the process may lose the last
`WINDOW` seconds of them. Jobs lose nothing: their entries are written before they
are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import final

import attrs
import trio

from duckservice.errors import Conflict
from duckservice.store.base import LedgerEntry, Store, StoreUnavailable

WINDOW = 0.25
STORE_PAUSE = 1.0
WAITING_MAX = 100_000
"""While the store cannot write, so many wait; then new ones are counted, and lost."""
BATCH_MAX = 1000


@final
@attrs.define(eq=False)
class LedgerBuffer:
    """Takes entries at once, and writes them soon."""

    enabled: bool = True
    """False where the store forgets all anyway: it would only fill the memory."""
    dropped: int = 0
    """Entries that were lost, because the store could not write for too long."""
    _waiting: list[LedgerEntry] = attrs.field(factory=list[LedgerEntry])
    _something: trio.Event = attrs.field(factory=trio.Event)

    def add(self, entry: LedgerEntry) -> None:
        """Take an entry that is settled."""
        if not self.enabled:
            return
        if len(self._waiting) >= WAITING_MAX:
            self.dropped += 1
            return
        self._waiting.append(entry)
        self._something.set()

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

    async def _write(self, store: Store) -> None:
        while self._waiting:
            some = self._waiting[:BATCH_MAX]
            try:
                # Whoever is cancelled here does not know whether it is written, and
                # writes it again: what is there already is passed over.
                await _record(store, some)
            except StoreUnavailable:
                await trio.sleep(STORE_PAUSE)
                continue
            # Not more than was written: others may have come in the meantime.
            del self._waiting[: len(some)]
        self._something = trio.Event()


async def _record(store: Store, entries: Sequence[LedgerEntry]) -> None:
    try:
        await store.record(entries)
    except Conflict:
        # A try that seemed to fail has written some of them after all.
        for entry in entries:
            with suppress(Conflict):
                await store.record([entry])
