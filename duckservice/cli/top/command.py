"""`duck top`: what happens in the daemon, live, on one screen."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from duckservice.cli.exits import OK, USAGE, Exit
from duckservice.cli.output import Output
from duckservice.cli.session import Session

if TYPE_CHECKING:
    from duckservice.cli.top.frame import Frame
    from duckservice.cli.top.grid import Marks

_INTERVAL_MAX = 3600.0
_PIPE_COLUMNS = 120
"""A frame in a pipe is still a picture, and not a line of any length."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add how often, and how many times."""
    parser.add_argument(
        "--interval",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="from one look to the next (default: 1)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="print one frame and end, as where stdout is no terminal",
    )
    parser.add_argument(
        "-n",
        "--count",
        type=int,
        metavar="COUNT",
        help="end after so many frames; 0: never",
    )


def run(session: Session) -> int:
    """Show the daemon until `q` or Ctrl-C; print frames where nobody looks."""
    its = session.options
    if not 0.1 <= its.interval <= _INTERVAL_MAX:
        raise Exit(f"--interval must be from 0.1 to {_INTERVAL_MAX:.0f} seconds", USAGE)
    if its.count is not None and its.count < 0:
        raise Exit("--count must not be negative", USAGE)
    if its.once or its.json or not session.out.can_redraw:
        return _print(session)
    # Here: no other command needs them.
    from duckservice.cli.top.live import show

    return show(session)


def _print(session: Session) -> int:
    """Print frames, one after the other: one, if nothing else was said."""
    from duckservice.cli.top.build import frame
    from duckservice.cli.top.feed import Feed
    from duckservice.cli.top.history import History
    from duckservice.cli.top.poll import poll
    from duckservice.gateway.client import DaemonClient

    its = session.options
    left = 1 if its.once or its.count is None else its.count
    bodies = poll(session)  # if there is no daemon, this says so
    feed, history = Feed(DaemonClient(session.socket())), History()
    feed.start()
    try:
        feed.catch_up(history)
        while True:
            _write(session, frame(bodies, history, time.time()))
            left -= 1
            if not left:
                return OK
            time.sleep(its.interval)
            bodies = poll(session)
            feed.drain(history)
    finally:
        feed.close()


def _write(session: Session, frame: Frame) -> None:
    out = session.out
    if session.options.json:
        out.data(json.dumps(frame.as_json()))
    else:
        from duckservice.cli.top.layout import View, lines

        width = _PIPE_COLUMNS if out.columns is None else out.columns
        view = View(width=width, height=None, marks=marks_of(out))
        out.show(*lines(frame, view))
    out.stdout.flush()


def marks_of(out: Output) -> Marks:
    """Return what *out* can show bars and curves with."""
    from duckservice.cli.top.grid import ASCII, UNICODE

    return UNICODE if out.shows_unicode else ASCII
