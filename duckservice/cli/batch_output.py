"""The file that a batch's results are written to: complete, and each line once.

What it holds already is known by the lines' numbers; a line that was cut off in the
middle is taken away. In the order of the input, results wait in a file without a
name until those before them are there.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from duckservice.batches.lines import LineSplitter, line_number
from duckservice.cli.exits import TRY_AGAIN, USAGE, Exit
from duckservice.cli.output import Output


class Sink(Protocol):
    """Takes results as they come."""

    def add(self, lines: Iterable[bytes]) -> None:
        """Take whole lines."""
        ...

    def finish(self) -> None:
        """Put down what is left, for good."""
        ...


class ResultOutput:
    """A file of results, which only one process writes."""

    def __init__(self, path: Path, file: IO[bytes], done: set[int]) -> None:
        self._path = path
        self._file = file
        self.done = done
        """The numbers of the lines in it."""

    @classmethod
    def open(cls, path: Path) -> ResultOutput:
        """Open or make the file, and find out what it holds.

        Raises:
            Exit: it cannot be written, or another process does.
        """
        try:
            # A device would be read for ever, a pipe not at all.
            if path.name == "-" or (path.exists() and not path.is_file()):
                raise Exit(f"{path}: results need a file of their own", USAGE)
            file = path.open("a+b")
        except OSError as error:
            raise Exit(f"{path}: {error.strerror or error}", USAGE) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise Exit(f"{path}: another process writes it", TRY_AGAIN) from error
        return cls(path, file, _recover(file))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close the file; what was written stays."""
        try:
            self._file.close()
        except OSError:
            # It tries once more to write what could not be written.
            if error is None:
                raise

    def add(self, lines: Iterable[bytes]) -> None:
        """Write those that are not there."""
        for line in lines:
            number = line_number(line)
            if number is not None and number not in self.done:
                self._file.write(line + b"\n")
                self.done.add(number)
        self._file.flush()

    def finish(self) -> None:
        """See to it that all is on the disk, and stays there."""
        self._file.flush()
        os.fsync(self._file.fileno())
        directory = os.open(self._path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class OrderedOutput:
    """In front of the file: puts results into the order of the input's lines."""

    def __init__(
        self, behind: ResultOutput, expected: Iterable[int], place: Path
    ) -> None:
        self._behind = behind
        self._expected: Iterator[int] = iter(expected)
        self._next: int | None = None
        self._spool = tempfile.TemporaryFile(dir=place.absolute().parent)  # noqa: SIM115 - it lives as long as this, and goes with the process
        self._waiting: dict[int, tuple[int, int]] = {}
        """Where in the spool a result is, and how long."""
        self._size = 0
        self._advance()

    def add(self, lines: Iterable[bytes]) -> None:
        """Take results; pass on those whose turn it is."""
        for line in lines:
            number = line_number(line)
            if number is None or number in self._behind.done:
                continue
            self._spool.seek(self._size)
            self._spool.write(line)
            self._waiting[number] = self._size, len(line)
            self._size += len(line)
        while self._next is not None and self._next in self._waiting:
            self._pass_on(self._next)
            self._advance()

    def finish(self) -> None:
        """Pass on what is left: no more will come before it."""
        for number in sorted(self._waiting):
            self._pass_on(number)
        self._behind.finish()

    def close(self) -> None:
        """Let go of what waits: a later run gets it again."""
        # Where there is no room, it would try once more to write what it holds.
        with suppress(OSError):
            self._spool.close()

    def _pass_on(self, number: int) -> None:
        start, length = self._waiting.pop(number)
        self._spool.seek(start)
        self._behind.add([self._spool.read(length)])

    def _advance(self) -> None:
        """Go to the next line that is not in the output."""
        for number in self._expected:
            if number not in self._behind.done:
                self._next = number
                return
        self._next = None


class Printed:
    """Writes results to stdout."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def add(self, lines: Iterable[bytes]) -> None:
        """Print them."""
        for line in lines:
            self._out.data(line.decode())

    def finish(self) -> None:
        """Nothing is left."""


def _recover(file: IO[bytes]) -> set[int]:
    """Return which lines are there; take the last away if it was cut off."""
    done, whole, splitter = set[int](), 0, LineSplitter()
    file.seek(0)
    while data := file.read(256 * 1024):
        for line in splitter.feed(data):
            number = None if line.data is None else line_number(line.data)
            if number is not None:
                done.add(number)
        end = data.rfind(b"\n")
        if end >= 0:
            whole = file.tell() - len(data) + end + 1
    file.truncate(whole)
    file.seek(0, os.SEEK_END)
    return done
