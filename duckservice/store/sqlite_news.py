"""Who waits for what in the database, and is told when it has committed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import attrs
import trio

from duckservice.core.job import JobState
from duckservice.store.errors import StoreUnavailable
from duckservice.store.sqlite_session import Effects


@attrs.define(eq=False)
class _Watch:
    changed: trio.Event = attrs.field(factory=trio.Event)
    watchers: int = 0


class News:
    """Wakes tasks; what has happened they must read themselves."""

    def __init__(self) -> None:
        self.states: dict[JobState, int] = {}
        """How many jobs are in each state, as of the last commit."""
        self.number = 1
        """Of the last news of work. What was there at the start is news, too."""
        self._work = trio.Event()
        self._watches: dict[str, _Watch] = {}
        self._closed = False

    def publish(self, effects: Effects) -> None:
        """Wake those whom it concerns."""
        self.states = effects.states
        if effects.news:
            self.number += 1
            self._work.set()
            self._work = trio.Event()
        for job in effects.changed & self._watches.keys():
            self._wake(self._watches[job])

    def close(self) -> None:
        """Wake everybody, for the last time."""
        self._closed = True
        self._work.set()
        for watch in self._watches.values():
            watch.changed.set()

    async def wait_for_work(self, seen: int) -> int:
        """Wait for news after *seen*; return its number.

        Raises:
            StoreUnavailable: the store is closed.
        """
        await trio.lowlevel.checkpoint()
        self._must_be_open()
        while self.number <= seen:
            await self._work.wait()
            self._must_be_open()
        return self.number

    @contextmanager
    def watch(self, job: str) -> Generator[Callable[[], trio.Event]]:
        """Give a function that returns the event of the job's next change.

        Ask for it before reading the job: no change is missed then.
        """
        self._must_be_open()
        watch = self._watches.setdefault(job, _Watch())
        watch.watchers += 1

        def event() -> trio.Event:
            self._must_be_open()
            return watch.changed

        try:
            yield event
        finally:
            watch.watchers -= 1
            if not watch.watchers:
                del self._watches[job]

    def _wake(self, watch: _Watch) -> None:
        watch.changed.set()
        watch.changed = trio.Event()

    def _must_be_open(self) -> None:
        if self._closed:
            msg = "the store is closed"
            raise StoreUnavailable(msg, may_recover=False)
