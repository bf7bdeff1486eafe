"""The event hub: the newest events for whoever wants to follow them.

    publish ──▶ [ ring of the newest events ] ◀── a reader, which is a place in it
                                              ◀── a reader that is slower

A reader holds nothing but its place, so one that is slow costs nothing and is never
waited for: when the ring has passed it, it gets a `Gap` that says how many events it
has missed, and goes on with the oldest that is left. Nothing is encoded unless it is
read. `publish` neither waits nor fails.

An id is the hub's life and a number, as in ``19a9f3c2b1d-42``: after a restart the
daemon numbers its events anew, and who comes back with an id of an earlier life gets
a gap of unknown length, then all that is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final, NamedTuple, TypeAlias, final

import attrs
import trio

from duckservice.event_stream.words import Kept, outward
from duckservice.events import Event

KEPT_MAX: Final = 8192
"""So many events are kept; a slow reader may be behind by so many."""
READ_MAX: Final = 256
"""So many are read at once."""

_ID = re.compile(r"([0-9a-f]{1,16})-([0-9]{1,16})", re.ASCII)


@attrs.frozen
class EventId:
    """Where in which life of the hub an event stands."""

    life: str
    number: int

    def __str__(self) -> str:
        return f"{self.life}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """Return the id that reads so; None: it is none of ours."""
        found = _ID.fullmatch(text)
        return None if found is None else cls(found[1], int(found[2]))


class Entry(NamedTuple):
    """One event that is kept."""

    number: int
    at: float
    """Seconds since the epoch."""
    word: str
    event: Kept


@attrs.frozen
class Gap:
    """Events were missed."""

    number: int
    """Of the last one that was missed."""
    at: float
    missed: int | None
    """How many, of whatever type; None: nobody knows, the daemon was restarted."""


Item: TypeAlias = Entry | Gap


@attrs.frozen(kw_only=True)
class HubStatistics:
    """What the hub has done."""

    published: int
    kept: int
    readers: int


@final
@attrs.define(eq=False)
class EventHub:
    """Keeps the newest events, and wakes those who wait for the next."""

    wall_clock: Callable[[], float]
    """Seconds since the epoch."""
    quotes: bool = False
    """Whether the events' errors may quote providers (``log.debug_bodies``)."""
    kept_max: int = KEPT_MAX
    life: str = attrs.field(init=False)
    """Differs from that of any earlier life of the daemon."""
    _last: int = 0
    _ring: list[Entry | None] = attrs.field(init=False, repr=False)
    _news: trio.Event = attrs.field(factory=trio.Event, repr=False)
    _waiting: int = 0
    _readers: int = 0

    def __attrs_post_init__(self) -> None:
        self.life = f"{max(0, int(self.wall_clock() * 1000)):x}"
        self._ring = [None] * self.kept_max

    def publish(self, event: Event) -> None:
        """Keep *event*, if outsiders are told of its kind."""
        its = outward(event)
        if its is None:
            return
        words, kept = its
        at = self.wall_clock()
        for word in words:
            self._last += 1
            self._ring[self._last % self.kept_max] = Entry(self._last, at, word, kept)
        if self._waiting:
            self._news.set()
            self._news = trio.Event()

    def statistics(self) -> HubStatistics:
        """Return what the hub has done."""
        return HubStatistics(
            published=self._last,
            kept=min(self._last, self.kept_max),
            readers=self._readers,
        )

    def follow(
        self,
        *,
        after: EventId | None = None,
        since: float | None = None,
        words: Collection[str] | None = None,
    ) -> Reader:
        """Return a reader of what comes after that id, or since then, or from now on.

        It gets the events of these *words* only; gaps in any case.
        """
        if after is not None:
            return Reader(self, *self._place(after), words)
        if since is None:
            return Reader(self, self._last, None, words)
        return Reader(self, self._before(since), None, words)

    @property
    def last_id(self) -> EventId:
        """The id of the newest event."""
        return EventId(self.life, self._last)

    def _place(self, after: EventId) -> tuple[int, Gap | None]:
        if after.life == self.life:
            return min(after.number, self._last), None
        # Its number is that of what is told next, less one: it is told but once.
        at = self._oldest - 1
        return at, Gap(at, self.wall_clock(), None)

    def _before(self, since: float) -> int:
        """Return the number of the last event that is older than *since*."""
        # From the newest back: a clock that was put back must hide nothing new.
        number = self._last
        while number >= self._oldest and self._at(number).at >= since:
            number -= 1
        return number

    @property
    def _oldest(self) -> int:
        return max(1, self._last - self.kept_max + 1)

    def _at(self, number: int) -> Entry:
        entry = self._ring[number % self.kept_max]
        assert entry is not None, "it was published"
        assert entry.number == number, "it is kept"
        return entry

    # For readers.

    def read(self, after: int, words: Collection[str] | None) -> tuple[list[Item], int]:
        """Return some of what came after that number, and how far that goes."""
        items = list[Item]()
        oldest = self._oldest
        if after < oldest - 1:
            missed = oldest - 1 - after
            items.append(Gap(oldest - 1, self.wall_clock(), missed))
            after = oldest - 1
        while after < self._last and len(items) < READ_MAX:
            after += 1
            entry = self._at(after)
            if words is None or entry.word in words:
                items.append(entry)
        return items, after

    async def wait_for_more(self, after: int) -> None:
        """Wait until there is an event after that number."""
        self._waiting += 1
        try:
            while self._last <= after:
                await self._news.wait()
        finally:
            self._waiting -= 1

    def enter(self) -> None:
        """Take note of a reader."""
        self._readers += 1

    def leave(self) -> None:
        """Take note that it has left."""
        self._readers -= 1


@final
@attrs.define(eq=False)
class Reader:
    """One who follows the events; a context manager only to be counted."""

    _hub: EventHub
    _after: int
    _gap: Gap | None
    """What is to be told first."""
    _words: Collection[str] | None

    def __enter__(self) -> Reader:
        """Be counted."""
        self._hub.enter()
        return self

    def __exit__(self, *_: object) -> None:
        """Be counted no more."""
        self._hub.leave()

    @property
    def last_id(self) -> EventId:
        """The id to come back with: all up to it was read, or passed over."""
        return EventId(self._hub.life, self._after)

    def read_nowait(self) -> list[Item]:
        """Return what there is, the oldest first, at most `READ_MAX`; none: no news."""
        items, self._after = self._hub.read(self._after, self._words)
        if self._gap is not None:
            items.insert(0, self._gap)
            self._gap = None
        return items

    async def read(self) -> list[Item]:
        """Wait for events, and return them as `read_nowait` does.

        Cancelled, it has passed nothing over.
        """
        await trio.lowlevel.checkpoint()
        while not (items := self.read_nowait()):
            await self._hub.wait_for_more(self._after)
        return items
