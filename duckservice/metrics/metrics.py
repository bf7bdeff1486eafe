"""The metrics of one service: counted as events come, read when somebody scrapes.

    event ──▶ Tally ──┐
    board, sums, queue, store, tree ──▶ samples ──▶ text, in a thread
    lateness of the loop ──┘

Nothing is global: two services in one process have nothing in common. A service that
nobody scrapes pays for the counting alone, and never imports prometheus-client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, final

import attrs
import trio

from duckservice.events import Event
from duckservice.metrics.histogram import COMMITS, Histogram
from duckservice.metrics.reading import Sources, read_samples
from duckservice.metrics.table import Samples
from duckservice.metrics.tally import Tally
from duckservice.store_slot import StoreSlot

if TYPE_CHECKING:
    from duckservice.running import RunningService

LAG_EVERY: Final = 1.0
"""Seconds between two looks at how late the loop is."""
LAG_FOR: Final = 300.0
"""Seconds after a scrape in which the loop is looked at."""


@final
@attrs.define(eq=False)
class Metrics:
    """What /metrics shows."""

    tally: Tally = attrs.field(factory=Tally)
    spans: Callable[[], Mapping[str, int]] = dict[str, int]
    """Tells what has become of the spans for a collector, where there is one."""
    _lag: Histogram = attrs.field(factory=lambda: Histogram(COMMITS))
    _since: float = attrs.field(factory=trio.current_time)
    _look_until: float = 0.0
    _scraped: trio.Event = attrs.field(factory=trio.Event)

    def add(self, event: Event) -> None:
        """Count *event*."""
        self.tally.add(event)

    async def scrape(
        self, service: RunningService, slot: StoreSlot, accept: str = ""
    ) -> tuple[bytes, str]:
        """Return all metrics as text, and its content type, as *accept* prefers."""
        self._look_until = trio.current_time() + LAG_FOR
        self._scraped.set()
        samples = await read_samples(
            Sources(
                service=service,
                slot=slot,
                tally=self.tally,
                lag=self._lag,
                since=self._since,
                spans=self.spans(),
            )
        )
        return await trio.to_thread.run_sync(_render, samples, accept)

    async def watch_loop(self) -> None:
        """Measure how late the loop is, while somebody wants to know; for ever."""
        while True:
            await self._scraped.wait()
            self._scraped = trio.Event()
            while (now := trio.current_time()) < self._look_until:
                await trio.sleep_until(now + LAG_EVERY)
                self._lag.add(max(0.0, trio.current_time() - now - LAG_EVERY))


def _render(samples: Samples, accept: str) -> tuple[bytes, str]:
    from duckservice.metrics.text import render  # noqa: PLC0415 - 60 ms, which only who is scraped pays

    return render(samples, accept)
