"""What SQLite's errors mean: the disk's fault, the file's, or the value's."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from duckservice.errors import DuckError, InvalidRequest
from duckservice.store.errors import StoreUnavailable

NOT_STORABLE: Final = (
    OverflowError,
    UnicodeEncodeError,
    msgspec.MsgspecError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
)
"""The value is at fault, and not the store."""

_MEANING: Final = {
    sqlite3.SQLITE_FULL: "the disk is full: make room",
    sqlite3.SQLITE_IOERR: "the disk has failed to read or write",
    sqlite3.SQLITE_READONLY: "it cannot be written: the disk or the file is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: is its directory still there?",
    sqlite3.SQLITE_PERM: "its permissions do not allow it",
    sqlite3.SQLITE_BUSY: "another process uses it, which none may",
    sqlite3.SQLITE_LOCKED: "another process uses it, which none may",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}
_DAMAGED: Final = {
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is no database",
}


def not_storable(error: Exception) -> DuckError:
    """Return the error for a value that no database can keep."""
    match error:
        case OverflowError():
            why = "a number is too large"
        case UnicodeEncodeError():
            # The error itself would quote the text.
            why = "a text holds half a surrogate pair, which is no character"
        case sqlite3.IntegrityError():
            why = f"it contradicts what is stored: {error}"
        case _:
            why = str(error)
    return InvalidRequest(f"this cannot be stored: {why}")


def unavailable(error: sqlite3.Error | OSError, path: Path) -> StoreUnavailable:
    """Return what the store says when its database cannot do its work."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in _DAMAGED:
        return StoreUnavailable(
            f"the store {path}: {_DAMAGED[primary]} ({error}); nothing was changed."
            " Stop the daemon, keep a copy, and put a backup in its place,"
            " or save what can be read with sqlite3's .recover",
            may_recover=False,
        )
    meaning = "" if primary is None else _MEANING.get(primary, "")
    details = f"{meaning} ({error})" if meaning else str(error)
    return StoreUnavailable(f"the store {path}: {details}", may_recover=True)
