"""Replies as they are kept, and what a client gets of them, whole or as a stream; pure.

A reply is kept in the form in which it came. In the other form it is given only if
nothing is lost: that is tried, by translating it there and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias, assert_never

import attrs

from duckservice.assembly import Assembly, chunks_of
from duckservice.cache.recording import merged
from duckservice.completion import (
    Chunk,
    Completion,
    Embeddings,
    Finished,
    Started,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)


@attrs.frozen
class Recorded:
    """A stream that was read to its end, in as few chunks as say the same."""

    chunks: tuple[Chunk, ...]


Reply: TypeAlias = Completion | Embeddings | Recorded


@attrs.frozen(kw_only=True)
class Kept:
    """A reply, and who gave it."""

    reply: Reply
    provider: str
    model: str
    """What the provider was asked for."""


def is_worth_keeping(reply: Reply) -> bool:
    """Say whether *reply* is an answer, and would be one tomorrow.

    What a provider's content filter broke off, and a reply without content, are not.
    """
    match reply:
        case Embeddings():
            return bool(reply.vectors)
        case Completion():
            return bool(reply.choices) and all(
                choice.parts and choice.finish_reason != "content_filter"
                for choice in reply.choices
            )
        case Recorded():
            return _is_complete(reply.chunks)
        case _:
            assert_never(reply)


def _is_complete(chunks: Sequence[Chunk]) -> bool:
    """Say whether every choice has said something, and has come to its end."""
    said, ended = set[int](), set[int]()
    for chunk in chunks:
        match chunk:
            case Finished(reason="content_filter"):
                return False
            case Finished():
                ended.add(chunk.choice)
            case Started() | UsageReport():
                pass
            case _:
                said.add(chunk.choice)
    return bool(said) and said == ended


def whole_of(reply: Reply) -> Completion | None:
    """Return *reply* as one that comes whole; None if something would be lost."""
    match reply:
        case Completion():
            return reply
        case Embeddings():
            return None
        case Recorded(chunks=chunks):
            whole = _assembled(chunks)
            return whole if _said(_streamed(whole)) == _said(chunks) else None
        case _:
            assert_never(reply)


def embeddings_of(reply: Reply) -> Embeddings | None:
    """Return *reply* as embeddings; None if it is something else."""
    return reply if isinstance(reply, Embeddings) else None


def stream_of(reply: Reply) -> tuple[Chunk, ...] | None:
    """Return *reply* as a stream's chunks; None if something would be lost."""
    match reply:
        case Recorded(chunks=chunks):
            return chunks
        case Embeddings():
            return None
        case Completion():
            chunks = _streamed(reply)
            return chunks if _assembled(chunks) == reply else None
        case _:
            assert_never(reply)


def _assembled(chunks: Sequence[Chunk]) -> Completion:
    assembly = Assembly()
    assembly.add(chunks)
    return assembly.completion()


def _streamed(whole: Completion) -> tuple[Chunk, ...]:
    started, *rest = chunks_of(whole)
    assert isinstance(started, Started), "every stream begins with it"
    return (attrs.evolve(started, extra=whole.extra), *_renumbered(rest))


def _renumbered(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Count each choice's tool calls from 0, as clients do."""
    numbers = dict[int, dict[int, int]]()
    for chunk in chunks:
        if isinstance(chunk, ToolCallDelta):
            its = numbers.setdefault(chunk.choice, {})
            number = its.setdefault(chunk.index, len(its))
            yield attrs.evolve(chunk, index=number)
        else:
            yield chunk


def _said(chunks: Iterable[Chunk]) -> dict[int | None, list[Chunk]]:
    """Return what each choice said, however they were mixed, and their text cut.

    Under None is what is said of all: of several reports of the usage, the last.
    """
    found = dict[int | None, list[Chunk]]()
    for chunk in _renumbered(chunks):
        match chunk:
            case Started():
                found[None] = [chunk]
            case UsageReport():
                found[None] = [*found.get(None, [])[:1], chunk]
            case TextDelta(text="", extra=extra) if not extra:
                pass
            case _:
                found.setdefault(chunk.choice, []).append(chunk)
    return {choice: list(merged(its)) for choice, its in found.items()}
