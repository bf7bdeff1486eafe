"""Brings a database of any earlier version to the present schema."""

from __future__ import annotations

import sqlite3
from importlib.resources import files
from pathlib import Path
from typing import Final

from duckservice.store.errors import StoreUnavailable

APPLICATION_ID: Final = 0x6475636B
"""Marks the file as ours, for ``file(1)`` and for us; it spells "duck"."""
VERSION: Final = 2
"""The schema of this version; each has a file ``sqlite_schema/000N.sql``."""


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date, each version in one commit.

    Raises:
        StoreUnavailable: the file is of a newer version, or another program's.
    """
    version = _number(db, "user_version")
    _must_be_ours(db, path, version)
    if version > VERSION:
        raise _refused(
            path,
            f"it has schema version {version}, and this duckd knows {VERSION} at most."
            " Run the newer duckd that has written it",
        )
    for step in range(version + 1, VERSION + 1):
        script = files("duckservice.store").joinpath("sqlite_schema", f"{step:04}.sql")
        db.executescript(
            f"BEGIN IMMEDIATE;\n{script.read_text('utf-8')}\n"
            f"PRAGMA application_id = {APPLICATION_ID};\n"
            f"PRAGMA user_version = {step};\nCOMMIT;"
        )


def _must_be_ours(db: sqlite3.Connection, path: Path, version: int) -> None:
    if version:
        ours = _number(db, "application_id") == APPLICATION_ID
    else:
        # A new file, or one whose creation was interrupted: it holds nothing yet.
        ours = not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if not ours:
        raise _refused(path, "it is another program's database")


def _refused(path: Path, why: str) -> StoreUnavailable:
    msg = f"the store {path}: {why}, or name another file in store.url"
    return StoreUnavailable(msg, may_recover=False)


def _number(db: sqlite3.Connection, pragma: str) -> int:
    number: int = db.execute(f"PRAGMA {pragma}").fetchone()[0]
    return number
