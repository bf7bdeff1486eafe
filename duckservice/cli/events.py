"""`duck events`: what happens in the daemon, a line each, as it happens."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from duckservice.cli.event_line import line_of, style_of
from duckservice.cli.exits import INTERRUPTED, NO_DAEMON, OK, Exit, status_of
from duckservice.cli.job_calls import Patience
from duckservice.cli.output import cell
from duckservice.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from duckservice.gateway.client import Event


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to show."""
    parser.add_argument(
        "--types",
        metavar="A,B",
        help="only these: request.start, request.stop, request.exception, attempt,"
        " cost, breaker, restart, budget, job, store, queue.pause, queue.resume,"
        " message, cache",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="begin with what is still known since then (10m, a date)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="end when the daemon does, instead of waiting until it is back",
    )


def run(session: Session) -> int:
    """Print events until interrupted; with --json, each as one line of JSON."""
    follower = _Follower(session)
    try:
        return follower.run()
    except KeyboardInterrupt:
        return INTERRUPTED


class _Follower:
    """Reads the stream, and comes back to where it was when the daemon is back."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._patience = Patience(session)
        self._last_id = ""
        wanted = {"types": session.options.types, "since": session.options.since}
        query = urlencode({name: its for name, its in wanted.items() if its})
        self._target = f"/v1/events?{query}" if query else "/v1/events"
        out = session.out
        self._console = (
            out.console() if out.on_terminal and not session.options.json else None
        )

    def run(self) -> int:
        while True:
            try:
                self._read()
            except Exit as end:
                if self._session.options.once and self._patience.was_there:
                    return OK
                self._patience.bear(end)

    def _read(self) -> None:
        """Print what comes; raise `Exit` when it comes to an end."""
        from duckservice.gateway.client import (
            FOLLOW_SILENCE,
            DaemonClient,
            DaemonError,
            DaemonNotRunning,
            DaemonUnreachable,
        )

        client = DaemonClient(self._session.socket())
        last = {"Last-Event-ID": self._last_id} if self._last_id else None
        stream = client.stream(
            "GET",
            self._target,
            None,
            last,
            timeout=FOLLOW_SILENCE,
            on_headers=self._there,
        )
        try:
            with closing(stream) as events:
                for event in events:
                    self._last_id = event.id or self._last_id
                    self._show(event)
        except DaemonError as error:
            message = f"{error.message} ({error.code})"
            raise Exit(message, status_of(error.code)) from error
        except DaemonNotRunning as error:
            hint = "" if self._patience.was_there else f"\n{error.hint}"
            raise Exit(f"{error}{hint}", NO_DAEMON) from error
        except DaemonUnreachable as error:
            raise Exit(str(error), NO_DAEMON) from error
        raise Exit("the daemon has ended the stream", NO_DAEMON)

    def _there(self, headers: Mapping[str, str]) -> None:
        self._patience.rewarded()
        # What happens between now and the first event is not to be missed either.
        self._last_id = self._last_id or headers.get("duck-last-event-id", "")

    def _show(self, event: Event) -> None:
        its: dict[str, Any] = json.loads(event.data)
        out = self._session.out
        if self._session.options.json:
            out.data(json.dumps({"id": event.id, **its}))
        elif self._console is not None:
            self._console.print(cell(line_of(its), style_of(its)), soft_wrap=True)
        else:
            out.data(str(cell(line_of(its))))
        out.stdout.flush()
