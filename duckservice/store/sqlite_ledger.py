"""The ledger in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from duckservice.completion import Usage
from duckservice.core.job import Settlement
from duckservice.errors import Conflict, NotFound
from duckservice.store.decisions import lost_entry, settled_entry
from duckservice.store.errors import StaleLease
from duckservice.store.ledger_store import LedgerEntry, LedgerFilter, LedgerSum
from duckservice.store.sqlite_part import Part
from duckservice.store.sqlite_rows import tags_text
from duckservice.store.sqlite_search import Search, decode_tags
from duckservice.store.sqlite_session import Session

_TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_COLUMNS: Final = (
    "id, job, provider, model, tags, at, reserved, state, amount, outcome, "
    f"{', '.join(_TOKENS)}, estimated, submitter"
)
_PUT: Final = f"INSERT INTO ledger ({_COLUMNS}) VALUES ({', '.join('?' * 17)})"  # noqa: S608
_END: Final = (
    f"UPDATE ledger SET state = ?, amount = ?, outcome = ?, {' = ?, '.join(_TOKENS)} = ?,"  # noqa: S608
    " estimated = ? WHERE id = ?"
)
"""What is known of an entry from the start stays, and so do its places in indexes."""
_SELECT: Final = f"SELECT {_COLUMNS} FROM ledger WHERE "  # noqa: S608


def _exact(column: str) -> str:
    # SUM fails beyond 2**63: the upper and the lower half are added up apart.
    return f"sum({column} >> 32), sum({column} & 0xFFFFFFFF)"


_COUNTED: Final = (
    "CASE WHEN state = 'open' THEN reserved"
    " WHEN estimated OR amount IS NULL THEN max(reserved, coalesce(amount, 0))"
    " ELSE amount END"
)
"""See `LedgerEntry.counts_with`."""
_SURE: Final = (
    "CASE WHEN state = 'settled' AND NOT estimated THEN coalesce(amount, 0) ELSE 0 END"
)
_SUMS: Final = f"""
    SELECT CAST(at / 3600 AS INTEGER) - (at < CAST(at / 3600 AS INTEGER) * 3600.0)
            AS hour,
        provider, model, count(*),
        sum(state <> 'open' AND outcome <> 'ok'),
        sum(state = 'open'),
        sum(state <> 'open' AND amount IS NULL),
        sum(estimated),
        {_exact("CASE WHEN state = 'open' THEN 0 ELSE coalesce(amount, 0) END")},
        {_exact("CASE WHEN state = 'open' THEN reserved ELSE 0 END")},
        {_exact(_COUNTED)},
        {_exact(_SURE)},
        {", ".join(_exact(column) for column in _TOKENS)}
    FROM ledger WHERE """  # noqa: S608


class SqliteLedger(Part):
    """The part of the engine that is `LedgerStore`."""

    async def record(self, entries: Sequence[LedgerEntry]) -> None:
        """See `LedgerStore.record`."""
        await self.write(lambda session: _record(session, entries))

    async def settle_entry(self, entry: str, settlement: Settlement) -> LedgerEntry:
        """See `LedgerStore.settle_entry`."""
        return await self.write(lambda session: settle(session, entry, settlement))

    async def settle_entries(
        self, settlements: Sequence[tuple[str, Settlement]]
    ) -> None:
        """See `LedgerStore.settle_entries`."""
        await self.write(lambda session: _settle_all(session, settlements))

    async def sums(self, which: LedgerFilter) -> tuple[LedgerSum, ...]:
        """See `LedgerStore.sums`."""
        return await self.read(lambda db: _sums(db, which))

    async def open_entries(self) -> tuple[LedgerEntry, ...]:
        """See `LedgerStore.open_entries`."""
        return await self.read(_open_entries)


def put(session: Session, entry: LedgerEntry) -> None:
    """Insert an entry."""
    session.db.execute(_PUT, _values(entry))


def settle(session: Session, entry: str, settlement: Settlement) -> LedgerEntry:
    """Settle an entry, and return it.

    Raises:
        NotFound: there is none of that id.
        StaleLease: it was settled already.
    """
    found = session.db.execute(_SELECT + "id = ?", (entry,)).fetchone()
    if found is None:
        msg = f"the ledger has no entry {entry}"
        raise NotFound(msg)
    done = settled_entry(_entry(found), settlement)
    _end(session, done)
    return done


def lose(session: Session, entry: str) -> None:
    """Count an open entry with all that was reserved for it."""
    found = session.db.execute(
        _SELECT + "id = ? AND state = 'open'", (entry,)
    ).fetchone()
    if found is not None:
        _end(session, lost_entry(_entry(found)))


def lose_all(session: Session) -> None:
    """Count every open entry with all that was reserved for it."""
    for entry in _open_entries(session.db):
        lose(session, entry.id)


def _end(session: Session, entry: LedgerEntry) -> None:
    """Write how an entry has ended."""
    its = entry.usage
    session.db.execute(
        _END,
        (
            entry.state,
            entry.amount,
            entry.outcome,
            *(getattr(its, column) for column in _TOKENS),
            its.estimated,
            entry.id,
        ),
    )


def _record(session: Session, entries: Sequence[LedgerEntry]) -> None:
    for entry in entries:
        there = session.db.execute("SELECT 1 FROM ledger WHERE id = ?", (entry.id,))
        if there.fetchone() is not None:
            msg = f"the ledger has an entry {entry.id} already"
            raise Conflict(msg)
        put(session, entry)


def _settle_all(
    session: Session, settlements: Sequence[tuple[str, Settlement]]
) -> None:
    for entry, settlement in settlements:
        with suppress(NotFound, StaleLease):
            settle(session, entry, settlement)


def _sums(db: sqlite3.Connection, which: LedgerFilter) -> tuple[LedgerSum, ...]:
    search = Search()
    search.add("at >= ?", which.since)
    search.add("at < ?", which.before)
    search.add("provider = ?", which.provider)
    search.add("model = ?", which.model)
    search.add("submitter = ?", which.submitter)
    search.add_tags("ledger.tags", which.tags)
    found = db.execute(
        f"{_SUMS}{search.where} GROUP BY hour, provider, model"
        " ORDER BY hour, provider, model",
        search.values,
    )
    return tuple(map(_sum, found))


def _sum(found: Any) -> LedgerSum:
    hour, provider, model, entries, failures, is_open, unpriced, estimated = found[:8]
    halves = found[8:]
    sums = [
        (high << 32) + low for high, low in zip(halves[::2], halves[1::2], strict=True)
    ]
    return LedgerSum(
        hour=hour,
        provider=provider,
        model=model,
        entries=entries,
        failures=failures,
        open=is_open,
        unpriced=unpriced,
        estimated=estimated,
        amount=sums[0],
        reserved=sums[1],
        counted=sums[2],
        sure=sums[3],
        usage=_usage(sums[4:], estimated),
    )


def _open_entries(db: sqlite3.Connection) -> tuple[LedgerEntry, ...]:
    return tuple(map(_entry, db.execute(_SELECT + "state = 'open' ORDER BY at, id")))


def _values(entry: LedgerEntry) -> tuple[Any, ...]:
    return (
        entry.id,
        entry.job,
        entry.provider,
        entry.model,
        tags_text(entry.tags),
        entry.at,
        entry.reserved,
        entry.state,
        entry.amount,
        entry.outcome,
        *(getattr(entry.usage, column) for column in _TOKENS),
        entry.usage.estimated,
        entry.submitter,
    )


def _entry(found: Any) -> LedgerEntry:
    return LedgerEntry(
        id=found[0],
        job=found[1],
        provider=found[2],
        model=found[3],
        tags=decode_tags(found[4]),
        at=found[5],
        reserved=found[6],
        state=found[7],
        amount=found[8],
        outcome=found[9],
        usage=_usage(found[10:15], found[15]),
        submitter=found[16],
    )


def _usage(tokens: Sequence[int], estimated: int) -> Usage:
    counts = dict(zip(_TOKENS, tokens, strict=True))
    return Usage(**counts, estimated=bool(estimated))
