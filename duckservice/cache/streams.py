"""Streams from the cache, and streams on their way into it.

They are iterators and no generators, so one that is left early leaks nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Self, TypeAlias, final

import attrs

from duckservice.cache.recording import Recorder
from duckservice.completion import Chunk

Batch: TypeAlias = Sequence[Chunk]


@final
@attrs.define(eq=False)
class Replay:
    """A stream that is here already."""

    _chunks: Batch | None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        chunks, self._chunks = self._chunks, None
        if chunks is None:
            raise StopAsyncIteration
        return chunks


@final
@attrs.define(eq=False)
class Recording:
    """A stream that is kept when it has been read to its end."""

    _batches: AsyncIterator[Batch]
    _recorder: Recorder
    _keep: Callable[[Batch], None]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        try:
            batch = await anext(self._batches)
        except StopAsyncIteration:
            self._keep(self._recorder.chunks())
            raise
        self._recorder.add(batch)
        return batch
