"""A stream recorded while it passes by, in as few chunks as say the same; pure."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, cast, final

import attrs

from duckservice.completion import (
    Chunk,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
)

TIDY_AFTER: Final = 1024
"""So many new chunks are kept as they came; in pieces, a text takes 20 times the room."""


@final
@attrs.define(eq=False)
class Recorder:
    """Takes a stream's chunks, for as long as they are not too many to be kept."""

    _max_bytes: int
    _chunks: list[Chunk] = attrs.field(factory=list[Chunk])
    _tidy_at: int = TIDY_AFTER
    _too_large: bool = False

    def add(self, batch: Sequence[Chunk]) -> None:
        """Take some chunks."""
        if self._too_large:
            return
        self._chunks += batch
        if len(self._chunks) >= self._tidy_at:
            self._chunks = list(merged(self._chunks))
            self._tidy_at = 2 * len(self._chunks) + TIDY_AFTER
            if size_of(self._chunks) > self._max_bytes:
                self._too_large = True
                self._chunks.clear()

    def chunks(self) -> tuple[Chunk, ...]:
        """Return the stream so far; nothing, if it is too large to be kept."""
        return tuple(merged(self._chunks))


def merged(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield *chunks*, those that continue their neighbour as one with it."""
    run = list[Chunk]()
    for chunk in chunks:
        if run and not _continues(run[-1], chunk):
            yield _joined(run)
            run = []
        run.append(chunk)
    if run:
        yield _joined(run)


def _continues(last: Chunk, chunk: Chunk) -> bool:
    match last, chunk:
        case TextDelta(), TextDelta():
            plain = not last.extra and not chunk.extra
            return plain and last.choice == chunk.choice
        case RefusalDelta(), RefusalDelta():
            return last.choice == chunk.choice
        case ReasoningDelta(signature=None, redacted=None), ReasoningDelta(
            redacted=None
        ):
            return last.choice == chunk.choice
        case ToolCallDelta(), ToolCallDelta(id=None, name=None) if not chunk.extra:
            return (last.choice, last.index) == (chunk.choice, chunk.index)
        case _:
            return False


def _joined(run: Sequence[Chunk]) -> Chunk:
    """Return the one chunk that says what all of *run* do."""
    first, last = run[0], run[-1]
    if len(run) == 1:
        return first
    match first:
        case TextDelta() | RefusalDelta():
            return attrs.evolve(first, text=_text(run))
        case ReasoningDelta():
            assert isinstance(last, ReasoningDelta), "only such continue it"
            return attrs.evolve(first, text=_text(run), signature=last.signature)
        case ToolCallDelta():
            pieces = (its.arguments for its in run if isinstance(its, ToolCallDelta))
            return attrs.evolve(first, arguments="".join(pieces))
        case _:
            return first


def _text(run: Sequence[Chunk]) -> str:
    return "".join(
        its.text
        for its in run
        if isinstance(its, TextDelta | ReasoningDelta | RefusalDelta)
    )


def size_of(value: object) -> int:
    """Return about how many bytes of memory *value* takes, however deeply it nests."""
    size, left = 0, [value]
    while left:
        value = left.pop()
        size += sys.getsizeof(value)
        kind: Any = type(value)
        if kind is str or kind is float or value is None:
            continue
        if kind is tuple or kind is list:
            left += cast("Sequence[object]", value)
        elif isinstance(value, Mapping):
            its = cast("Mapping[object, object]", value)
            left += its.keys()
            left += its.values()
        else:
            left += [getattr(value, name) for name in _fields(kind)]
    return size


@cache
def _fields(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the fields of a value of ours; of others, none."""
    return tuple(its.name for its in attrs.fields(kind)) if attrs.has(kind) else ()
