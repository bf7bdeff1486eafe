"""The file of a batch: checked line by line before any of it is sent, then sent."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import attrs

from duckservice.batches.lines import (
    ENDPOINTS,
    KINDS,
    BadLine,
    BatchEndpoint,
    BatchLine,
    LineReader,
    LineSplitter,
    RawLine,
    endpoint_of,
)
from duckservice.cli.batch_limit import bounded, limited
from duckservice.cli.exits import USAGE, Exit
from duckservice.cli.session import Session
from duckservice.cli.text import plural

SHOWN_MAX: Final = 20
"""So many bad lines are named one by one."""
_PIECE_BYTES: Final = 4 * 1024 * 1024


@attrs.frozen(kw_only=True)
class Input:
    """A file that was read from its beginning to its end."""

    path: Path
    size: int
    digest: str
    endpoint: BatchEndpoint
    good: array[int] = attrs.field(repr=False)
    """The numbers of the lines that are requests."""
    bad: tuple[BadLine, ...]
    """The first of those that are none."""
    bad_lines: int
    max_tokens: int | None
    """For chats that set no limit; it is put into what is sent."""


def read_input(
    path: Path, model: str | None, *, max_tokens: int | None, max_cost: bool
) -> Input:
    """Read and check a file of requests; *model* is for lines that name none.

    With *max_cost*, chats without a limit are bad: nobody could say what they cost.

    Raises:
        Exit: it cannot be read, or has no chats that *max_tokens* could be for.
    """
    try:
        with path.open("rb") as file:
            endpoint = _endpoint(file)
            if max_tokens is not None and KINDS[endpoint] != "chat":
                msg = f"--max-tokens is for chats, and {path} is for {endpoint}"
                raise Exit(msg, USAGE)
            file.seek(0)
            reader = LineReader(endpoint, model)
            return _checked(path, file, reader, max_tokens, max_cost=max_cost)
    except OSError as error:
        raise Exit(f"{path}: {error.strerror or error}", USAGE) from error


def refuse_bad(its: Input, session: Session, *, skip: bool) -> None:
    """Say which lines are bad; end here if there are any, unless they are skipped."""
    for line in its.bad:
        session.out.note(f"{its.path}:{line.number}: {line.message}")
    if its.bad_lines > len(its.bad):
        session.out.note(f"... and {its.bad_lines - len(its.bad):,} more")
    bad = plural(its.bad_lines, "bad line")
    if not its.good:
        why = f"nothing but {bad}" if its.bad_lines else "there is no request in it"
        raise Exit(f"{its.path}: {why}; nothing was sent", USAGE)
    if not its.bad_lines:
        return
    if not skip:
        raise Exit(f"{bad}: nothing was sent; --skip-bad leaves them out", USAGE)
    session.out.note(f"{bad} left out")


def send_input(its: Input, session: Session, file: str, offset: int) -> None:
    """Send what the daemon has not got yet of a file."""
    with its.path.open("rb") as source:
        for data in _pieces(source, its.max_tokens, offset):
            target = f"/v1/files/{file}/content?offset={offset}"
            session.request("POST", target, data)
            offset += len(data)


def _pieces(source: BinaryIO, max_tokens: int | None, offset: int) -> Iterator[bytes]:
    """Yield what is to be sent, from *offset* on."""
    if max_tokens is None:
        source.seek(offset)
        while data := source.read(_PIECE_BYTES):
            yield data
        return
    pending = bytearray()
    for line in _lines(source):
        # A line that is too long was left out; its number is not.
        pending += (limited(line, max_tokens).data or b"") + b"\n"
        sent = min(offset, len(pending))
        del pending[:sent]
        offset -= sent
        while len(pending) >= _PIECE_BYTES:
            yield bytes(pending[:_PIECE_BYTES])
            del pending[:_PIECE_BYTES]
    if pending:
        yield bytes(pending)


def _endpoint(file: BinaryIO) -> BatchEndpoint:
    for line in _lines(file):
        if line.data is not None and (found := endpoint_of(line.data)) is not None:
            return found
    return ENDPOINTS[0]


def _checked(
    path: Path,
    file: BinaryIO,
    reader: LineReader,
    max_tokens: int | None,
    *,
    max_cost: bool,
) -> Input:
    good, bad, bad_lines = array("L"), list[BadLine](), 0
    digest: Any = hashlib.sha256()
    for line in _lines(file, digest):
        its = reader.read(limited(line, max_tokens))
        if max_cost and isinstance(its, BatchLine):
            its = bounded(its)
        if isinstance(its, BatchLine):
            good.append(its.number)
        elif its is not None:
            bad_lines += 1
            if len(bad) < SHOWN_MAX:
                bad.append(its)
    return Input(
        path=path,
        size=file.tell(),
        digest=digest.hexdigest(),
        endpoint=reader.endpoint,
        good=good,
        bad=tuple(bad),
        bad_lines=bad_lines,
        max_tokens=max_tokens,
    )


def _lines(file: BinaryIO, digest: Any = None) -> Iterator[RawLine]:
    splitter = LineSplitter()
    while data := file.read(256 * 1024):
        if digest is not None:
            digest.update(data)
        yield from splitter.feed(data)
    yield from splitter.finish()
