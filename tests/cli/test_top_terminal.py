"""`duck top` on a real terminal: it takes it over, and gives it back whatever happens."""

from __future__ import annotations

import codecs
import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from duckservice.cli.top import screen as top_screen
from tests.cli.fake_daemon import open_fake_daemon
from tests.cli.golden import _Answers, _scene

PROGRAM = [sys.executable, "-c", "from duckservice.cli import main; exit(main())"]
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
PATIENCE = 20.0


class Screen:
    """The other end of a terminal, with `duck top` at this one."""

    def __init__(self, duck, *argv: str, **environ: str) -> None:
        self.master, self._slave = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self._slave)
        self.read = ""
        # A read may end in the middle of a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        variables = {"PATH": os.environ["PATH"], "TZ": "UTC", **environ}
        self.process = subprocess.Popen(
            [*PROGRAM, "top", "--interval", "0.1", *argv],
            env={k: v for k, v in (duck.environ | variables).items() if k != "COLUMNS"},
            stdin=self._slave,
            stdout=self._slave,
            stderr=subprocess.PIPE,
            text=True,
            # As a shell does it: a process without one cannot be stopped.
            process_group=0,
        )

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def wait_for(self, text: str) -> str:
        """Read until *text* has come; return all that came since the last time."""
        until = time.monotonic() + PATIENCE
        while text not in self.read:
            assert time.monotonic() < until, self._instead_of(text)
            ended = self.process.poll() is not None
            ready, _, _ = select.select([self.master], [], [], 0.1)
            assert ready or not ended, self._instead_of(text)
            if ready:
                self.read += self._decoder.decode(os.read(self.master, 65536))
        came, self.read = self.read, ""
        return came

    def _instead_of(self, text: str) -> str:
        its = f"{text!r} did not come, but {self.read[-200:]!r}"
        if self.process.poll() is None:
            return its
        said = self.process.stderr.read()
        return f"{its}; it ended with {self.process.returncode}: {said}"

    def wait_until_stopped(self) -> None:
        until = time.monotonic() + PATIENCE
        stat = Path(f"/proc/{self.process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < until, "it goes on"

    def ended(self) -> int:
        """Wait for the end; the terminal is to be as it was."""
        self.wait_for(LEAVE)
        status = self.process.wait(PATIENCE)
        assert self.process.stderr.read() == ""
        assert termios.tcgetattr(self._slave) == self.before
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)
        os.close(self._slave)


@pytest.fixture
def served(daemon):
    return serve(daemon)


def serve(daemon):
    daemon.answers = answers()
    # Who leaves does so in the middle of an answer, too.
    daemon.handle_error = lambda *_: None
    return daemon


def answers():
    class Whenever(_Answers):
        # The day that is asked for is today.
        def get(self, question):
            known = "GET /v1/costs?by=total&since=1h"
            return super().get(known if "by=total" in question else question)

    return Whenever(_scene("busy"))


@contextmanager
def top(duck, *argv, **environ):
    screen = Screen(duck, *argv, **environ)
    try:
        yield screen
    finally:
        screen.close()


def test_q_leaves_and_the_terminal_is_as_it_was(duck, served) -> None:
    with top(duck) as screen:
        assert ENTER in screen.wait_for("q quit")
        screen.press("q")
        assert screen.ended() == 0


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGHUP, -1)],
)
def test_a_signal_ends_it_and_the_terminal_is_as_it_was(
    duck, served, number, status
) -> None:
    with top(duck) as screen:
        screen.wait_for("q quit")
        screen.process.send_signal(number)
        assert screen.ended() == status


def test_it_ends_after_so_many_frames(duck, served) -> None:
    with top(duck, "-n", "2") as screen:
        assert screen.ended() == 0


def test_a_daemon_that_dies_is_waited_for(duck) -> None:
    with open_fake_daemon(duck.socket) as daemon:
        serve(daemon)
        screen = Screen(duck)
        screen.wait_for("anthropic")
    try:
        duck.socket.unlink()
        shown = screen.wait_for("lost, trying again")
        with open_fake_daemon(duck.socket) as daemon:
            serve(daemon)
            screen.wait_for("running")
            screen.wait_for("anthropic")
            screen.press("q")
            assert screen.ended() == 0
    finally:
        screen.close()
    assert ENTER not in shown


class Hanging:
    """Answers that do not come any more, once it is closed."""

    def __init__(self, answers):
        self._answers = answers
        self.open = threading.Event()
        self.open.set()

    def get(self, question):
        self.open.wait(PATIENCE)
        return self._answers.get(question)


def test_the_clock_goes_on_and_the_silence_is_told_while_the_daemon_hangs(duck) -> None:
    with open_fake_daemon(duck.socket) as daemon:
        serve(daemon)
        answers = daemon.answers = Hanging(daemon.answers)
        try:
            with top(duck) as screen:
                screen.wait_for("anthropic")
                answers.open.clear()
                first = screen.wait_for("no answer for ")
                screen.wait_for("no answer for 3s")
                assert "lost" not in first
                answers.open.set()
                screen.press("q")
                assert screen.ended() == 0
        finally:
            answers.open.set()


def test_keys_pause_and_sort_at_once(duck, served) -> None:
    with top(duck) as screen:
        screen.wait_for("every 100ms")
        screen.press("p")
        screen.wait_for("paused")
        screen.press("s")  # what stands still can be sorted all the same
        screen.wait_for("load")
        screen.press("\x1b[A\x1bOP\x1b[15~p")  # arrows and F keys are no letters
        screen.wait_for("every 100ms")
        screen.press("x\x1b[Bq")
        assert screen.ended() == 0


def test_a_new_size_is_filled_at_once(duck, served) -> None:
    with top(duck) as screen:
        screen.wait_for("q quit")
        screen.press("p")
        screen.wait_for("paused")
        screen.resize(60, 200)
        shown = screen.wait_for("max")
        shown += screen.wait_for("paused")
        assert "LAST CRASH" in shown or "TOK LIMIT" in shown
        screen.resize(4, 20)
        screen.wait_for("…")
        screen.press("q")
        assert screen.ended() == 0


def test_colours_are_left_out_where_they_are_not_wanted(duck, served) -> None:
    with top(duck, NO_COLOR="1") as screen:
        shown = screen.wait_for("q quit")
        assert "\x1b[32m" not in shown
        screen.press("q")
        screen.ended()
    with top(duck, NO_COLOR="", COLORTERM="") as screen:
        assert "\x1b[32m" in screen.wait_for("q quit")
        screen.press("q")
        screen.ended()


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(duck, served) -> None:
    with top(duck) as screen:
        screen.wait_for("q quit")
        screen.process.send_signal(signal.SIGTSTP)
        screen.wait_for(LEAVE)
        screen.wait_until_stopped()
        screen.process.send_signal(signal.SIGCONT)
        screen.wait_for(ENTER)
        screen.wait_for("q quit")
        screen.press("q")
        assert screen.ended() == 0


def test_a_full_screen_neither_scrolls_nor_loses_its_last_column() -> None:
    stream = io.StringIO()
    console = Console(file=stream, color_system=None)
    screen = top_screen.Screen(stream, console, None)
    drawn = [Text("12345"), Text("12")]
    screen.draw(drawn, 5, 2)
    # To erase the rest of a full line would take its last character.
    assert stream.getvalue() == "\x1b[H12345\r\n12\x1b[K"
    screen.draw(drawn, 5, 3)
    assert stream.getvalue().endswith("12\x1b[K\r\n\x1b[J")
