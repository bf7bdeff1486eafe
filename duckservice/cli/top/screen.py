"""The terminal of `duck top`: taken over, drawn on, and always given back."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TextIO, final

import attrs
from rich.console import Console
from rich.text import Text

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The other screen, no cursor, and no line that goes on in the next one."""
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_BELOW: Final = "\r\n\x1b[J"
_SEQUENCE: Final = re.compile("\x1b(?:\\[[0-9;?]*[@-~]|O.|.)?", re.DOTALL)
_KEYS_BYTES: Final = 64
_ENDS: Final = (signal.SIGTERM, signal.SIGHUP)


class Terminated(BaseException):
    """The process was told to end; like KeyboardInterrupt, nobody handles it by chance."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@final
@attrs.define
class Screen:
    """Draws whole frames; `open_screen` makes one."""

    _stdout: TextIO
    _console: Console
    _keyboard: int | None
    """A file descriptor; None: there is none to press."""
    _usual: tuple[int, list[Any]] | None = None
    """The keyboard, and its modes before."""
    to_be_stopped: bool = False
    """Whether Ctrl-Z was pressed."""

    def size(self) -> tuple[int, int]:
        """Return columns and lines, as they are at this moment."""
        try:
            size = os.get_terminal_size(self._stdout.fileno())
        except (OSError, ValueError):
            return 80, 24
        return size.columns or 80, size.lines or 24

    def draw(self, lines: Sequence[Text], columns: int, rows: int) -> None:
        """Show *lines* in place of what is there, without a blank screen in between."""
        self._console.width = columns
        with self._console.capture() as capture:
            for line in lines:
                self._console.print(line, end="\n", no_wrap=True, overflow="crop")
        drawn = capture.get().removesuffix("\n").split("\n")
        # Behind a line that is full the cursor stands on its last character.
        ended = [
            text if line.cell_len >= columns else f"{text}{_REST_OF_LINE}"
            for text, line in zip(drawn, lines, strict=True)
        ]
        # Below the last line of the screen there is nothing, and it would scroll.
        below = _BELOW if len(lines) < rows else ""
        self._write(_HOME + "\r\n".join(ended) + below)

    def keys(self, seconds: float) -> str:
        """Return the keys that are pressed within that time, in lower case, or ""."""
        if self._keyboard is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._keyboard], [], [], seconds)
        if not ready:
            return ""
        pressed = os.read(self._keyboard, _KEYS_BYTES)
        if not pressed:
            self._keyboard = None  # it was closed
        # An arrow is several bytes, and some of them letters.
        return _SEQUENCE.sub("", pressed.decode(errors="replace")).lower()

    def stop_if_wanted(self) -> bool:
        """Give the terminal back to the shell after Ctrl-Z; say whether it is new now.

        It returns when the shell has given it back, with `fg`.
        """
        if not self.to_be_stopped:
            return False
        self.to_be_stopped = False
        self.leave()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self.enter()
        return True

    def enter(self) -> None:
        """Take the terminal over."""
        if self._keyboard is not None:
            self._usual = self._keyboard, termios.tcgetattr(self._keyboard)
            tty.setcbreak(self._keyboard)
        self._write(_ENTER)

    def leave(self) -> None:
        """Give the terminal back as it was."""
        try:
            self._write(_LEAVE)
        finally:
            if self._usual is not None:
                number, modes = self._usual
                termios.tcsetattr(number, termios.TCSADRAIN, modes)

    def _write(self, text: str) -> None:
        self._stdout.write(text)
        self._stdout.flush()


@contextmanager
def open_screen(stdout: TextIO, console: Console) -> Generator[Screen]:
    """Take the terminal over for the length of a block, whatever ends it.

    Raises:
        Terminated: SIGTERM or SIGHUP came; the terminal is given back all the same.
    """
    screen = Screen(stdout, console, _keyboard())

    def end(number: int, _: FrameType | None) -> None:
        raise Terminated(number)

    def stop(_number: int, _: FrameType | None) -> None:
        # Not here: it may have come in the middle of a write to the terminal.
        screen.to_be_stopped = True

    handlers = dict.fromkeys(_ENDS, end) | {signal.SIGTSTP: stop}
    before = {number: signal.signal(number, its) for number, its in handlers.items()}
    try:
        screen.enter()
        yield screen
    finally:
        # From here on nothing may come between: a second Ctrl-C least of all.
        for number in (signal.SIGINT, *handlers):
            before.setdefault(number, signal.getsignal(number))
            signal.signal(number, signal.SIG_IGN)
        try:
            screen.leave()
        finally:
            for number, its in before.items():
                signal.signal(number, its)


def _keyboard() -> int | None:
    try:
        number = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return number if os.isatty(number) else None
