"""The part of the Store protocol that keeps files and batches."""

from __future__ import annotations

from typing import Protocol

import attrs


@attrs.frozen(kw_only=True)
class StoredFile:
    """What is known of a file of the Batch API."""

    id: str
    name: str
    purpose: str
    created_at: float
    submitter: int | None = None
    """Its owner's uid."""
    expires_at: float | None = None
    body_bytes: int = 0
    """Its size; the store counts it."""


@attrs.frozen(kw_only=True)
class Batch:
    """A batch of the Batch API; its jobs have its id in `Job.batch`."""

    id: str
    created_at: float
    status: str
    version: int = 0
    """Grows by one with each update."""
    submitter: int | None = None
    input_file: str | None = None
    output_file: str | None = None
    error_file: str | None = None
    details: bytes = b"{}"
    """All else, as JSON: it is of no concern to a store."""


class FileStore(Protocol):
    """Keeps the files and batches of the Batch API."""

    async def create_file(self, file: StoredFile) -> None:
        """Insert an empty file.

        Raises:
            Conflict: there is one of that id.
        """
        ...

    async def append_to_file(self, file: str, data: bytes) -> StoredFile:
        """Add to a file's end.

        Raises:
            NotFound: there is no such file.
        """
        ...

    async def get_file(self, file: str) -> StoredFile:
        """Return what is known of a file.

        Raises:
            NotFound: there is no such file.
        """
        ...

    async def read_file(self, file: str, *, offset: int = 0, size: int) -> bytes:
        """Return at most *size* bytes from there; less only at the file's end.

        Raises:
            NotFound: there is no such file.
        """
        ...

    async def list_files(
        self, *, submitter: int | None = None
    ) -> tuple[StoredFile, ...]:
        """Return all files (of that uid), the newest first."""
        ...

    async def delete_file(self, file: str) -> None:
        """Delete a file.

        Raises:
            NotFound: there is no such file.
        """
        ...

    async def create_batch(self, batch: Batch) -> None:
        """Insert a batch.

        Raises:
            Conflict: there is one of that id.
        """
        ...

    async def get_batch(self, batch: str) -> Batch:
        """Return a batch.

        Raises:
            NotFound: there is no such batch.
        """
        ...

    async def update_batch(self, batch: Batch) -> Batch:
        """Replace a batch; return it, its version one higher.

        Raises:
            NotFound: there is no such batch.
            Conflict: it was updated since: the versions differ.
        """
        ...

    async def list_batches(
        self,
        *,
        submitter: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> tuple[Batch, ...]:
        """Return the batches (of that uid) after the one of that id, newest first.

        Raises:
            NotFound: there is no batch of the id *after*.
        """
        ...
