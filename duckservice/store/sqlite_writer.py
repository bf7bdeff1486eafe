"""The worker that owns the writing connection: many askers, one commit.

    ready ──a statement or COMMIT fails──▶ broken ──tried out: writes──▶ ready
                                             │
                                             └──────it is damaged──────▶ damaged

While broken, each group first tries out a new connection, so the store recovers as
soon as the disk does, and accepts nothing before. Damaged is for good.

One asker's failure is not the others': a value that cannot be stored, or a bug, takes
the transaction back, and the group is run again with a savepoint for each.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from duckservice.core.job_order import Turns
from duckservice.errors import DuckError
from duckservice.store.commits import Commits
from duckservice.store.errors import StoreUnavailable
from duckservice.store.sqlite_connect import connect_writer, must_be_sound, must_write
from duckservice.store.sqlite_faults import NOT_STORABLE, not_storable, unavailable
from duckservice.store.sqlite_migrations import migrate
from duckservice.store.sqlite_place import Place, take
from duckservice.store.sqlite_session import Effects, Session
from duckservice.store.sqlite_thread import Item

Fault: TypeAlias = Callable[[str], None]
"""For tests: is called with the name of each step, and may raise, or never return."""


class Writer:
    """Runs what changes the database; all of it on one thread."""

    def __init__(
        self,
        path: Path,
        *,
        aging: float,
        publish: Callable[[Effects], None],
        fault: Fault | None = None,
    ) -> None:
        """*publish* is called on trio's side with what has committed."""
        self._path = path
        self._turns = Turns(aging=aging)
        self._publish = publish
        self._fault = fault
        self._place: Place | None = None
        self._session: Session | None = None
        self._damage: StoreUnavailable | None = None
        self.commits = Commits()

    def open(self) -> None:
        """Lock the database, open it, and bring it up to date.

        Raises:
            StoreUnavailable: it is in use, damaged, too new, or not to be trusted.
        """
        try:
            self._place = take(self._path)
            # A log that is still there was not worked in at the end: the last life
            # was killed, or the machine was.
            if self._path.with_name(self._path.name + "-wal").exists():
                must_be_sound(self._path)
            db = connect_writer(self._path)
            try:
                migrate(db, self._path)
                self._session = self._new_session(db)
            except BaseException:
                db.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise unavailable(error, self._path) from error

    def close(self) -> None:
        """Close the database, all of its log worked in, and unlock it."""
        self._disconnect()
        if self._place is not None:
            self._place.release()

    def run(self, items: list[Item[Session]]) -> Callable[[], None] | None:
        """Run all in one transaction, and commit it."""
        since = time.perf_counter()
        try:
            session = self._ready()
            if not self._transaction(session, items, careful=False):
                self._transaction(session, items, careful=True)
        except (sqlite3.Error, OSError) as error:
            self._break(items, error)
            return None
        except StoreUnavailable as error:
            _fail(items, error)
            return None
        self.commits.note(len(items), time.perf_counter() - since)
        effects = session.effects
        return lambda: self._publish(effects)

    def _transaction(
        self, session: Session, items: list[Item[Session]], *, careful: bool
    ) -> bool:
        """Run all and commit; False if that must be done carefully."""
        self._step("begin")
        session.begin()
        for item in items:
            if careful:
                _run_alone(session, item)
            elif not _run(session, item):
                session.roll_back()
                return False
        self._step("commit")
        session.commit()
        self._step("committed")
        return True

    def _ready(self) -> Session:
        if self._damage is not None:
            raise self._damage
        assert self._place is not None, "it was opened"
        self._place.must_be_there()
        if self._session is None:
            self._step("reopen")
            db = connect_writer(self._path)
            try:
                must_write(db, self._path)
                self._session = self._new_session(db)
            except BaseException:
                db.close()
                raise
        return self._session

    def _new_session(self, db: sqlite3.Connection) -> Session:
        session = Session(db, self._turns)
        if self._fault is not None:
            db.set_trace_callback(self._fault)
        return session

    def _break(
        self, items: list[Item[Session]], error: sqlite3.Error | OSError
    ) -> None:
        """Fail all, for nobody can tell what was done; and let go of the connection."""
        failure = unavailable(error, self._path)
        if not failure.may_recover:
            self._damage = failure
        self._disconnect()
        _fail(items, failure, error)

    def _disconnect(self) -> None:
        if self._session is not None:
            with contextlib.suppress(sqlite3.Error):
                self._session.roll_back()
            with contextlib.suppress(sqlite3.Error):
                self._session.db.close()
            self._session = None

    def _step(self, name: str) -> None:
        if self._fault is not None:
            self._fault(name)


def _run(session: Session, item: Item[Session]) -> bool:
    """Run one; False if it has failed half-way, so that something must be undone."""
    item.error = None
    before = session.db.total_changes
    try:
        item.value = item.op(session)
    except sqlite3.Error as error:
        if not isinstance(error, NOT_STORABLE):
            raise
        item.error = not_storable(error)
    except DuckError as error:
        item.error = error
    except NOT_STORABLE as error:
        item.error = not_storable(error)
    # A bug in one operation is for who has asked for it, and must not end the thread
    # that all others depend on.
    except Exception as error:  # noqa: BLE001
        item.error = error
    return item.error is None or session.db.total_changes == before


def _run_alone(session: Session, item: Item[Session]) -> None:
    """Run one; where it fails, nothing of it stays."""
    mark = session.line.mark()
    session.db.execute("SAVEPOINT one")
    if not _run(session, item):
        session.db.execute("ROLLBACK TO one")
        session.undo(mark)
    session.db.execute("RELEASE one")


def _fail(
    items: list[Item[Session]],
    failure: StoreUnavailable,
    cause: Exception | None = None,
) -> None:
    for item in items:
        # One each: a traceback belongs to the task in which it was raised.
        item.error = StoreUnavailable(failure.message, may_recover=failure.may_recover)
        item.error.__cause__ = cause
