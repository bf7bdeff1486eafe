"""One writing connection's life: its transactions, and what they bring about."""

from __future__ import annotations

import sqlite3

import attrs

from duckservice.core.job import JobState
from duckservice.core.job_order import Turns
from duckservice.store.sqlite_line import Line
from duckservice.store.sqlite_row import Row


@attrs.define
class Effects:
    """What others must be told once the transaction has committed."""

    news: bool = False
    """There is news for `JobStore.wait_for_work`."""
    changed: set[str] = attrs.field(factory=set[str])
    """The ids of jobs for whose news somebody may wait."""
    states: dict[JobState, int] = attrs.field(factory=dict[JobState, int])
    """How many jobs are in each state then."""


class Session:
    """What an operation that writes works with."""

    def __init__(self, db: sqlite3.Connection, turns: Turns) -> None:
        """*turns* outlive the connection."""
        self.db = db
        self.line = Line(db, turns)
        self.effects = Effects()
        self.executing = dict[str, Row]()
        """Rows of jobs that are executing, as this transaction has them: whoever works
        on one comes back for it, again and again. By id; see `sqlite_rows.keep`."""

    def begin(self) -> None:
        """Begin a transaction."""
        self.effects = Effects()
        self.db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit; what was written is on the disk then."""
        self.db.execute("COMMIT")
        self.line.committed()
        self.effects.states = dict(self.line.states)

    def roll_back(self) -> None:
        """Take the whole transaction back."""
        # Some errors have ended it already.
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        self.undo()

    def undo(self, mark: int = 0) -> None:
        """Forget what was remembered of a transaction that was taken back to there.

        *mark* is the line's: see `Line.mark`.
        """
        self.line.undo(mark)
        self.executing.clear()
