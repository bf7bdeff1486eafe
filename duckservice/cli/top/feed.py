"""The events for `duck top`, read beside the rest, and again when the daemon is back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias, final
from urllib.parse import urlencode

import attrs

from duckservice.cli.top.history import KEPT, TYPES, Fields, History
from duckservice.gateway.client import (
    FOLLOW_SILENCE,
    DaemonClient,
    DaemonError,
    DaemonNotRunning,
    DaemonUnreachable,
)

_SILENCE: Final = 0.2
"""Who is silent for so long has told what has happened before."""
_CATCH_UP_MAX: Final = 2.0
_PAUSE: Final = 1.0

_Ended: TypeAlias = None


@final
@attrs.define
class Feed:
    """Reads the stream in a thread, which ends with the process; never waits for it."""

    _client: DaemonClient
    _pause: float = _PAUSE
    _told: SimpleQueue[Fields | _Ended] = attrs.field(
        factory=SimpleQueue["Fields | None"]
    )
    _last_id: str = ""
    _closed: threading.Event = attrs.field(factory=threading.Event)
    _clock: Callable[[], float] = time.time

    def start(self) -> None:
        """Begin, with what is still known of the last minutes."""
        threading.Thread(target=self._run, name="duck-top-events", daemon=True).start()

    def close(self) -> None:
        """Read no more, when the stream comes to an end; nobody waits for that."""
        self._closed.set()

    def drain(self, history: History) -> None:
        """Have *history* take what was told by now."""
        while True:
            try:
                its = self._told.get_nowait()
            except Empty:
                return
            if its is not None:
                history.take(its)

    def catch_up(self, history: History) -> None:
        """Have *history* take what had happened before, and wait for it for a moment."""
        now = self._clock()
        until = time.monotonic() + _CATCH_UP_MAX
        while time.monotonic() < until:
            try:
                its = self._told.get(timeout=_SILENCE)
            except Empty:
                return
            if its is None:
                return
            history.take(its)
            if its["at"] >= now:
                return

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._read()
            except DaemonError as error:
                if error.code == "permission_denied":
                    return
            except (DaemonNotRunning, DaemonUnreachable, ValueError):
                pass
            finally:
                self._told.put(None)
            self._closed.wait(self._pause)

    def _read(self) -> None:
        query = {"types": ",".join(TYPES)}
        headers = {"Last-Event-ID": self._last_id} if self._last_id else None
        if not self._last_id:
            query["since"] = f"{KEPT}s"
        stream = self._client.stream(
            "GET",
            f"/v1/events?{urlencode(query)}",
            headers=headers,
            timeout=FOLLOW_SILENCE,
        )
        with closing(stream) as events:
            for event in events:
                self._told.put(json.loads(event.data))
                # Afterwards: what cannot be read is not passed over for ever.
                self._last_id = event.id or self._last_id
