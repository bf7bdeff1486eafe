"""What requests that are no jobs have cost, on its way into the store's ledger.

Written a moment later, many in one commit: a crash of the process may lose the last
`WINDOW` seconds of them. Jobs lose nothing: their entries are written before they
are sent.
"""

from __future__ import annotations

from typing import final

import attrs
import trio

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
                with trio.CancelScope(shield=True):
                    await store.record(some)
            except StoreUnavailable:
                await trio.sleep(STORE_PAUSE)
                continue
            # Shielded above: whoever is cancelled there would write them twice.
            del self._waiting[:BATCH_MAX]
        self._something = trio.Event()
