"""`duck top` on a terminal: keys, sizes and news become frames."""

from __future__ import annotations

import os
import signal
import time
from typing import Final

import attrs

from duckservice.cli.exits import INTERRUPTED, NOT_PERMITTED, OK, Exit
from duckservice.cli.session import Session
from duckservice.cli.top.build import Bodies, frame
from duckservice.cli.top.command import marks_of
from duckservice.cli.top.feed import Feed
from duckservice.cli.top.frame import Frame
from duckservice.cli.top.history import History
from duckservice.cli.top.layout import View, lines
from duckservice.cli.top.poll import Poller, poll
from duckservice.cli.top.providers import SORTS
from duckservice.cli.top.screen import Screen, Terminated, open_screen
from duckservice.gateway.client import DaemonClient

_LOOK_EVERY: Final = 0.1
"""Seconds until a key, a new size or an answer is noticed."""


def show(session: Session) -> int:
    """Show frames until `q`, Ctrl-C, or as many as were asked for."""
    model = _Model(session=session, bodies=poll(session))
    feed = Feed(DaemonClient(session.socket()))
    poller = Poller(session, session.options.interval)
    out = session.out
    try:
        feed.start()
        feed.catch_up(model.history)
        poller.start()
        with open_screen(out.stdout, out.console()) as screen:
            _run(model, feed, poller, screen)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated as end:
        # As if it had not been handled: who sent it sees what it has done.
        signal.signal(end.number, signal.SIG_DFL)
        os.kill(os.getpid(), end.number)
    finally:
        poller.close()
        feed.close()
    return OK


@attrs.define(kw_only=True)
class _Model:
    """What was told, and what was pressed."""

    session: Session
    bodies: Bodies
    history: History = attrs.field(factory=History)
    lost: str = ""
    silent_s: float = 0.0
    paused: bool = False
    sort: str = next(iter(SORTS))

    def news(self, its: Bodies | Exit) -> None:
        """Take what the daemon has answered, or that it has not."""
        if isinstance(its, Bodies):
            self.bodies, self.lost, self.silent_s = its, "", 0.0
        elif its.status == NOT_PERMITTED:
            raise its
        else:
            self.lost = its.message.partition("\n")[0]

    def press(self, key: str) -> bool:
        """Do what *key* stands for; say whether that is to be seen at once."""
        match key:
            case "p" | " ":
                self.paused = not self.paused
            case "s":
                names = list(SORTS)
                self.sort = names[(names.index(self.sort) + 1) % len(names)]
            case _:
                return False
        return True

    def frame(self) -> Frame:
        return frame(self.bodies, self.history, time.time(), lost=self.lost)


def _run(model: _Model, feed: Feed, poller: Poller, screen: Screen) -> None:
    shown, size = model.frame(), screen.size()
    left = model.session.options.count or 0
    _draw(model, screen, shown, size)
    left, second = left - 1, int(time.time())
    while left:
        keys = screen.keys(_LOOK_EVERY)
        if "q" in keys:
            return
        pressed = [model.press(key) for key in keys]  # all of them, and not the first
        came_back = screen.stop_if_wanted()
        before, size = size, screen.size()
        changed = any(pressed) or came_back or size != before
        if (news := poller.take()) is not None:
            model.news(news)
            feed.drain(model.history)
            # Paused is the picture; what happens meanwhile is remembered.
            if not model.paused:
                shown, changed = model.frame(), True
                left -= 1
        if not model.paused and second != (second := int(time.time())):
            # A clock that stands still looks like a terminal that hangs.
            feed.drain(model.history)
            model.silent_s = poller.silent_s()
            shown, changed = model.frame(), True
        if changed:
            _draw(model, screen, shown, size)


def _draw(model: _Model, screen: Screen, shown: Frame, size: tuple[int, int]) -> None:
    out, its = model.session.out, model.session.options
    view = View(
        width=size[0],
        height=size[1],
        marks=marks_of(out),
        sort=model.sort,
        paused=model.paused,
        interval=its.interval,
        keys=True,
        silent_s=model.silent_s,
    )
    screen.draw(lines(shown, view), *size)
