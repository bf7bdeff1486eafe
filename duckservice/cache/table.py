"""The table of kept replies in SQLite: the same limits as in memory, on one thread.

A row has a digest of its body: a reply that the disk has changed is none.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

import attrs

from duckservice.cache.as_json import decode_kept, encode_kept
from duckservice.cache.reply import Kept
from duckservice.core.response_cache import CacheLimits
from duckservice.store.sqlite_connect import connect_writer, must_be_sound

VERSION: Final = 1
"""Of the tables, and of the form of what is in them."""
EVICT_AT_ONCE: Final = 100

_TABLES = (
    "DROP TABLE IF EXISTS reply",
    "DROP TABLE IF EXISTS origin",
    """
    CREATE TABLE reply (
        key BLOB PRIMARY KEY,
        body BLOB NOT NULL,
        digest BLOB NOT NULL,
        expires_at REAL NOT NULL, -- seconds since the epoch
        used INTEGER NOT NULL -- the larger, the later
    ) STRICT
    """,
    "CREATE INDEX reply_expires_at ON reply (expires_at)",
    "CREATE INDEX reply_used ON reply (used)",
    "CREATE TABLE origin (served_by BLOB NOT NULL) STRICT",
    f"PRAGMA user_version = {VERSION}",
)


@attrs.frozen
class Found:
    """A reply from the file."""

    kept: Kept
    ttl: float
    """Seconds that are left of its time, by the wall clock."""


@final
@attrs.define(eq=False)
class CacheTable:
    """An open file. Everything raises `sqlite3.Error` if the file is damaged."""

    _db: sqlite3.Connection
    _limits: CacheLimits
    _entries: int = 0
    _bytes: int = 0
    _used: int = 0
    _come: set[bytes] = attrs.field(factory=set[bytes])
    _gone: set[bytes] = attrs.field(factory=set[bytes])

    @classmethod
    def open(cls, path: Path, limits: CacheLimits, served_by: bytes) -> CacheTable:
        """Open what is at *path*, which exists; forget what others have answered.

        Raises:
            sqlite3.Error: it is damaged.
        """
        if path.with_name(path.name + "-wal").exists():
            must_be_sound(path)  # the last life was killed, or the machine was
        db = connect_writer(path)
        try:
            # A power cut may take the last replies: they can be asked for again.
            db.execute("PRAGMA synchronous = NORMAL")
            table = cls(db, limits)
            table._prepare(served_by)
        except BaseException:
            db.close()
            raise
        return table

    def keys(self) -> set[bytes]:
        """Return the keys of all that is kept."""
        return {key for (key,) in self._db.execute("SELECT key FROM reply")}

    def news(self) -> tuple[set[bytes], set[bytes]]:
        """Return the keys of what has come, and has gone, since the last time."""
        news = self._come, self._gone
        self._come, self._gone = set(), set()
        return news

    def close(self) -> None:
        """Close the file, all of its log worked in."""
        self._db.close()

    def get(self, key: bytes, now: float) -> Found | None:
        """Return what is kept under *key*, which counts as a use of it."""
        sql = "SELECT body, digest, expires_at FROM reply WHERE key = ?"
        row = self._db.execute(sql, (key,)).fetchone()
        if row is None:
            return None
        body, digest, expires_at = row
        ttl = expires_at - now
        if ttl <= 0:
            return None
        kept = decode_kept(body) if _digest(key, body) == digest else None
        if kept is None:
            self.remove(key)
            return None
        self.touch(key)
        return Found(kept, ttl)

    @contextmanager
    def changing(self, now: float) -> Generator[None]:
        """Make changes at once; the limits hold when the block has ended."""
        before = self._entries, self._bytes
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._delete("expires_at <= ?", (now,))
            self._evict()
            self._db.execute("COMMIT")
        except BaseException:
            self._entries, self._bytes = before
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def put(self, key: bytes, kept: Kept, at: float) -> None:
        """Keep a reply that came *at* that time, in the place of an older one."""
        self.remove(key)
        body = encode_kept(kept)
        if body is None or len(body) > self._limits.max_bytes:
            return
        sql = "INSERT INTO reply (key, body, digest, expires_at, used) VALUES (?, ?, ?, ?, ?)"
        self._used += 1
        row = key, body, _digest(key, body), at + self._limits.ttl, self._used
        self._db.execute(sql, row)
        self._come.add(key)
        self._gone.discard(key)
        self._entries += 1
        self._bytes += len(body)

    def touch(self, key: bytes) -> None:
        """Count a use."""
        self._used += 1
        self._db.execute("UPDATE reply SET used = ? WHERE key = ?", (self._used, key))

    def remove(self, key: bytes) -> None:
        """Forget what is kept under *key*, if anything is."""
        self._delete("key = ?", (key,))

    def _delete(self, where: str, values: tuple[bytes | float, ...]) -> None:
        sql = f"DELETE FROM reply WHERE {where} RETURNING key, length(body)"  # noqa: S608 - ours
        for key, size in self._db.execute(sql, values).fetchall():
            self._gone.add(key)
            self._come.discard(key)
            self._entries -= 1
            self._bytes -= size

    def _evict(self) -> None:
        limits = self._limits
        while self._entries > limits.max_entries or self._bytes > limits.max_bytes:
            sql = "SELECT key FROM reply ORDER BY used LIMIT ?"
            oldest = self._db.execute(sql, (EVICT_AT_ONCE,)).fetchall()
            for (key,) in oldest:
                over = self._entries > limits.max_entries
                if over or self._bytes > limits.max_bytes:
                    self.remove(key)

    def _prepare(self, served_by: bytes) -> None:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            for sql in _TABLES:
                db.execute(sql)
        if db.execute("SELECT served_by FROM origin").fetchall() != [(served_by,)]:
            db.execute("DELETE FROM reply")
            db.execute("DELETE FROM origin")
            db.execute("INSERT INTO origin VALUES (?)", (served_by,))
        db.execute("COMMIT")
        sql = "SELECT count(*), total(length(body)), max(used) FROM reply"
        entries, size, used = db.execute(sql).fetchone()
        self._entries, self._bytes, self._used = entries, int(size), used or 0


def make_empty(path: Path) -> None:
    """Put an empty file, for us alone, in the place of what is at *path*."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(path, flags, 0o600))


def _digest(key: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(key + body, digest_size=16).digest()
