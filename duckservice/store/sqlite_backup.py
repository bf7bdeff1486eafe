"""A copy of the database as it is at one moment, made while the daemon goes on.

The connection only reads: it neither writes nor checkpoints (`sqlite_connect` says why
that matters), so it may be in another process than the daemon's. It sees one state of
everything, with all that was committed before; writers do not wait for it, the log
grows meanwhile. The copy is read through before it gets its name.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import attrs

from duckservice.store.errors import StoreUnavailable
from duckservice.store.sqlite_connect import connect_reader
from duckservice.store.sqlite_faults import unavailable


@attrs.frozen(kw_only=True)
class Backup:
    """A copy that was made."""

    path: Path
    jobs: int
    bytes: int


def back_up(source: Path, target: Path) -> Backup:
    """Copy the database at *source*, which a daemon has open, to the new file *target*.

    The copy is for its owner alone to read, and on the disk when this returns.

    Raises:
        FileExistsError: there is something at *target*; it is left alone.
        OSError: the directory of *target* cannot be written.
        StoreUnavailable: the database cannot be read, or the copy not be written.
    """
    _must_not_exist(target)
    partial = target.with_name(f"{target.name}.part")
    partial.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(partial, flags, 0o600))
    try:
        jobs = _copy(source, partial)
        _sync(partial)
        _must_not_exist(target)
        partial.rename(target)
    except sqlite3.Error as error:
        raise unavailable(error, source) from error
    finally:
        _remove(partial)
    _sync(target.parent)
    return Backup(path=target, jobs=jobs, bytes=target.stat().st_size)


def _copy(source: Path, partial: Path) -> int:
    """Copy all pages, read the copy through; return how many jobs are in it."""
    with closing(connect_reader(source)) as db, closing(_open(partial)) as copy:
        db.backup(copy)
    with closing(_open(partial)) as copy:
        # So that it is one file, with no log beside it.
        copy.execute("PRAGMA journal_mode = DELETE")
        found = [row[0] for row in copy.execute("PRAGMA integrity_check(3)")]
        if found != ["ok"]:
            msg = f"the copy of {source} is damaged: {'; '.join(found)}"
            raise StoreUnavailable(msg, may_recover=False)
        jobs: int = copy.execute("SELECT count(*) FROM job").fetchone()[0]
    return jobs


def _must_not_exist(target: Path) -> None:
    if target.is_symlink() or target.exists():
        raise FileExistsError(f"{target} is there already")


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(partial: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        partial.with_name(partial.name + suffix).unlink(missing_ok=True)
