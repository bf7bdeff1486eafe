"""A batch's files in the store: the input read line by line, the results appended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Final, TypeVar, final

import attrs
import trio

from duckservice.batches.lines import LineSplitter, RawLine
from duckservice.errors import Conflict, Unavailable
from duckservice.store.base import Batch, Store, StoredFile, StoreUnavailable

PAUSE: Final = 1.0
"""Seconds before a store that is full, or cannot do its work, is asked again."""
_READ_BYTES: Final = 256 * 1024
_LINES_PER_CHECKPOINT: Final = 32

T = TypeVar("T")


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what the store answers, however long it cannot."""
    while True:
        try:
            return await ask()
        except Unavailable:  # of itself, or because it is too full
            await trio.sleep(PAUSE)


async def read_lines(store: Store, file: str) -> AsyncGenerator[RawLine]:
    """Yield a file's lines, holding a piece of it at a time.

    Raises:
        NotFound: there is no such file.
    """
    splitter, offset = LineSplitter(), 0
    while data := await _read(store, file, offset):
        offset += len(data)
        for line in splitter.feed(data):
            if not line.number % _LINES_PER_CHECKPOINT:
                # A piece may hold thousands of lines, and each is decoded.
                await trio.lowlevel.checkpoint()
            yield line
    for line in splitter.finish():
        yield line


async def _read(store: Store, file: str, offset: int) -> bytes:
    return await patiently(
        lambda: store.read_file(file, offset=offset, size=_READ_BYTES)
    )


def output_file(batch: str) -> str:
    """Return the id of the file with the answers."""
    return f"file-{batch.removeprefix('batch_')}-output"


def error_file(batch: str) -> str:
    """Return the id of the file with what has failed."""
    return f"file-{batch.removeprefix('batch_')}-errors"


@final
@attrs.define(eq=False)
class ResultFile:
    """One of the two files that results are appended to; only one task does so."""

    store: Store
    id: str
    _size: int = 0

    async def make(self, batch: Batch, now: float, expires_at: float) -> None:
        """Make the file, unless a run that was cut off has made it."""
        file = StoredFile(
            id=self.id,
            name=f"{batch.id}_{self.id.rpartition('-')[2]}.jsonl",
            purpose="batch_output",
            created_at=now,
            submitter=batch.submitter,
            expires_at=expires_at,
        )
        with suppress(Conflict):
            await patiently(lambda: self.store.create_file(file))

    async def recover(self, note: Callable[[bytes], None]) -> None:
        """Have the lines noted that are there; this comes before the first `append`."""
        known = await patiently(lambda: self.store.get_file(self.id))
        self._size = known.body_bytes
        async with aclosing(read_lines(self.store, self.id)) as lines:
            async for line in lines:
                if line.data is not None:
                    note(line.data)

    async def append(self, data: bytes) -> None:
        """Add to the end, once, also where the store fails with nobody knowing when."""
        while data:
            try:
                self._size = (await self.store.append_to_file(self.id, data)).body_bytes
            except StoreUnavailable:
                await trio.sleep(PAUSE)
                now = (await patiently(lambda: self.store.get_file(self.id))).body_bytes
                if now > self._size:
                    self._size = now
                    return
            else:
                return
