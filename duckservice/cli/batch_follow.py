"""Follow a batch to its end, and write its results as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from duckservice.cli.batch_failures import Failures
from duckservice.cli.batch_output import Sink
from duckservice.cli.exits import FAILED, NO_DAEMON, OK, TRY_AGAIN, Exit
from duckservice.cli.session import Session
from duckservice.cli.text import count, money, plural

PATIENCE: Final = 60.0
"""Seconds that the daemon may be away, as while it is restarted."""
_FIRST_PAUSE: Final = 0.05
_PAUSE: Final = 1.0
_PIECE_BYTES: Final = 4 * 1024 * 1024
ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})


@attrs.define(eq=False)
class _Remote:
    """One of a batch's two files of results, read as far as it goes."""

    session: Session
    id: str
    _offset: int = 0
    _pending: bytes = b""

    def lines(self) -> Iterator[list[bytes]]:
        """Yield the lines that are new, some at a time."""
        while True:
            target = f"/v1/files/{self.id}/content"
            query = f"?offset={self._offset}&limit={_PIECE_BYTES}"
            data = self.session.request("GET", target + query, timeout=30.0).body
            if not data:
                return
            self._offset += len(data)
            *lines, self._pending = (self._pending + data).split(b"\n")
            yield lines


@attrs.define(eq=False)
class Follower:
    """Follows one batch."""

    session: Session
    batch: str
    sink: Sink
    show: Callable[[dict[str, Any]], None]
    failures: Failures = attrs.field(factory=Failures)
    """Those that were met."""
    _remotes: list[_Remote] = attrs.field(factory=list[_Remote])

    def to_the_end(self) -> dict[str, Any]:
        """Return the batch as it is when it has ended, all results written."""
        pause = _FIRST_PAUSE
        alone_since: float | None = None
        while True:
            try:
                its = self.once()
                alone_since = None
            except Exit as end:
                alone_since = _alone(end, alone_since)
                pause = _PAUSE
            else:
                self.show(its)
                if its["status"] in ENDED:
                    self.sink.finish()
                    return its
            time.sleep(pause)
            pause = min(_PAUSE, pause * 1.5)

    def once(self) -> dict[str, Any]:
        """Write what there is now; return the batch as it was before that."""
        its: dict[str, Any] = self.session.get(f"/v1/batches/{self.batch}")
        ours = its["duck"]
        if not self._remotes and ours["output_file_id"]:
            self._remotes = [
                _Remote(self.session, ours["output_file_id"]),
                _Remote(self.session, ours["error_file_id"]),
            ]
        for remote in self._remotes:
            for lines in remote.lines():
                if remote is self._remotes[-1]:
                    self.failures.add(lines)
                self.sink.add(lines)
        return its


def conclude(session: Session, batch: dict[str, Any], failures: Failures) -> int:
    """Say how a batch has ended; return the exit code."""
    if session.options.json:
        session.out.json(batch)
    counts, ours = batch["request_counts"], batch["duck"]
    failed, tokens = counts["failed"], batch["usage"]["total_tokens"]
    session.out.note(
        f"{batch['id']} is {batch['status']}: {count(counts['completed'])} of"
        f" {plural(counts['total'], 'request')} done, {count(failed)} failed"
        f" · {count(tokens)} tokens · {money(ours['cost_usd'])}"
    )
    for line in failures.told():
        session.out.note(f"  {line}")
    if lost := ours["maybe_billed"]:
        session.out.note(
            f"  {plural(lost, 'request')} broken off, and sent again or given up:"
            " the cost has what that may have cost"
        )
    errors: dict[str, Any] = batch["errors"] or {"data": []}
    for error in errors["data"]:
        line = "" if error["line"] is None else f"line {error['line']}: "
        session.out.note(f"  {line}{error['message']} ({error['code']})")
    ok = batch["status"] == "completed" and not failed
    return OK if ok else FAILED


def _alone(end: Exit, since: float | None) -> float:
    """Return since when the daemon is away; raise *end* if that is too long."""
    now = time.monotonic()
    if end.status not in {NO_DAEMON, TRY_AGAIN}:
        raise end
    if since is None:
        return now
    if now - since > PATIENCE:
        raise end
    return since
