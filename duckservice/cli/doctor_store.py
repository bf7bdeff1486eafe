"""What `duck doctor` looks at of the store: SQLite, the disk, what the daemon says.

The database itself is never opened: only the daemon may (see `store.sqlite_connect`).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from duckservice.cli.finding import Finding, Verdict
from duckservice.cli.text import count, elapsed, size

_FIXED_SQLITE: Final = (3, 51, 3)
_FREE_LEAST: Final = 256 << 20
"""Bytes. A daemon may need as much for a moment: a log, and what it is worked into."""


def of_sqlite(version: str, whose: str) -> Finding:
    """Judge the version of SQLite that *whose* Python has."""
    numbers = tuple(int(part) for part in version.split("."))
    if numbers >= _FIXED_SQLITE:
        return Finding("sqlite", "ok", f"{version} ({whose})")
    return Finding(
        "sqlite",
        "warning",
        f"{version} ({whose}): before 3.51.3, two connections that write to a database"
        " in WAL mode, or checkpoint it, can damage it. duckd has one that does either,"
        " and is not affected; but let no other program open the store for writing"
        " while it runs, sqlite3 included",
    )


def of_directory(path: Path) -> Iterator[Finding]:
    """Judge the directory of the daemon's state, and the disk that it is on."""
    try:
        status = path.stat()
        free = shutil.disk_usage(path).free
    except FileNotFoundError:
        yield Finding("state", "ok", f"{path} is not there yet: duckd makes it")
        return
    except OSError as error:
        yield Finding("state", "failed", f"{path}: {error.strerror}")
        return
    yield Finding("state", *_access(path, status))
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        yield Finding("disk", "failed", f"{path} is on a read-only file system")
    elif free < _FREE_LEAST:
        yield Finding(
            "disk",
            "warning",
            f"{size(free)} are free at {path}; with none left, jobs are refused:"
            " make room, or lower store.max_bytes or store.retention",
        )
    else:
        yield Finding("disk", "ok", f"{size(free)} are free at {path}")


def _access(path: Path, status: os.stat_result) -> tuple[Verdict, str]:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode):
        return "failed", f"{path} is no directory"
    if status.st_uid not in (os.geteuid(), 0):
        return "failed", f"{path} belongs to user {status.st_uid}"
    if mode & 0o022:
        return (
            "failed",
            f"{path} has mode {mode:04o}: others could replace the store; chmod go-w it",
        )
    if mode & 0o055:
        return "warning", f"{path} has mode {mode:04o}: others can see what is in it"
    return "ok", f"{path}, mode {mode:04o}"


def of_file(path: Path) -> Iterator[Finding]:
    """Judge the database's file from outside."""
    try:
        status = path.stat()
    except OSError:
        return
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() and os.geteuid():
        yield Finding("store file", "failed", f"{path} belongs to user {status.st_uid}")
    elif mode & 0o077:
        detail = f"{path} has mode {mode:04o}: others can read prompts; chmod 600 it"
        yield Finding("store file", "failed", detail)
    else:
        yield Finding("store file", "ok", f"{path}, {size(status.st_size)}")


def of_daemon(status: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge what a running daemon's `/v1/status` says of its store."""
    store: Mapping[str, Any] | None = status.get("store")
    if store is None:
        return
    if store.get("sqlite"):
        yield of_sqlite(store["sqlite"], "the daemon's")
    if not store["ok"]:
        wait = (
            "it is tried again every second"
            if store.get("may_recover")
            else "that will not pass by itself"
        )
        yield Finding("store", "failed", f"{store['detail']} ({wait})")
    elif store.get("full"):
        detail = (
            f"it is full: {_used(store)}; no jobs are taken. Raise store.max_bytes,"
            " or shorten store.retention"
        )
        yield Finding("store", "failed", detail)
    else:
        yield Finding("store", "ok", _used(store))
    yield from _jobs(status)
    yield from _retention(store)


def _used(store: Mapping[str, Any]) -> str:
    used = store.get("used_bytes")
    if used is None:
        return "works, in memory: a restart forgets all jobs"
    return f"works, {size(used)} used of {size(store['max_bytes'])}"


def _jobs(status: Mapping[str, Any]) -> Iterator[Finding]:
    jobs = status.get("jobs")
    if jobs is not None:
        there = ", ".join(f"{count(n)} {state}" for state, n in jobs.items() if n)
        yield Finding("jobs", "ok", there or "none")


def _retention(store: Mapping[str, Any]) -> Iterator[Finding]:
    kept = store.get("retention")
    if kept is not None:
        told = ", ".join(f"{name} {elapsed(seconds)}" for name, seconds in kept.items())
        yield Finding("retention", "ok", told)
