"""`duck dashboard`: the daemon on a page in the browser."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, cast

from duckservice.cli.exits import INTERRUPTED, OK, USAGE, Exit
from duckservice.cli.session import Session

if TYPE_CHECKING:
    from duckservice.dashboard.serving import Dashboard

_PORT_MAX = 65535


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add where it is, and who opens it."""
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        metavar="N",
        help="the port on 127.0.0.1 (default: one that is free)",
    )
    parser.add_argument(
        "--no-open",
        action="store_true",
        help="print the address, and open no browser",
    )


def run(session: Session) -> int:
    """Serve the page until interrupted."""
    if not 0 <= session.options.port <= _PORT_MAX:
        raise Exit(f"--port must be from 0 to {_PORT_MAX}", USAGE)
    # Who may not see the tree may see hardly anything of the page.
    session.get("/v1/tree")
    # Here: other commands need neither trio nor a server.
    import sys

    import trio

    from duckservice import log
    from duckservice.config import LogConfig

    log.setup(LogConfig(level="warning"), sys.stderr)
    try:
        return trio.run(_serve, session)
    except BaseExceptionGroup as group:
        # Nurseries wrap what ends them; `main` knows these two.
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from None
        cause = _first(group)
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror) from group
        raise


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return _first(cast("BaseExceptionGroup[BaseException]", first))
    return first


async def _serve(session: Session) -> int:
    import signal

    import trio

    from duckservice.dashboard.serving import open_dashboard
    from duckservice.gateway.client import DaemonClient

    client = DaemonClient(session.socket())
    number: int = signal.SIGTERM
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with (
            open_dashboard(client, port=session.options.port) as dashboard,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_tell, session, dashboard)
            number = await anext(signals)
            nursery.cancel_scope.cancel(reason="told to end")
    return INTERRUPTED if number == signal.SIGINT else OK


async def _tell(session: Session, dashboard: Dashboard) -> None:
    """Print the address, open it, and print another one at each Enter."""
    url = dashboard.new_url()
    _print(session, url)
    if not session.out.on_terminal or session.options.json:
        return
    session.out.note("It is good once, for 5 minutes. Enter: another one. Ctrl-C: end.")
    if not session.options.no_open and _has_display(session):
        await _open_browser(url)
    await _print_more(session, dashboard)


def _print(session: Session, url: str) -> None:
    out = session.out
    out.data(json.dumps({"url": url}) if session.options.json else url)
    out.stdout.flush()


def _has_display(session: Session) -> bool:
    """Say whether a browser would have a window: one for terminals runs no scripts."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return any(session.environ.get(name) for name in names)


async def _open_browser(url: str) -> None:
    import webbrowser

    import trio

    # In a thread, as it may wait for the browser to start.
    await trio.to_thread.run_sync(webbrowser.open, url, abandon_on_cancel=True)


async def _print_more(session: Session, dashboard: Dashboard) -> None:
    """Print a new address at each Enter, while this is the terminal's foreground."""
    import sys

    import trio

    if sys.stdin is None or not sys.stdin.isatty():
        return
    fd = sys.stdin.fileno()
    while True:
        await trio.lowlevel.wait_readable(fd)
        if not _is_ours(fd):
            # What is typed is for somebody else; to read it would stop us.
            await trio.sleep(1)
        elif os.read(fd, 1024):
            _print(session, dashboard.new_url())
        else:
            return


def _is_ours(terminal: int) -> bool:
    """Say whether we are in the foreground of that terminal."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        # It is not the one that we were started from.
        return False
