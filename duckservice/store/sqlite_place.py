"""The place of the database: a file of ours, in a directory of ours, for us alone.

A second daemon must not open it: a lock on a file beside it says so. SQLite's own
locks would not, and the lock outlives no process.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import attrs

from duckservice.store.errors import StoreUnavailable


@attrs.define(eq=False)
class Place:
    """The database's file, locked for this process."""

    path: Path
    _lock: int | None
    _files: dict[Path, tuple[int, int]]

    def must_be_there(self) -> None:
        """Do nothing, if the file is where it was, and its lock.

        What is written to a file that was deleted would be lost at the end.

        Raises:
            StoreUnavailable: it was moved or deleted; it may be put back.
        """
        for path, identity in self._files.items():
            try:
                there = _identity(path.lstat())
            except FileNotFoundError:
                there = None
            if there != identity:
                msg = (
                    f"the store {path}: it was moved or deleted while in use;"
                    " put it back, or stop the daemon"
                )
                raise StoreUnavailable(msg, may_recover=True)

    def release(self) -> None:
        """Let others open it. The lock's file stays: to unlink it is a race."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def take(path: Path) -> Place:
    """Lock the database's file, and make it if it is not there.

    Raises:
        StoreUnavailable: another process has it, or others could change it.
        OSError: the file system does not allow it.
    """
    _make_directory(path.parent)
    lock_path = path.with_name(path.name + ".lock")
    lock = _lock(lock_path)
    try:
        for suffix in ("-wal", "-shm"):
            _must_be_ours(path.with_name(path.name + suffix))
        there = _must_be_ours(path)
        _must_not_be_lost(path)
        # Before SQLite opens it, so that it is never open to others; what SQLite
        # puts beside it has the same mode.
        os.close(_open(path, os.O_RDWR | os.O_CREAT))
        if not there:
            _sync(path.parent)
    except BaseException:
        os.close(lock)
        raise
    files = {its: _identity(its.lstat()) for its in (path, lock_path)}
    return Place(path, lock, files)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _make_directory(directory: Path) -> None:
    missing = list[Path]()
    at = directory
    while not at.exists():
        missing.append(at)
        at = at.parent
    for one in reversed(missing):
        one.mkdir(mode=0o700)
        _sync(one.parent)
    found = directory.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise _unsafe(directory, "it is no directory")
    if found.st_uid not in (os.getuid(), 0):
        raise _unsafe(directory, f"it belongs to user {found.st_uid}")
    if found.st_mode & 0o022:
        raise _unsafe(directory, "others may write into it; chmod go-w it")


def _lock(path: Path) -> int:
    _must_be_ours(path)
    lock = _open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        os.close(lock)
        msg = (
            f"the store beside {path} is in use by process {holder or 'unknown'};"
            " two daemons never share one: stop it, or set another store.url"
        )
        raise StoreUnavailable(msg, may_recover=False) from None
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        # The pid is for the message only; on a full disk there is none.
        pass
    return lock


def _must_be_ours(path: Path) -> bool:
    """Say whether there is such a file, which then is ours."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        raise _unsafe(path, "it is no regular file, or a symbolic link")
    if found.st_uid != os.getuid():
        raise _unsafe(path, f"it belongs to user {found.st_uid}")
    if found.st_nlink > 1:
        raise _unsafe(path, "it has a second name (a hard link)")
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o600)
    return True


def _must_not_be_lost(path: Path) -> None:
    """Refuse a log without its database: SQLite would silently delete the log."""
    log = path.with_name(path.name + "-wal")
    empty = not path.exists() or not path.stat().st_size
    if empty and log.exists() and log.stat().st_size:
        msg = (
            f"the store {path}: it is missing or empty, and its log {log} is not;"
            " nothing was changed. Put the file back beside its log, or move the log"
            " away and put a backup in its place"
        )
        raise StoreUnavailable(msg, may_recover=False)


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unsafe(path: Path, why: str) -> StoreUnavailable:
    msg = f"the store does not use {path}: {why}"
    return StoreUnavailable(msg, may_recover=False)
