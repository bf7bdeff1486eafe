"""What all pages are told, and how far each of them has read.

    collector --put--> [ hello | lost or found | snapshot | newest points | newest news ]
                           a page is a place in it -----------^   a slower page --^

Nothing is kept for a page but its place. One that is slow gets the newest snapshot and
not those before, and of the news that it was too late for their number, as a ``gap``.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, final

import attrs
import trio

PAGES_MAX: Final = 32
NEWS_MAX: Final = 1024
"""So many of the newest are kept; a slow page may be behind by so many."""
NEWS_FIRST: Final = 200
"""A page that opens begins with so many of them."""
READ_MAX: Final = 256
"""A page is told so many at once."""
_POINTS_MAX: Final = 30

_EVENT_ID: Final = re.compile(r"[0-9a-f]{1,16}-[0-9]{1,16}", re.ASCII)

Json: TypeAlias = Mapping[str, Any]


class TooManyPages(Exception):
    """As many pages are open as may be."""


def frame(name: str, data: str, event_id: str = "") -> bytes:
    """Return a server-sent event; line ends in *data* are only white space of JSON."""
    line = data.replace("\r", " ").replace("\n", " ")
    id_line = f"id: {event_id}\n" if _EVENT_ID.fullmatch(event_id) else ""
    return f"{id_line}event: {name}\ndata: {line}\n\n".encode()


def _packed(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))


def _no_history() -> Json:
    return {"points": []}


@attrs.define
class _Latest:
    """Something of which only the newest counts."""

    number: int = 0
    frame: bytes = b""

    def put(self, name: str, data: str) -> None:
        self.number += 1
        self.frame = frame(name, data)


@attrs.define
class _Recent:
    """The newest of a row; each has its number."""

    max: int
    last: int = 0
    """The number of the newest."""
    kept: deque[tuple[str, bytes]] = attrs.field(factory=deque[tuple[str, bytes]])
    """Ids and frames."""

    def put(self, name: str, data: str, event_id: str = "") -> None:
        self.last += 1
        self.kept.append((event_id, frame(name, data, event_id)))
        if len(self.kept) > self.max:
            self.kept.popleft()

    @property
    def before(self) -> int:
        """The number of the newest that is not kept any more."""
        return self.last - len(self.kept)

    def after(self, number: int, most: int) -> list[bytes]:
        """Return the frames after that number, the oldest first."""
        first = max(0, number - self.before)
        end = min(len(self.kept), first + most)
        return [self.kept[index][1] for index in range(first, end)]

    def place_of(self, event_id: str) -> int | None:
        """Return the number of the event with that id; None: it is not kept."""
        for index in range(len(self.kept) - 1, -1, -1):
            if self.kept[index][0] == event_id:
                return self.before + index + 1
        return None


@attrs.frozen(kw_only=True)
class BoardStatistics:
    """What the board holds."""

    pages: int
    news: int
    lost: bool


@attrs.define(eq=False)
class _Shown:
    """All that pages are shown."""

    hello: _Latest = attrs.field(factory=_Latest)
    link: _Latest = attrs.field(factory=_Latest)
    """Whether the daemon is lost."""
    lost: bool = False
    snapshot: _Latest = attrs.field(factory=_Latest)
    history: Callable[[], Json] = _no_history
    histories: int = 1
    """Pages that have read fewer are told it, again."""
    points: _Recent = attrs.field(factory=lambda: _Recent(_POINTS_MAX))
    news: _Recent = attrs.field(factory=lambda: _Recent(NEWS_MAX))


@final
class Board:
    """The state of the daemon, as far as pages show it."""

    def __init__(self) -> None:
        self._shown = _Shown()
        self._pages = 0
        self._changed = trio.Event()
        self._watched = trio.Event()

    def __repr__(self) -> str:
        return f"<Board {self._pages} pages>"

    def statistics(self) -> BoardStatistics:
        """Return what the board holds."""
        return BoardStatistics(
            pages=self._pages, news=len(self._shown.news.kept), lost=self._shown.lost
        )

    # For the collector.

    def hello(self, value: Json) -> None:
        """Say which daemon it is."""
        self._shown.hello.put("hello", _packed(value))
        self._wake()

    def lost(self, reason: str) -> None:
        """Say that the daemon does not answer; only the first time counts."""
        if not self._shown.lost:
            self._shown.lost = True
            self._shown.link.put("lost", _packed({"reason": reason}))
            self._wake()

    def found(self) -> None:
        """Say that it is back, if it was lost."""
        if self._shown.lost:
            self._shown.lost = False
            self._shown.link.put("found", "{}")
            self._wake()

    def snapshot(self, data: str) -> None:
        """Show how the daemon is now: an object of JSON."""
        self._shown.snapshot.put("snapshot", data)
        self._wake()

    def history_from(self, make: Callable[[], Json]) -> None:
        """Have a page that opens begin its charts with what *make* returns.

        It must hold all points up to the newest that `point` was given.
        """
        self._shown.history = make

    def history_grew(self) -> None:
        """Tell the history again, to pages that are open, too."""
        self._shown.histories += 1
        self._wake()

    def point(self, value: Json) -> None:
        """Add a point to the charts."""
        self._shown.points.put("point", _packed(value))
        self._wake()

    def news(self, data: str, event_id: str) -> None:
        """Tell of an event of the daemon's."""
        self._shown.news.put("news", data, event_id)
        self._wake()

    async def wait_watched(self) -> None:
        """Wait until a page is open."""
        await self._watched.wait()

    # For pages.

    @contextmanager
    def open_page(self, last_event_id: str = "") -> Generator[Page]:
        """Return a page's place for the length of a block.

        Its news begin behind that event, where it is still known.

        Raises:
            TooManyPages: `PAGES_MAX` are open.
        """
        if self._pages >= PAGES_MAX:
            raise TooManyPages
        self._pages += 1
        self._watched.set()
        try:
            yield Page(self._shown, last_event_id)
        finally:
            self._pages -= 1
            if not self._pages:
                self._watched = trio.Event()

    async def wait_changed(self) -> None:
        """Wait until there is something new."""
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@final
class Page:
    """How far one page has read."""

    def __init__(self, shown: _Shown, last_event_id: str) -> None:
        self._shown = shown
        self._histories_seen = 0
        self._seen = dict[str, int]()
        """The number of the last that it was told, by what it is."""
        self._points_seen = 0
        news = shown.news
        known = news.place_of(last_event_id) if last_event_id else None
        first = max(news.before, news.last - NEWS_FIRST)
        self._news_seen = first if known is None else known

    def read_nowait(self) -> list[bytes]:
        """Return what this page does not know yet, some of it; nothing: no news."""
        shown = self._shown
        frames = self._latest("hello", shown.hello)
        if not self._histories_seen and not shown.lost:
            self._seen["link"] = shown.link.number
        if self._histories_seen != shown.histories:
            self._histories_seen = shown.histories
            frames.append(frame("history", _packed(shown.history())))
            self._points_seen = shown.points.last
        frames += self._latest("link", shown.link)
        frames += self._latest("snapshot", shown.snapshot)
        frames += shown.points.after(self._points_seen, READ_MAX)
        self._points_seen = shown.points.last
        return frames + self._read_news()

    def _latest(self, what: str, latest: _Latest) -> list[bytes]:
        if self._seen.get(what, 0) == latest.number:
            return []
        self._seen[what] = latest.number
        return [latest.frame]

    def _read_news(self) -> list[bytes]:
        frames, news = list[bytes](), self._shown.news
        if self._news_seen < news.before:
            missed = news.before - self._news_seen
            frames.append(frame("news", _packed({"type": "gap", "missed": missed})))
            self._news_seen = news.before
        some = news.after(self._news_seen, READ_MAX)
        self._news_seen += len(some)
        return frames + some
