"""What `duck doctor` looks at of the disk: where the store is, and the store's file.

The database itself is opened for ``--deep`` alone, for reading, and only where no
daemon has it: SQLite is told that nobody changes it, and writes nothing beside it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from duckservice.cli.doctor import socket as doctor_socket
from duckservice.cli.doctor.finding import Finding
from duckservice.cli.text import size

_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "ocfs2"}
    | {"gfs2", "glusterfs", "beegfs", "virtiofs", "fuseblk"}
)
_OCTAL: Final = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))
"""How the kernel writes what would break its table of mounts."""
_SQLITE: Final = b"SQLite format 3\0"
_HEAD_BYTES: Final = 100
"""What a database of SQLite begins with: its versions are in there."""
_FREE_LEAST: Final = 256 << 20
"""Bytes. A daemon may need as much for a moment: a log, and what it is worked into."""


def of_directory(path: Path, uid: int) -> Iterator[Finding]:
    """Judge the directory of the daemon's state, and the disk, for the user *uid*."""
    try:
        status = path.stat()
        free = shutil.disk_usage(path).free
    except FileNotFoundError:
        yield Finding("state", "ok", f"{path} is not there yet: duckd makes it")
        return
    except PermissionError:
        yield Finding("state", "skipped", f"{path} is not for this user to see")
        return
    except OSError as error:
        advice = "look at the disk with `df` and `dmesg`"
        yield Finding("state", "failed", f"{path}: {error.strerror}", advice)
        return
    yield _access(path, status, uid)
    yield of_free(path, free, read_only=bool(os.statvfs(path).f_flag & os.ST_RDONLY))
    yield of_file_system(_file_system(path))


def is_anothers(path: Path, uid: int) -> bool:
    """Say whether the user *uid* finds there what belongs to another; root never does."""
    try:
        return uid != 0 and path.stat().st_uid not in (uid, 0)
    except OSError:
        return False


def of_free(path: Path, free: int, *, read_only: bool) -> Finding:
    """Judge a disk by what is *free* on it, in bytes."""
    if read_only:
        detail = f"{path} is on a read-only file system"
        return Finding("disk", "failed", detail, "set service.state_dir elsewhere")
    if free < _FREE_LEAST:
        return Finding(
            "disk",
            "warning",
            f"{size(free)} are free at {path}; with none left, jobs are refused",
            "make room, or lower store.max_bytes or store.retention",
        )
    return Finding("disk", "ok", f"{size(free)} are free at {path}")


def of_file_system(kind: str) -> Finding:
    """Judge a file system by its *kind*: on the network, locks cannot be relied on."""
    if kind in _NETWORK or kind.startswith("fuse."):
        return Finding(
            "file system",
            "warning",
            f"{kind}: SQLite's locks and its shared memory need a disk of this machine",
            "set service.state_dir or store.url to a place on a local disk",
        )
    if kind in ("tmpfs", "ramfs"):
        detail = f"{kind}: all jobs are forgotten when the machine restarts"
        advice = "set service.state_dir to a place on a disk"
        return Finding("file system", "warning", detail, advice)
    return Finding("file system", "ok" if kind else "skipped", kind or "not known")


def _file_system(path: Path) -> str:
    """Return the kind of the file system that *path* is on; empty if nobody says."""
    try:
        table = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        at = path.resolve().as_posix()
    except OSError:
        return ""
    best, kind = "", ""
    for line in table.splitlines():
        mounted, _, rest = line.partition(" - ")
        where = mounted.split(" ")[4]
        for code, letter in _OCTAL:
            where = where.replace(code, letter)
        above = where if where.endswith("/") else f"{where}/"
        # A later mount at the same place hides the one before.
        if f"{at}/".startswith(above) and len(above) >= len(best):
            best, kind = above, rest.split(" ")[0]
    return kind


def _access(path: Path, status: os.stat_result, uid: int) -> Finding:
    mode = stat.S_IMODE(status.st_mode)
    told = f"{path} has mode {mode:04o}"
    if not stat.S_ISDIR(status.st_mode):
        detail = f"{path} is no directory"
        return Finding("state", "failed", detail, "move it away, or set state_dir")
    if uid and status.st_uid not in (uid, 0):
        detail = f"{path} belongs to user {status.st_uid}"
        return Finding("state", "failed", detail, "run this as that user, or chown it")
    if mode & 0o022:
        detail = f"{told}: others could replace the store"
        return Finding("state", "failed", detail, f"chmod go-w {path}")
    if mode & 0o055:
        detail = f"{told}: others can see what is in it"
        return Finding("state", "warning", detail, f"chmod 700 {path}")
    return Finding("state", "ok", f"{path}, mode {mode:04o}")


def of_file(path: Path) -> Iterator[Finding]:
    """Judge the database's file from outside."""
    try:
        status = path.stat()
    except OSError:
        return
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() and os.geteuid():
        detail = f"{path} belongs to user {status.st_uid}"
        yield Finding("store file", "failed", detail, "run this as that user")
    elif mode & 0o077:
        detail = f"{path} has mode {mode:04o}: others can read prompts"
        yield Finding("store file", "failed", detail, f"chmod 600 {path}")
    else:
        yield _of_schema(path) or Finding(
            "store file", "ok", f"{path}, {size(status.st_size)}"
        )


def _of_schema(path: Path) -> Finding | None:
    """Return what is wrong where duckd cannot know the store; None if it may.

    The version stands in the file's first bytes, as SQLite's format says: to read them
    takes no lock, and disturbs nobody.
    """
    from duckservice.store.sqlite_migrations import APPLICATION_ID, VERSION

    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        detail = f"{path} cannot be read ({error.strerror})"
        return Finding("store file", "failed", detail, "look at its disk with `dmesg`")
    if len(head) < _HEAD_BYTES or not head.startswith(_SQLITE):
        return None  # empty, or no database: SQLite itself judges it
    version, whose = (int.from_bytes(head[at : at + 4], "big") for at in (60, 68))
    if version and whose != APPLICATION_ID:
        detail = f"{path} is another program's database"
        return Finding("store file", "failed", detail, "name another in store.url")
    if version <= VERSION:
        return None
    return Finding(
        "store file",
        "failed",
        f"{path} has schema version {version}, and this duckd knows {VERSION} at most",
        "run the newer duckd that has written it, or name another file in store.url",
    )


def of_lock(path: Path) -> Iterator[Finding]:
    """Judge the lock beside the store, where no daemon answers."""
    lock = path.with_name(path.name + ".lock")
    yield from doctor_socket.of_lock("store lock", lock)


def of_content(path: Path, *, answers: bool) -> Finding:
    """Read the whole database through, where no daemon has it; it is not changed."""
    if answers:
        detail = "a daemon has it, and nobody else is to open it"
        advice = "`duck backup FILE` reads all of it through the daemon"
        return Finding("integrity", "skipped", detail, advice)
    if not path.is_file() or not path.stat().st_size:
        return Finding("integrity", "skipped", f"{path}: there is nothing in it yet")
    if any(its.verdict != "ok" for its in of_lock(path)):
        detail = "a process holds it that does not answer"
        return Finding("integrity", "skipped", detail)
    log = path.with_name(path.name + "-wal")
    if log.is_file() and log.stat().st_size:
        # To read what is in it, SQLite would put files of its own beside it.
        detail = f"duckd did not end properly: {log} is still to be worked in"
        advice = "start duckd, which looks at the store itself then (docs/store.md)"
        return Finding("integrity", "skipped", detail, advice)
    import sqlite3
    from urllib.parse import quote

    # Nobody has it, so nobody changes it: SQLite needs no lock, and makes no file.
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode=ro&immutable=1"
    try:
        db = sqlite3.connect(uri, uri=True)
        try:
            found = [str(row[0]) for row in db.execute("PRAGMA quick_check(3)")]
        finally:
            db.close()
    except sqlite3.Error as error:
        found = [str(error)]
    if found == ["ok"]:
        return Finding("integrity", "ok", f"all of {path} was read: it is sound")
    detail = f"{path} is damaged: {'; '.join(found)}"
    advice = "leave it as it is, copy it, and restore a backup (docs/operations.md)"
    return Finding("integrity", "failed", detail, advice)
