"""Opens connections to the database: one that writes, others that only read.

Older SQLite (before 3.51.3) can damage a database in WAL mode if two connections
write or checkpoint. So the writer alone does either, and it alone may.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from duckservice.store.errors import StoreUnavailable

SQLITE_MIN: Final = (3, 37, 0)
"""The first with STRICT tables."""
BUSY: Final = 5.0
"""How long a checkpoint waits for a reader (seconds); nobody else has the file."""
CHECKPOINT_PAGES: Final = 4000
CHECK_BYTES_MAX: Final = 256 * 1024 * 1024
"""A larger database is not read through after an unclean end: it would take long."""


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the one connection that writes. It creates no file.

    Every commit is on the disk when it returns.
    """
    db = _connect(path, "rw")
    try:
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        _must_be_wal(mode, path)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
    except BaseException:
        db.close()
        raise
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that cannot write, nor checkpoint."""
    db = _connect(path, "ro")
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    return db


def must_be_sound(path: Path) -> None:
    """Read the whole database through, unless it is large; change nothing.

    Only a connection that cannot write leaves a damaged file as it is: one that
    can works the log in when it is closed.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    if path.stat().st_size > CHECK_BYTES_MAX:
        return
    db = connect_reader(path)
    try:
        found = [row[0] for row in db.execute("PRAGMA quick_check(3)")]
    finally:
        db.close()
    if found != ["ok"]:
        raise _malformed("; ".join(found))


def must_write(db: sqlite3.Connection, path: Path) -> None:
    """Make sure that a write reaches the disk, after one has failed.

    After a failed fsync the kernel may have dropped what it says it holds, so
    everything is written anew: all of the log goes into the database first.

    Raises:
        sqlite3.Error: it does not.
    """
    busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise sqlite3.OperationalError("a reader does not let go")
    word = secrets.token_hex(8)
    db.execute("UPDATE probe SET word = ?", (word,))
    fresh = connect_reader(path)
    try:
        found = fresh.execute("SELECT word FROM probe").fetchone()[0]
    finally:
        fresh.close()
    if found != word:
        raise _malformed("what was written is not what is read")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        msg = f"the store needs SQLite 3.37; this Python has {sqlite3.sqlite_version}"
        raise StoreUnavailable(msg, may_recover=False)
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=BUSY,
        isolation_level=None,
        cached_statements=256,
    )


def _must_be_wal(mode: str, path: Path) -> None:
    if mode != "wal":
        msg = f"the store {path}: its file system has no shared memory for SQLite"
        raise StoreUnavailable(msg, may_recover=False)


def _malformed(why: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
