"""Where a command writes: data to stdout, messages to stderr, nothing raw to a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

from duckservice.terminal import escape_controls

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_PIPE_COLUMNS = 400
"""A reader that is no terminal has no width: nothing is cut, nothing wrapped."""


class Output:
    """The two streams of a command."""

    def __init__(
        self, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str]
    ) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self._environ = environ

    @property
    def on_terminal(self) -> bool:
        """Whether a person looks at stdout."""
        return self.stdout.isatty()

    @property
    def shows_progress(self) -> bool:
        """Whether a person looks at stderr: in a file, progress would hide messages."""
        return self.stderr.isatty()

    @property
    def can_redraw(self) -> bool:
        """Whether it is a terminal whose cursor can be moved."""
        return self.on_terminal and self._environ.get("TERM", "") not in {"", "dumb"}

    @property
    def shows_unicode(self) -> bool:
        """Whether what is beyond ASCII can be read there, by encoding and locale."""
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        named = (self._environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
        locale = next(filter(None, named), "").lower().replace("-", "")
        return encoding.lower().startswith("utf") and (not locale or "utf8" in locale)

    @property
    def columns(self) -> int | None:
        """How wide it is; None of a reader that is no terminal."""
        if self.on_terminal or self._environ.get("COLUMNS", "").isdecimal():
            return self.console().width
        return None

    def data(self, text: str) -> None:
        """Write one line of data, as it is: the caller has made it safe."""
        self.stdout.write(text + "\n")

    def json(self, value: Any) -> None:
        """Write *value* as one JSON document, in ASCII, so that it is safe anywhere."""
        self.data(json.dumps(value, indent=2))

    def note(self, text: str) -> None:
        """Write one message; control characters are escaped, lines are kept."""
        self.stdout.flush()
        for line in text.split("\n"):
            self.stderr.write(escape_controls(line) + "\n")
        self.stderr.flush()

    def show(self, *pictures: RenderableType) -> None:
        """Write tables, trees and texts for people."""
        console = self.console()
        if self.on_terminal:
            for picture in pictures:
                console.print(picture)
            return
        with console.capture() as capture:
            for picture in pictures:
                console.print(picture)
        for line in capture.get().splitlines():
            self.data(line.rstrip())

    def console(self) -> Console:
        """Return rich's console on stdout; it obeys NO_COLOR and COLUMNS."""
        from rich.console import Console

        columns = self._environ.get("COLUMNS", "")
        # Without a colour system there is no bold either: no escape sequence at all.
        plain = bool(self._environ.get("NO_COLOR"))
        known = int(columns) if columns.isdecimal() and columns != "0" else None
        return Console(
            file=self.stdout,
            width=known or (None if self.on_terminal else _PIPE_COLUMNS),
            color_system="auto" if self.on_terminal and not plain else None,
            markup=False,
            highlight=False,
            emoji=False,
            soft_wrap=False,
        )


def table(*columns: str, numbers: Sequence[str] = (), wraps: str = "") -> Table:
    """Return an empty table; columns in *numbers* are set to the right.

    Where it is too wide, the column *wraps* takes more lines, and the others end
    in an ellipsis.
    """
    from rich.table import Table

    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        result.add_column(
            column,
            justify="right" if column in numbers else "left",
            no_wrap=column != wraps,
        )
    return result


def cell(value: Any, style: str = "") -> Any:
    """Return *value* for a table, as text that cannot do anything but be read."""
    from rich.text import Text

    return Text(escape_controls(str(value)), style=style)


def standard(environ: Mapping[str, str]) -> Output:
    """Return the process's own streams; what they cannot encode is escaped.

    One that the caller has closed (``duck status >&-``) swallows everything.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return Output(_or_nowhere(sys.stdout), _or_nowhere(sys.stderr), environ)


def _or_nowhere(stream: TextIO | None) -> TextIO:
    # Open until the process ends, like the stream that it stands for.
    return open(os.devnull, "w") if stream is None else stream
