"""Files and batches in the database; a file's bytes are kept in parts, as they came."""

from __future__ import annotations

import sqlite3
from typing import Final

import attrs
import msgspec

from duckservice.errors import Conflict, NotFound
from duckservice.store.file_store import Batch, StoredFile
from duckservice.store.sqlite_part import Part
from duckservice.store.sqlite_rows import NOBODY, encode
from duckservice.store.sqlite_search import Search
from duckservice.store.sqlite_session import Session

_decode_file: Final = msgspec.json.Decoder(StoredFile).decode
_decode_batch: Final = msgspec.json.Decoder(Batch).decode


class SqliteFiles(Part):
    """The part of the engine that is `FileStore`."""

    async def create_file(self, file: StoredFile) -> None:
        """See `FileStore.create_file`."""
        await self.write(lambda session: _create_file(session, file))

    async def append_to_file(self, file: str, data: bytes) -> StoredFile:
        """See `FileStore.append_to_file`."""
        return await self.write(lambda session: _append(session, file, data))

    async def get_file(self, file: str) -> StoredFile:
        """See `FileStore.get_file`."""
        return await self.read(lambda db: _file(db, file)[1])

    async def read_file(self, file: str, *, offset: int = 0, size: int) -> bytes:
        """See `FileStore.read_file`."""
        return await self.read(lambda db: _read(db, file, offset, size))

    async def list_files(
        self, *, submitter: int | None = None
    ) -> tuple[StoredFile, ...]:
        """See `FileStore.list_files`."""
        return await self.read(lambda db: _list_files(db, submitter))

    async def delete_file(self, file: str) -> None:
        """See `FileStore.delete_file`."""
        await self.write(lambda session: _delete(session, file))

    async def create_batch(self, batch: Batch) -> None:
        """See `FileStore.create_batch`."""
        await self.write(lambda session: _create_batch(session, batch))

    async def get_batch(self, batch: str) -> Batch:
        """See `FileStore.get_batch`."""
        return await self.read(lambda db: _batch(db, batch))

    async def update_batch(self, batch: Batch) -> Batch:
        """See `FileStore.update_batch`."""
        return await self.write(lambda session: _update_batch(session, batch))

    async def list_batches(
        self,
        *,
        submitter: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> tuple[Batch, ...]:
        """See `FileStore.list_batches`."""
        return await self.read(lambda db: _list_batches(db, submitter, limit, after))


def _create_file(session: Session, file: StoredFile) -> None:
    added = session.db.execute(
        "INSERT INTO file (id, created_at, expires_at, owner, document)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (
            file.id,
            file.created_at,
            file.expires_at,
            _owner(file),
            encode(attrs.evolve(file, body_bytes=0)),
        ),
    )
    if not added.rowcount:
        msg = f"there is a file {file.id} already"
        raise Conflict(msg)


def _append(session: Session, file: str, data: bytes) -> StoredFile:
    seq, its = _file(session.db, file)
    if not data:
        return its
    session.db.execute(
        "INSERT INTO file_part (file, start, data) VALUES (?, ?, ?)",
        (seq, its.body_bytes, data),
    )
    size = its.body_bytes + len(data)
    session.db.execute("UPDATE file SET body_bytes = ? WHERE seq = ?", (size, seq))
    return attrs.evolve(its, body_bytes=size)


def _read(db: sqlite3.Connection, file: str, offset: int, size: int) -> bytes:
    seq, its = _file(db, file)
    end = min(offset + size, its.body_bytes)
    # The part that holds the offset is the last that does not start behind it.
    found = db.execute(
        "SELECT start, data FROM file_part WHERE file = ? AND start < ? AND start >="
        " (SELECT max(start) FROM file_part WHERE file = ? AND start <= ?)"
        " ORDER BY start",
        (seq, end, seq, offset),
    )
    return b"".join(
        data[max(0, offset - start) : max(0, end - start)] for start, data in found
    )


def _list_files(
    db: sqlite3.Connection, submitter: int | None
) -> tuple[StoredFile, ...]:
    search = Search()
    search.add("owner = ?", submitter)
    found = db.execute(
        f"SELECT document, body_bytes FROM file WHERE {search.where}"  # noqa: S608
        " ORDER BY created_at DESC, id DESC",
        search.values,
    )
    return tuple(_stored(document, size) for document, size in found)


def _delete(session: Session, file: str) -> None:
    seq, _ = _file(session.db, file)
    session.db.execute("DELETE FROM file WHERE seq = ?", (seq,))


def _file(db: sqlite3.Connection, file: str) -> tuple[int, StoredFile]:
    found = db.execute(
        "SELECT seq, document, body_bytes FROM file WHERE id = ?", (file,)
    ).fetchone()
    if found is None:
        msg = f"there is no file {file}"
        raise NotFound(msg)
    return found[0], _stored(*found[1:])


def _stored(document: bytes, size: int) -> StoredFile:
    return attrs.evolve(_decode_file(document), body_bytes=size)


def _create_batch(session: Session, batch: Batch) -> None:
    added = session.db.execute(
        "INSERT INTO batch (id, created_at, owner, document) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING",
        (batch.id, batch.created_at, _owner(batch), encode(batch)),
    )
    if not added.rowcount:
        msg = f"there is a batch {batch.id} already"
        raise Conflict(msg)


def _update_batch(session: Session, batch: Batch) -> Batch:
    if _batch(session.db, batch.id).version != batch.version:
        msg = f"batch {batch.id} was updated by somebody else"
        raise Conflict(msg)
    updated = attrs.evolve(batch, version=batch.version + 1)
    session.db.execute(
        "UPDATE batch SET created_at = ?, owner = ?, document = ? WHERE id = ?",
        (updated.created_at, _owner(updated), encode(updated), updated.id),
    )
    return updated


def _list_batches(
    db: sqlite3.Connection, submitter: int | None, limit: int, after: str | None
) -> tuple[Batch, ...]:
    search = Search()
    search.add("owner = ?", submitter)
    if after is not None:
        start = _batch(db, after)
        search.add("(created_at, id) < (?, ?)", start.created_at, start.id)
    found = db.execute(
        f"SELECT document FROM batch WHERE {search.where}"  # noqa: S608
        " ORDER BY created_at DESC, id DESC LIMIT ?",
        (*search.values, limit),
    )
    return tuple(_decode_batch(document) for (document,) in found)


def _batch(db: sqlite3.Connection, batch: str) -> Batch:
    found = db.execute("SELECT document FROM batch WHERE id = ?", (batch,)).fetchone()
    if found is None:
        msg = f"there is no batch {batch}"
        raise NotFound(msg)
    return _decode_batch(found[0])


def _owner(one: StoredFile | Batch) -> int:
    return NOBODY if one.submitter is None else one.submitter
