"""What the parts of the SQLite engine share: their ways to the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from duckservice.store.sqlite_session import Session
from duckservice.store.sqlite_thread import StoreThread

T = TypeVar("T")
Write: TypeAlias = Callable[[Session], T]
Read: TypeAlias = Callable[[sqlite3.Connection], T]


class Part:
    """One part of the engine."""

    writing: StoreThread[Session]
    reading: StoreThread[sqlite3.Connection]

    async def write(self, op: Write[T]) -> T:
        """Return what *op* returns, after the commit."""
        return await self.writing.run(op)

    async def read(self, op: Read[T]) -> T:
        """Return what *op* reads, which is all that was committed before."""
        return await self.reading.run(op)
