"""Files and batches in memory."""

from __future__ import annotations

import attrs

from duckservice.errors import Conflict, NotFound
from duckservice.store.file_store import Batch, StoredFile
from duckservice.store.memory_part import Part


@attrs.define(eq=False)
class _File:
    meta: StoredFile
    content: bytearray = attrs.field(factory=bytearray)


@attrs.define(eq=False)
class Cabinet:
    """All files and batches, by id."""

    files: dict[str, _File] = attrs.field(factory=dict[str, _File])
    batches: dict[str, Batch] = attrs.field(factory=dict[str, Batch])

    def file(self, file: str) -> _File:
        """Return a file.

        Raises:
            NotFound: there is none of that id.
        """
        try:
            return self.files[file]
        except KeyError:
            msg = f"there is no file {file}"
            raise NotFound(msg) from None

    def batch(self, batch: str) -> Batch:
        """Return a batch.

        Raises:
            NotFound: there is none of that id.
        """
        try:
            return self.batches[batch]
        except KeyError:
            msg = f"there is no batch {batch}"
            raise NotFound(msg) from None

    def prune(self, now: float, limit: int) -> tuple[int, bool]:
        """Delete files that have expired; say how many, and whether more have."""
        expired = [
            file.meta.id
            for file in self.files.values()
            if file.meta.expires_at is not None and file.meta.expires_at <= now
        ]
        for file in expired[:limit]:
            del self.files[file]
        return len(expired[:limit]), len(expired) > limit


class MemoryFiles(Part):
    """The part of the memory engine that is `FileStore`."""

    cabinet: Cabinet

    async def create_file(self, file: StoredFile) -> None:
        """See `FileStore.create_file`."""
        await self.ready()
        if file.id in self.cabinet.files:
            msg = f"there is a file {file.id} already"
            raise Conflict(msg)
        self.cabinet.files[file.id] = _File(attrs.evolve(file, body_bytes=0))

    async def append_to_file(self, file: str, data: bytes) -> StoredFile:
        """See `FileStore.append_to_file`."""
        await self.ready()
        its = self.cabinet.file(file)
        its.content += data
        its.meta = attrs.evolve(its.meta, body_bytes=len(its.content))
        return its.meta

    async def get_file(self, file: str) -> StoredFile:
        """See `FileStore.get_file`."""
        await self.ready()
        return self.cabinet.file(file).meta

    async def read_file(self, file: str, *, offset: int = 0, size: int) -> bytes:
        """See `FileStore.read_file`."""
        await self.ready()
        return bytes(self.cabinet.file(file).content[offset : offset + size])

    async def list_files(
        self, *, submitter: int | None = None
    ) -> tuple[StoredFile, ...]:
        """See `FileStore.list_files`."""
        await self.ready()
        files = [
            file.meta
            for file in self.cabinet.files.values()
            if submitter is None or file.meta.submitter == submitter
        ]
        return tuple(sorted(files, key=_age, reverse=True))

    async def delete_file(self, file: str) -> None:
        """See `FileStore.delete_file`."""
        await self.ready()
        self.cabinet.file(file)
        del self.cabinet.files[file]

    async def create_batch(self, batch: Batch) -> None:
        """See `FileStore.create_batch`."""
        await self.ready()
        if batch.id in self.cabinet.batches:
            msg = f"there is a batch {batch.id} already"
            raise Conflict(msg)
        self.cabinet.batches[batch.id] = batch

    async def get_batch(self, batch: str) -> Batch:
        """See `FileStore.get_batch`."""
        await self.ready()
        return self.cabinet.batch(batch)

    async def update_batch(self, batch: Batch) -> Batch:
        """See `FileStore.update_batch`."""
        await self.ready()
        if self.cabinet.batch(batch.id).version != batch.version:
            msg = f"batch {batch.id} was updated by somebody else"
            raise Conflict(msg)
        updated = attrs.evolve(batch, version=batch.version + 1)
        self.cabinet.batches[batch.id] = updated
        return updated

    async def list_batches(
        self,
        *,
        submitter: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> tuple[Batch, ...]:
        """See `FileStore.list_batches`."""
        await self.ready()
        start = None if after is None else _age(self.cabinet.batch(after))
        batches = [
            batch
            for batch in self.cabinet.batches.values()
            if (submitter is None or batch.submitter == submitter)
            and (start is None or _age(batch) < start)
        ]
        return tuple(sorted(batches, key=_age, reverse=True)[:limit])


def _age(one: StoredFile | Batch) -> tuple[float, str]:
    return one.created_at, one.id
