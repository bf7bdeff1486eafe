"""A running job's stream, recorded in batches; see `DeltaRecorder`.

What arrives within `WINDOW` seconds is written in one commit, and text that follows
on text becomes one delta. A store that cannot write holds the recorder up, and the
job once `BUFFER_MAX` bytes wait; readers hold up nobody, for they read the store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import final

import attrs
import trio

from duckservice.completion import Chunk, TextDelta
from duckservice.gateway.wire.openai_stream import ChatStreamEncoder

WINDOW = 0.05
BATCH_BYTES = 4096
BUFFER_MAX = 1 << 20


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
            pieces = self._take()
            if pieces:
                await self._write(pieces)
                self.written += sum(map(len, pieces))
            if self._closed and not self._chunks:
                return

    def _take(self) -> list[bytes]:
        chunks, self._chunks, self._bytes = self._chunks, [], 0
        if not self._closed:
            self._something, self._enough = trio.Event(), trio.Event()
        room, self._room = self._room, trio.Event()
        room.set()
        return pieces_of(chunks, self._encoder)


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
