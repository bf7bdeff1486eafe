"""What `duck top` asks of the daemon, once for each frame."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Final, final
from urllib.parse import urlencode

import attrs

from duckservice.cli.exits import FAILED, Exit
from duckservice.cli.session import Session
from duckservice.cli.top.build import Bodies

_JOBS_MAX: Final = 100
_UNFINISHED: Final = ("executing", "retryable", "available", "scheduled", "suspended")


def poll(session: Session) -> Bodies:
    """Return what the daemon says now; raises `Exit` if it says nothing, or refuses."""
    get = session.get
    jobs = urlencode({"state": ",".join(_UNFINISHED), "limit": _JOBS_MAX})
    today = f"{datetime.fromtimestamp(time.time(), UTC):%Y-%m-%d}"
    return Bodies(
        status=get("/v1/status"),
        providers=get("/v1/providers")["providers"],
        budgets=get("/v1/budgets")["budgets"],
        tree=get("/v1/tree"),
        today=get(f"/v1/costs?by=total&since={today}"),
        last_hour=get("/v1/costs?by=total&since=1h"),
        jobs=get(f"/v1/jobs?{jobs}")["jobs"],
    )


@final
@attrs.define
class Poller:
    """Polls in a thread, which ends with the process, so that a key never waits."""

    _session: Session
    _interval: float
    _latest: Bodies | Exit | None = None
    _asked_at: float | None = None
    _closed: threading.Event = attrs.field(factory=threading.Event)

    def start(self) -> None:
        """Begin, after one interval: the first answer is the caller's."""
        threading.Thread(target=self._run, name="duck-top-poll", daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._closed.set()

    def take(self) -> Bodies | Exit | None:
        """Return what came since the last time; None: nothing yet."""
        latest, self._latest = self._latest, None
        return latest

    def silent_s(self) -> float:
        """Return for how many seconds the daemon has let us wait; 0: it has answered."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    def _run(self) -> None:
        while not self._closed.wait(self._interval):
            self._asked_at = time.monotonic()
            try:
                self._latest = poll(self._session)
            except Exit as end:
                self._latest = end
            # What is in the answer is no reason for the thread to end unseen.
            except (KeyError, TypeError) as error:
                self._latest = Exit(f"an answer of another form: {error!r}", FAILED)
            self._asked_at = None
