"""The worker that owns the reading connection: lists and results block no writer."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from duckservice.errors import DuckError
from duckservice.store.sqlite_connect import connect_reader
from duckservice.store.sqlite_faults import NOT_STORABLE, not_storable, unavailable
from duckservice.store.sqlite_thread import Item


class Reader:
    """Runs what only reads; all of it on one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def open(self) -> None:
        """Connect, the writer having opened the database.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        try:
            self._db = connect_reader(self._path)
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error

    def close(self) -> None:
        """Close the connection."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def run(self, items: list[Item[sqlite3.Connection]]) -> None:
        """Run each in a transaction of its own: it sees one state of everything."""
        for item in items:
            try:
                self._run(item)
            except sqlite3.Error as error:
                item.error = unavailable(error, self._path)
                item.error.__cause__ = error
                # The next one tries a new connection.
                self.close()

    def _run(self, item: Item[sqlite3.Connection]) -> None:
        if self._db is None:
            self._db = connect_reader(self._path)
        self._db.execute("BEGIN")
        try:
            item.value = item.op(self._db)
        except sqlite3.Error:
            raise
        except DuckError as error:
            item.error = error
        except NOT_STORABLE as error:
            item.error = not_storable(error)
        # As in the writer: a bug is for who has asked.
        except Exception as error:  # noqa: BLE001
            item.error = error
        self._db.execute("ROLLBACK")
