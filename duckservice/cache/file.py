"""Replies kept on the disk, beside those in memory: what outlives the daemon.

A file of its own, `cache.db` in the state directory, with the limits of the memory.
What it holds can be asked for again, so it is never in anybody's way: it is written
after the answer has left, what cannot be written is left out, and a file that is
damaged is replaced by an empty one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, assert_never, final

import attrs
import trio

from duckservice.cache.reply import Kept
from duckservice.cache.table import CacheTable, Found, make_empty
from duckservice.core.response_cache import CacheLimits
from duckservice.errors import Unavailable
from duckservice.events import CacheFileFailed
from duckservice.store.sqlite_place import Place, take
from duckservice.store.sqlite_thread import Item, StoreThread
from duckservice.tree import Seams

PATIENCE: Final = 0.25
"""Seconds that a request waits for the disk; then its provider is asked."""
WINDOW: Final = 0.05
"""Seconds for which changes are gathered before they are written together."""
WAITING_MAX: Final = 10_000
"""So many changes wait to be written; more are left out."""
RESTARTS_MAX: Final = 3
"""So often the file is replaced by an empty one, until the daemon starts again."""


@attrs.frozen
class Put:
    """A reply that is to be kept, under a key."""

    kept: Kept
    at: float
    """When it came, in seconds since the epoch."""


@attrs.frozen
class Touch:
    """A reply was used, from memory."""


@attrs.frozen
class Remove:
    """A reply is out of date."""


Change: TypeAlias = Put | Touch | Remove


@final
@attrs.define(eq=False)
class CacheFile:
    """The file, its thread, and what is yet to be written."""

    path: Path
    _limits: CacheLimits
    _seams: Seams
    _served_by: bytes
    """Who serves which model: what others have answered is not kept."""
    left_out: int = 0
    """Changes that were not written, because too many waited."""
    in_use: bool | None = None
    """None until it is known whether the file can be used."""
    _waiting: dict[bytes, Change] = attrs.field(factory=dict[bytes, Change])
    _under_way: dict[bytes, Change] = attrs.field(factory=dict[bytes, Change])
    """What is being written now."""
    _something: trio.Event = attrs.field(factory=trio.Event)
    _thread: StoreThread[CacheTable] | None = None
    _known: set[bytes] = attrs.field(factory=set[bytes])
    """The keys of what is in the file, so that nobody waits for what is not."""
    _news: list[str] = attrs.field(factory=list[str])

    @property
    def waiting(self) -> int:
        """How many changes are yet to be written."""
        return len(self._waiting) + len(self._under_way)

    async def get(self, key: bytes) -> Found | None:
        """Return what is kept; None if there is nothing, or the disk takes too long."""
        thread = self._thread
        if key not in self._known:
            return None
        change = self._waiting.get(key) or self._under_way.get(key)
        if thread is None or isinstance(change, Put | Remove):
            return None  # what the file holds is out of date
        now = self._seams.wall_clock()
        with trio.move_on_after(PATIENCE):
            try:
                return await thread.run(lambda table: table.get(key, now))
            except Unavailable:
                self._report_news()
        return None

    def put(self, key: bytes, kept: Kept) -> None:
        """Keep a reply, soon."""
        self._change(key, Put(kept, self._seams.wall_clock()))

    def touch(self, key: bytes) -> None:
        """Take note that a reply was used."""
        if key not in self._waiting:
            self._change(key, Touch())

    def remove(self, key: bytes) -> None:
        """Forget a reply, soon."""
        self._change(key, Remove())

    async def run(self) -> None:
        """Open the file, write until cancelled, and close it; the body of a child."""
        worker = _Worker(self.path, self._limits, self._served_by)
        thread = StoreThread(worker, name="cache_file")
        try:
            await thread.start()
        except (OSError, sqlite3.Error, Unavailable) as error:
            self._report(f"it is not used: {error}")
            self.in_use = False
            await trio.sleep_forever()
        self._thread, self._news, self.in_use = thread, worker.news, True
        self._known = worker.known
        try:
            while True:
                self._report_news()
                await self._something.wait()
                await trio.sleep(WINDOW)
                await self._write(thread)
        finally:
            self._thread, self.in_use = None, None
            with trio.move_on_after(1, shield=True):
                await self._write(thread)
            await thread.aclose()  # noqa: ASYNC102 - it shields itself
            self._report_news()

    def _change(self, key: bytes, change: Change) -> None:
        if key not in self._waiting and len(self._waiting) >= WAITING_MAX:
            self.left_out += 1
            return
        self._waiting[key] = change
        self._something.set()

    async def _write(self, thread: StoreThread[CacheTable]) -> None:
        self._something = trio.Event()
        self._under_way, self._waiting = self._waiting, {}
        try:
            if self._under_way:
                changes = list(self._under_way.items())
                write = partial(_write, changes, self._seams.wall_clock())
                with suppress(Unavailable):  # the news say why
                    come, gone = await thread.run(write)
                    self._known.update(come)
                    self._known.difference_update(gone)
        except trio.Cancelled:
            # Nobody knows whether they are written; to write them again is right.
            for key, change in self._under_way.items():
                if not isinstance(self._waiting.get(key), Put | Remove):
                    self._waiting[key] = change
            raise
        finally:
            self._under_way = {}

    def _report_news(self) -> None:
        if self._news:
            self._known = set()
        # The list is the thread's, which only adds to it.
        while self._news:
            self._report(self._news.pop(0))

    def _report(self, reason: str) -> None:
        self._seams.emit(CacheFileFailed(path=str(self.path), reason=reason))


def _write(
    changes: Sequence[tuple[bytes, Change]], now: float, table: CacheTable
) -> tuple[set[bytes], set[bytes]]:
    """Make the changes; return the keys of what has come, and of what has gone."""
    with table.changing(now):
        for key, change in changes:
            match change:
                case Put(kept, at):
                    table.put(key, kept, at)
                case Touch():
                    table.touch(key)
                case Remove():
                    table.remove(key)
                case _:
                    assert_never(change)
    return table.news()


@final
@attrs.define(eq=False)
class _Worker:
    """What the thread runs; a file that fails is replaced by an empty one."""

    _path: Path
    _limits: CacheLimits
    _served_by: bytes
    news: list[str] = attrs.field(factory=list[str])
    """What is to be told of the file, on trio's side."""
    known: set[bytes] = attrs.field(factory=set[bytes])
    """The keys of what was in the file when it was opened."""
    _place: Place | None = None
    _table: CacheTable | None = None
    _restarts: int = 0

    def open(self) -> None:
        _remove_lost_log(self._path)
        self._place = take(self._path)
        try:
            self._table = self._opened()
            self.known = self._table.keys()
        except sqlite3.Error as error:
            self._start_empty(error)

    def run(self, items: list[Item[CacheTable]]) -> Callable[[], None] | None:
        for item in items:
            if self._table is None:
                item.error = _not_in_use()
                continue
            try:
                item.value = item.op(self._table)
            except (sqlite3.Error, OSError) as error:
                item.error = _not_in_use()
                self._start_empty(error)
        return None

    def close(self) -> None:
        try:
            self._close_table()
        finally:
            if self._place is not None:
                self._place.release()

    def _opened(self) -> CacheTable:
        return CacheTable.open(self._path, self._limits, self._served_by)

    def _start_empty(self, error: Exception) -> None:
        self._close_table()
        self._restarts += 1
        if self._restarts > RESTARTS_MAX:
            self.news.append(f"it fails again and again, and is left alone: {error}")
            return
        try:
            make_empty(self._path)
            self._table = self._opened()
        except (sqlite3.Error, OSError) as second:
            self.news.append(f"it failed, and cannot be replaced: {error}; {second}")
        else:
            self.news.append(f"it failed, and was replaced by an empty one: {error}")

    def _close_table(self) -> None:
        table, self._table = self._table, None
        if table is not None:
            # What cannot be closed properly is about to be replaced, or left alone.
            with suppress(sqlite3.Error):
                table.close()


def _remove_lost_log(path: Path) -> None:
    """Remove a log whose database is gone: the store would ask for it to be put back."""
    if not path.exists() or not path.stat().st_size:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _not_in_use() -> Unavailable:
    return Unavailable("the file of the cache is not in use")
