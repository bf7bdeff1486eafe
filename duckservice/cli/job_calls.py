"""What the commands for jobs ask of the daemon, and how long they bear with it."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

from duckservice.cli.exits import FAILED, NO_DAEMON, OK, TRY_AGAIN, Exit, status_of
from duckservice.cli.session import Session

if TYPE_CHECKING:
    from duckservice.gateway.client import Event

Job: TypeAlias = dict[str, Any]

FINAL: Final = frozenset({"completed", "discarded", "cancelled", "expired"})
AWAY_MAX: Final = 60.0
"""Seconds that a daemon may be away, restarting, before a command gives it up."""
PAUSE: Final = 0.5
TIMEOUT: Final = 10.0
WAIT: Final = 30.0
"""Seconds that one request waits for a job; after that it is asked again."""


def target(job: str, what: str = "") -> str:
    """Return the path of a job, or of something of it."""
    return f"/v1/jobs/{quote(job, safe='')}{what}"


def get(session: Session, job: str) -> Job:
    """Return the job."""
    found: Job = session.get(target(job))
    return found


def status_for(job: Job) -> int:
    """Return the exit code for a job that is over."""
    return OK if job["state"] == "completed" else FAILED


def why_failed(job: Job) -> str:
    """Return what a job that came to nothing says about it, on one line."""
    last = job["errors"][-1] if job["errors"] else None
    why = f": {last['message']} ({last['code']})" if last else ""
    return f"job {job['id']} is {job['state']}{why}"


class Patience:
    """Bears with a daemon that is away for a while, once it was there.

    A daemon that is started anew knows the same jobs; so who waits for one goes on.
    """

    def __init__(self, session: Session) -> None:
        self._out = session.out
        self.was_there = False
        """Whether the daemon has answered at least once."""
        self._told = False
        self._away_since: float | None = None

    def rewarded(self) -> None:
        """Take note that the daemon answers."""
        self.was_there = True
        self._away_since = None

    def bear(self, end: Exit) -> None:
        """Pause before another try; raise *end* where there is no use in it."""
        if not self.was_there or end.status not in {NO_DAEMON, TRY_AGAIN}:
            raise end
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        if not self._told:
            self._told = True
            why, _, _ = end.message.partition("\n")
            self._out.note(f"{why}; trying again until it is back")
        if now - self._away_since > AWAY_MAX:
            raise end
        time.sleep(PAUSE)


def wait_for(
    session: Session, job: str, deadline: float | None, patience: Patience
) -> Job:
    """Return the job when it is over, or as it is at *deadline* (monotonic).

    A daemon that goes away meanwhile is waited for as well.
    """
    while True:
        now = time.monotonic()
        seconds = WAIT if deadline is None else max(0.0, min(WAIT, deadline - now))
        # At first it is to answer at once: from then on it may go away.
        first = not patience.was_there
        try:
            found = _ask(session, job, 0.0 if first else seconds)
        except Exit as end:
            if deadline is not None and time.monotonic() >= deadline:
                raise
            patience.bear(end)
            continue
        patience.rewarded()
        if found["state"] in FINAL or not seconds:
            return found
        if not first and time.monotonic() - now < seconds:
            # It answered before its time, for it drains.
            time.sleep(min(PAUSE, seconds))


def _ask(session: Session, job: str, seconds: float) -> Job:
    answer = session.request(
        "GET",
        target(job),
        headers={"Prefer": f"wait={seconds:.3f}"} if seconds else None,
        timeout=seconds + TIMEOUT,
    )
    found: Job = answer.json()
    return found


def events(
    session: Session, job: str, after: int, patience: Patience
) -> Generator[Event]:
    """Yield what a job's stream brings after that id, to the end of the job.

    `Exit` is raised for whatever goes wrong; a stream that breaks off is one more
    way of the daemon to be away.
    """
    from duckservice.gateway.client import (
        DaemonClient,
        DaemonError,
        DaemonNotRunning,
        DaemonUnreachable,
    )

    client = DaemonClient(session.socket())
    try:
        with closing(client.follow(job, after, lambda _: patience.rewarded())) as its:
            yield from its
    except DaemonError as error:
        message = f"{error.message} ({error.code})"
        raise Exit(message, status_of(error.code)) from error
    except (DaemonNotRunning, DaemonUnreachable) as error:
        raise Exit(str(error), NO_DAEMON) from error
