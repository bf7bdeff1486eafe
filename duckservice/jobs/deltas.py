"""A running job's stream, recorded in batches; see `DeltaRecorder`.

What arrives within `WINDOW` seconds is written in one commit, and text that follows
on text becomes one delta. A store that cannot write holds the recorder up, and the
job once `BUFFER_MAX` bytes wait; readers hold up nobody, for they read the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import final

import attrs
import trio

from duckservice.completion import Chunk, TextDelta
from duckservice.gateway.wire.openai_stream import ChatStreamEncoder
from duckservice.store.base import Lease, Store

WINDOW = 0.05
BATCH_BYTES = 4096
BUFFER_MAX = 1 << 20
DELTAS_PER_READ = 1000


@final
@attrs.define(eq=False)
class DeltaRecorder:
    """Takes chunks, and has them written a little later, many at a time."""

    _encoder: ChatStreamEncoder
    _write: Callable[[Sequence[bytes]], Awaitable[None]]
    written: int = 0
    """Bytes, so far."""
    _chunks: list[Chunk] = attrs.field(factory=list[Chunk])
    _bytes: int = 0
    _on_its_way: Sequence[bytes] = ()
    """Being written; whoever is cut off there does not know whether it was."""
    _closed: bool = False
    _something: trio.Event = attrs.field(factory=trio.Event)
    _enough: trio.Event = attrs.field(factory=trio.Event)
    _room: trio.Event = attrs.field(factory=trio.Event)

    async def add(self, batch: Sequence[Chunk]) -> None:
        """Take some chunks; waits only if too much was not written yet."""
        for chunk in batch:
            self._chunks.append(chunk)
            self._bytes += _size(chunk)
        self._something.set()
        if self._bytes >= BATCH_BYTES:
            self._enough.set()
        while self._bytes > BUFFER_MAX:
            await self._room.wait()

    def close(self) -> None:
        """Write what is left, and end `run`."""
        self._closed = True
        self._something.set()
        self._enough.set()

    async def run(self) -> None:
        """Write until closed."""
        while True:
            await self._something.wait()
            with trio.move_on_after(WINDOW):
                await self._enough.wait()
            self._on_its_way = pieces = self._take()
            if pieces:
                await self._write(pieces)
                self.written += sum(map(len, pieces))
                self._on_its_way = ()
            if self._closed and not self._chunks:
                return

    def left(self) -> list[bytes]:
        """Return what was not written, or may not have been, when `run` was cut off."""
        return [*self._on_its_way, *pieces_of(self._chunks, self._encoder)]

    def _take(self) -> list[bytes]:
        chunks, self._chunks, self._bytes = self._chunks, [], 0
        if not self._closed:
            self._something, self._enough = trio.Event(), trio.Event()
        room, self._room = self._room, trio.Event()
        room.set()
        return pieces_of(chunks, self._encoder)


@final
@attrs.define(eq=False)
class StreamKeeper:
    """Appends pieces to the stream of a job, each of them once.

    A write that has failed, or whose waiting was cut off, may have been done all the
    same: then what is there is counted before anything is added.
    """

    _store: Store
    _lease: Lease
    _kept: Counter[str] = attrs.field(factory=Counter[str])
    """Pieces that are in the stream for certain, by attempt."""
    _unsure: bool = False

    async def append(self, attempt: str, pieces: Sequence[bytes]) -> None:
        """Add *pieces*, or what of them is not there yet.

        Raises:
            StaleLease: the job is not ours any more.
            StoreUnavailable: it may have been done, or not; do it again.
        """
        missing = await self.missing(attempt, pieces)
        if missing:
            self._unsure = True
            await self._store.append_deltas(self._lease, attempt, missing)
        self._unsure = False
        self._kept[attempt] += len(pieces)

    async def missing(self, attempt: str, pieces: Sequence[bytes]) -> Sequence[bytes]:
        """Return those of *pieces* that are not in the stream.

        Raises:
            StoreUnavailable: it cannot say.
        """
        if not self._unsure:
            return pieces
        # It waits behind what is still on its way to the disk, as reading does not.
        await self._store.lanes()
        there = await self._count(attempt)
        return pieces[there - self._kept[attempt] :]

    async def _count(self, attempt: str) -> int:
        there, after = 0, 0
        while True:
            page = await self._store.read_deltas(
                self._lease.job, after=after, limit=DELTAS_PER_READ
            )
            if not page.items:
                return there
            there += sum(delta.attempt == attempt for delta in page.items)
            after = page.items[-1].id


def pieces_of(chunks: Sequence[Chunk], encoder: ChatStreamEncoder) -> list[bytes]:
    """Return *chunks* as JSON objects of OpenAI's stream, adjacent text as one."""
    written = encoder.encode(merged(chunks))
    events = written.split(b"\n\n")
    return [event.removeprefix(b"data: ") for event in events if event]


def merged(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Return *chunks* with adjacent plain text of one choice joined."""
    result = list[Chunk]()
    for chunk in chunks:
        last = result[-1] if result else None
        if (
            isinstance(chunk, TextDelta)
            and isinstance(last, TextDelta)
            and chunk.choice == last.choice
            and not chunk.extra
            and not last.extra
        ):
            result[-1] = attrs.evolve(last, text=last.text + chunk.text)
        else:
            result.append(chunk)
    return result


def _size(chunk: Chunk) -> int:
    return len(chunk.text) if isinstance(chunk, TextDelta) else 64
