"""The SQLite engine: one file, one thread that writes to it, one that reads.

Many that write at the same time share a commit, and go on when it is on the disk.
Only the writer writes or checkpoints, and no other process opens the file but to read
it (`sqlite_backup`); `sqlite_connect` says why. Reads see whatever was committed before they were asked for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import final

from duckservice.store.sqlite_deltas import SqliteDeltas
from duckservice.store.sqlite_dispatch import SqliteDispatch
from duckservice.store.sqlite_files import SqliteFiles
from duckservice.store.sqlite_jobs import SqliteJobs
from duckservice.store.sqlite_ledger import SqliteLedger
from duckservice.store.sqlite_news import News
from duckservice.store.sqlite_reader import Reader
from duckservice.store.sqlite_session import Session
from duckservice.store.sqlite_thread import StoreThread
from duckservice.store.sqlite_upkeep import SqliteUpkeep
from duckservice.store.sqlite_writer import Fault, Writer


@final
class SqliteStore(
    SqliteJobs, SqliteDispatch, SqliteDeltas, SqliteLedger, SqliteFiles, SqliteUpkeep
):
    """A store in a file; `open_sqlite` opens it."""

    def __init__(self, path: Path, *, aging: float, fault: Fault | None = None) -> None:
        """*fault* is a seam for tests: see `sqlite_writer.Fault`."""
        self.path = path
        self.news = News()
        writer = Writer(path, aging=aging, publish=self.news.publish, fault=fault)
        self.commits = writer.commits
        self.writing: StoreThread[Session] = StoreThread(writer, name="store writer")
        self.reading: StoreThread[sqlite3.Connection] = StoreThread(
            Reader(path), name="store reader"
        )

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path}>"

    async def start(self) -> None:
        """Open the database.

        Raises:
            StoreUnavailable: it is in use, damaged, too new, or not to be trusted.
        """
        await self.writing.start()
        try:
            await self.reading.start()
            # The first commit tells what is there.
            await self.write(lambda _: None)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """See `Upkeep.aclose`. What was asked for before is done first."""
        self.news.close()
        self.writing.refuse()
        # The writer is the last: it works the log in, and removes it.
        await self.reading.aclose()
        await self.writing.aclose()


@asynccontextmanager
async def open_sqlite(
    path: Path, *, aging: float = 30.0, fault: Fault | None = None
) -> AsyncGenerator[SqliteStore]:
    """Open the database at *path*, or make it, for the length of a block.

    After *aging* seconds a waiting job rises by one class.

    Raises:
        StoreUnavailable: it is in use, damaged, too new, or not to be trusted.
    """
    store = SqliteStore(path, aging=aging, fault=fault)
    await store.start()
    try:
        yield store
    finally:
        await store.aclose()
