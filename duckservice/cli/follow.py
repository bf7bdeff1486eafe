"""`duck follow`: a job's reply as it comes, also across restarts of the daemon."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Protocol

from duckservice.cli.exits import FAILED, INTERRUPTED, OK, Exit
from duckservice.cli.job_calls import Patience, events
from duckservice.cli.reply import ReplyPrinter, account, text_of
from duckservice.cli.session import Session

if TYPE_CHECKING:
    from duckservice.gateway.client import Event


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the job."""
    parser.add_argument("job", metavar="JOB")
    parser.add_argument(
        "--after",
        type=int,
        default=0,
        metavar="ID",
        help="begin after the event of this id (default: at the beginning)",
    )


def run(session: Session) -> int:
    """Print the reply to its end; with --json, each event on a line."""
    printer = _EventPrinter(session) if session.options.json else _TextPrinter(session)
    follower = _Follower(session, printer)
    try:
        return follower.run()
    except KeyboardInterrupt:
        printer.stop()
        job, after = session.options.job, follower.after
        session.out.note(f"the job goes on: duck follow {job} --after {after}")
        return INTERRUPTED


class _Printer(Protocol):
    """What is done with the events."""

    def feed(self, event: Event) -> None:
        """Show one that is not the end."""
        ...

    def end(self, event: Event) -> int:
        """Show the end; return the exit code."""
        ...

    def stop(self) -> None:
        """Leave off in the middle."""
        ...


class _Follower:
    """Reads the stream, again and again, until the job is over."""

    def __init__(self, session: Session, printer: _Printer) -> None:
        self._session = session
        self._printer = printer
        self.after: int = session.options.after
        """The id of the last event that was shown."""

    def run(self) -> int:
        patience = Patience(self._session)
        while True:
            try:
                status = self._read(patience)
            except Exit as end:
                patience.bear(end)
            else:
                return status

    def _read(self, patience: Patience) -> int:
        job = self._session.options.job
        for event in events(self._session, job, self.after, patience):
            if event.name in {"done", "error"}:
                return self._printer.end(event)
            self._printer.feed(event)
            if event.id:
                self.after = int(event.id)
        raise AssertionError("a stream that ends without its end raises Exit")


class _EventPrinter:
    def __init__(self, session: Session) -> None:
        self._out = session.out

    def feed(self, event: Event) -> None:
        """Print it on a line of its own."""
        its = {"event": event.name, "id": event.id, "data": json.loads(event.data)}
        self._out.data(json.dumps(its))
        self._out.stdout.flush()

    def end(self, event: Event) -> int:
        """Print it as any other."""
        self.feed(event)
        return OK if event.name == "done" else FAILED

    def stop(self) -> None:
        """Leave it at that: every line is whole."""


class _TextPrinter:
    def __init__(self, session: Session) -> None:
        self._out = session.out
        self._reply = ReplyPrinter(session.out)
        self._attempt: str | None = None

    def feed(self, event: Event) -> None:
        """Print the text of a delta."""
        if event.name != "delta":
            return
        delta = json.loads(event.data)
        attempt = delta.get("attempt")
        if self._attempt not in {None, attempt}:
            self._reply.break_off()
            self._out.note("the reply broke off, and begins anew")
        self._attempt = attempt
        for choice in delta.get("choices", ()):
            if choice.get("index", 0) == 0:
                self._reply.feed(text_of(choice["delta"]))

    def end(self, event: Event) -> int:
        """End the line; say on stderr what it took, or why it failed."""
        its = json.loads(event.data)
        if event.name == "done":
            self._reply.finish()
            if self._out.stderr.isatty():
                self._out.note(account(its))
            return OK
        self._reply.break_off()
        error = its["error"]
        self._out.note(f"duck: {error['message']} ({error['code']})")
        return FAILED

    def stop(self) -> None:
        """End the line."""
        self._reply.break_off()
