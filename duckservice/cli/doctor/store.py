"""What `duck doctor` looks at of the store: SQLite, its place, what the daemon says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from duckservice.cli.doctor.finding import Finding
from duckservice.cli.text import count, elapsed, size

if TYPE_CHECKING:
    from duckservice.config import Config

_FIXED_SQLITE: Final = (3, 51, 3)


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
        " and is not affected",
        "let no other program open the store for writing while duckd runs, sqlite3"
        " included",
    )


def place(
    config: Config | None, environ: Mapping[str, str], status: Mapping[str, Any]
) -> Path | None:
    """Return the database's file: where the daemon says, else where it would be.

    None if there is no such file, or nobody can tell. Raises `StartupError` where
    nothing says where duckd's state is to be.
    """
    from duckservice import paths
    from duckservice.store import UnknownStore, sqlite_path

    store: Mapping[str, Any] = status.get("store", {})
    if store:
        return Path(store["path"]) if store.get("path") else None
    if config is None:
        return None
    directory = paths.state_dir(environ, configured=config.service.state_dir)
    try:
        return sqlite_path(config.store.url, directory)
    except UnknownStore as error:
        raise paths.StartupError(str(error)) from error


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
        yield Finding(
            "store", "failed", f"{store['detail']} ({wait})", "see docs/store.md"
        )
    elif store.get("full"):
        used, most = size(store.get("used_bytes")), size(store["max_bytes"])
        detail = f"it is full: {used} used of {most}; no jobs are taken"
        advice = "raise store.max_bytes, or shorten store.retention"
        yield Finding("store", "failed", detail, advice)
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
