"""The database as a whole: flags, pruning, how full it is, whether it works."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from duckservice.core.job import UNFINISHED, JobState
from duckservice.store import sqlite_rows as rows
from duckservice.store.commits import Commits
from duckservice.store.errors import StoreUnavailable
from duckservice.store.sqlite_news import News
from duckservice.store.sqlite_part import Part
from duckservice.store.sqlite_session import Session
from duckservice.store.upkeep import (
    KEY_KEPT,
    Health,
    Pruned,
    Retention,
    StoreStatistics,
)

_LANES_FORGOTTEN_MAX: Final = 1000


class SqliteUpkeep(Part):
    """The part of the engine that is `Upkeep`, but for closing it."""

    path: Path
    news: News
    commits: Commits

    async def set_flag(self, name: str, value: str | None) -> None:
        """See `Upkeep.set_flag`."""
        await self.write(lambda session: _set_flag(session, name, value))

    async def flags(self) -> Mapping[str, str]:
        """See `Upkeep.flags`."""
        return await self.read(_flags)

    async def prune(
        self, retention: Retention, now: float, *, limit: int = 1000
    ) -> Pruned:
        """See `Upkeep.prune`."""
        return await self.write(lambda session: _prune(session, retention, now, limit))

    async def statistics(self) -> StoreStatistics:
        """See `Upkeep.statistics`."""
        found = await self.read(lambda db: _statistics(db, self.news.states, self.path))
        return attrs.evolve(found, commits=self.commits.copy())

    async def check(self) -> Health:
        """See `Upkeep.check`."""
        word = secrets.token_hex(8)
        try:
            await self.write(lambda session: _write_probe(session, word))
            found = await self.read(_read_probe)
        except StoreUnavailable as error:
            return Health(ok=False, detail=error.message, may_recover=error.may_recover)
        # Somebody else may have checked in between; that the word is one will do.
        return Health(ok=bool(found), detail=f"{self.path} can be written and read")


def _set_flag(session: Session, name: str, value: str | None) -> None:
    if value is None:
        session.db.execute("DELETE FROM flag WHERE name = ?", (name,))
    else:
        session.db.execute(
            "INSERT INTO flag (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )
    session.effects.news = True


def _flags(db: sqlite3.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT name, value FROM flag").fetchall())


def _prune(session: Session, retention: Retention, now: float, limit: int) -> Pruned:
    jobs, more_jobs = _prune_jobs(session, retention, now, limit)
    streams, more_streams = _prune_streams(session, now - retention.deltas, limit)
    entries, more_entries = _delete(
        session,
        "ledger",
        "at <= ? AND state <> 'open' ORDER BY at",
        now - retention.ledger,
        limit,
    )
    files, more_files = _delete(session, "file", "expires_at <= ?", now, limit)
    session.line.forget_empty_lanes(_LANES_FORGOTTEN_MAX)
    return Pruned(
        jobs=jobs,
        streams=streams,
        entries=entries,
        files=files,
        more=more_jobs or more_streams or more_entries or more_files,
    )


def _prune_jobs(
    session: Session, retention: Retention, now: float, limit: int
) -> tuple[int, bool]:
    keep = {
        JobState.COMPLETED: retention.completed,
        JobState.DISCARDED: retention.discarded,
        JobState.CANCELLED: retention.cancelled,
        JobState.EXPIRED: retention.expired,
    }
    deleted, more = 0, False
    for state, seconds in keep.items():
        old = rows.select(
            session.db,
            "state = ? AND finished_at <= ?"
            " AND (idempotency_key IS NULL OR created_at <= ?)"
            " ORDER BY finished_at, id LIMIT ?",
            state.value,
            now - seconds,
            now - KEY_KEPT,
            limit - deleted + 1,
        )
        for row in old[: limit - deleted]:
            rows.forget(session, row)
        more = more or len(old) > limit - deleted
        deleted += len(old[: limit - deleted])
    return deleted, more


def _prune_streams(session: Session, before: float, limit: int) -> tuple[int, bool]:
    old = session.db.execute(
        "SELECT seq FROM job WHERE finished_at <= ? AND has_deltas = 1"
        " ORDER BY finished_at LIMIT ?",
        (before, limit + 1),
    ).fetchall()
    for row in old[:limit]:
        session.db.execute("DELETE FROM delta WHERE job = ?", row)
        session.db.execute("UPDATE job SET has_deltas = 0 WHERE seq = ?", row)
    return len(old[:limit]), len(old) > limit


def _delete(
    session: Session, table: str, where: str, before: float, limit: int
) -> tuple[int, bool]:
    old = session.db.execute(
        f"SELECT seq FROM {table} WHERE {where} LIMIT ?",  # noqa: S608
        (before, limit + 1),
    ).fetchall()
    session.db.executemany(f"DELETE FROM {table} WHERE seq = ?", old[:limit])  # noqa: S608
    return len(old[:limit]), len(old) > limit


def _statistics(
    db: sqlite3.Connection, states: Mapping[JobState, int], path: Path
) -> StoreStatistics:
    pages, free, page_bytes = (
        int(db.execute(f"PRAGMA {pragma}").fetchone()[0])
        for pragma in ("page_count", "freelist_count", "page_size")
    )
    return StoreStatistics(
        used=(pages - free) * page_bytes,
        free=shutil.disk_usage(path.parent).free,
        path=str(path),
        jobs=sum(states.values()),
        unfinished=sum(states.get(state, 0) for state in UNFINISHED),
        bytes=sum(
            file.stat().st_size
            for file in (path, path.with_name(path.name + "-wal"))
            if file.exists()
        ),
    )


def _write_probe(session: Session, word: str) -> None:
    session.db.execute("UPDATE probe SET word = ?", (word,))


def _read_probe(db: sqlite3.Connection) -> str:
    word: str = db.execute("SELECT word FROM probe").fetchone()[0]
    return word
