"""What requests cost gets into the ledger once, also where its store fails."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from duckservice.completion import Usage
from duckservice.config import BudgetConfig, BudgetMatch
from duckservice.core.job import Settlement
from duckservice.errors import InvalidRequest, Unavailable
from duckservice.events import EntryLost, Event
from duckservice.money.budgets import Budgets
from duckservice.money.ledger import OPEN_MAX, UNSENT, WINDOW, LedgerBuffer
from duckservice.store.base import (
    LedgerEntry,
    LedgerFilter,
    LedgerSum,
    StoreUnavailable,
)
from duckservice.store.memory import MemoryStore
from duckservice.store.sqlite import open_sqlite
from tests.jobs.conftest import EPOCH


def entry(id_: str) -> LedgerEntry:
    return LedgerEntry(
        id=id_,
        provider="a",
        model="m",
        at=EPOCH,
        reserved=7,
        state="settled",
        amount=7,
        outcome="ok",
    )


@attrs.define(slots=False)
class SlowLedger:
    """A store that takes a second to write, and may fail after its commit."""

    store: MemoryStore
    failures: int = 0

    async def record(self, entries: Any) -> None:
        await trio.sleep(1)
        await self.store.record(entries)
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the disk is full", may_recover=True)


async def spent(store: MemoryStore) -> int:
    return sum(one.amount for one in await store.sums(LedgerFilter()))


async def test_what_comes_while_others_are_written_is_written_too(
    nursery, autojump_clock
) -> None:
    store, buffer = MemoryStore(), LedgerBuffer()
    nursery.start_soon(buffer.run, SlowLedger(store))
    buffer.add(entry("1"))
    await trio.sleep(1)
    buffer.add(entry("2"))
    await trio.sleep(10)
    assert await spent(store) == 14


async def test_what_a_failing_store_has_written_after_all_is_not_written_again(
    nursery, autojump_clock
) -> None:
    store, buffer = MemoryStore(), LedgerBuffer()
    nursery.start_soon(buffer.run, SlowLedger(store, failures=1))
    buffer.add(entry("1"))
    buffer.add(entry("2"))
    await trio.sleep(1.5)
    buffer.add(entry("3"))
    await trio.sleep(60)
    assert await spent(store) == 21


@attrs.define(slots=False)
class Picky:
    """A store that keeps no *poison*, and may fail between two entries."""

    store: MemoryStore
    poison: str = ""
    failures: int = 0

    async def record(self, entries: Any) -> None:
        self._must_take([its.id for its in entries], [its.amount for its in entries])
        await self.store.record(entries)

    async def settle_entries(self, settlements: Any) -> None:
        ids = [its for its, _ in settlements]
        self._must_take(ids, [its.cost for _, its in settlements])
        await self.store.settle_entries(settlements)

    def _must_take(self, ids: list[str], costs: list[int | None]) -> None:
        if self.failures and len(ids) == 1:
            self.failures -= 1
            raise StoreUnavailable("the disk is full", may_recover=True)
        if any(
            its == self.poison and cost for its, cost in zip(ids, costs, strict=True)
        ):
            raise InvalidRequest("this cannot be stored: a number is too large")


def told(buffer: LedgerBuffer) -> list[Event]:
    events = list[Event]()
    buffer.emit = events.append
    return events


@pytest.mark.parametrize("failures", [0, 2])
async def test_what_the_store_cannot_keep_is_put_aside_and_the_rest_is_written(
    nursery, autojump_clock, failures
) -> None:
    store, buffer = MemoryStore(), LedgerBuffer()
    events = told(buffer)
    nursery.start_soon(buffer.run, Picky(store, "2", failures))
    for id_ in ("1", "2", "3"):
        buffer.add(entry(id_))
    await trio.sleep(10)
    assert await spent(store) == 14
    assert buffer.dropped == 1
    lost = EntryLost(entry="2", reason="this cannot be stored: a number is too large")
    assert events == [lost]
    buffer.add(entry("4"))
    await trio.sleep(10)
    assert (await spent(store), buffer.dropped) == (21, 1)


@pytest.mark.parametrize("failures", [0, 2])
async def test_a_settlement_that_cannot_be_kept_counts_with_what_was_reserved(
    nursery, autojump_clock, failures
) -> None:
    store, buffer = MemoryStore(), LedgerBuffer()
    events = told(buffer)
    buffer.store = store
    for id_ in ("1", "2", "3"):
        await buffer.open(attrs.evolve(entry(id_), state="open", amount=0))
    nursery.start_soon(buffer.run, Picky(store, "2", failures))
    for id_ in ("1", "2", "3"):
        buffer.settle(id_, Settlement(outcome="ok", cost=5))
    await trio.sleep(10)
    [its] = await store.sums(LedgerFilter())
    assert (its.open, its.amount, its.unpriced) == (0, 10, 1)
    assert its.counted == 5 + 7 + 5
    assert buffer.dropped == 1
    assert [type(event) for event in events] == [EntryLost]


HUGE = 2**63


def unstorable() -> list[LedgerEntry]:
    sound = entry("x")
    return [
        attrs.evolve(sound, id="a", amount=HUGE),
        attrs.evolve(sound, id="b", reserved=HUGE),
        attrs.evolve(sound, id="c", usage=Usage(input_tokens=HUGE)),
        attrs.evolve(sound, id="d", model="\ud800"),
        attrs.evolve(sound, id="e", tags={"\udfff": "x"}),
        attrs.evolve(sound, id="f", tags={"x": "\ud800"}),
    ]


async def test_no_entry_ends_the_child_that_writes_to_the_database(tmp_path) -> None:
    buffer = LedgerBuffer()
    events = told(buffer)
    async with open_sqlite(tmp_path / "jobs.sqlite3") as store:
        buffer.store = store
        await buffer.open(attrs.evolve(entry("open"), state="open", amount=0))
        buffer.add(entry("1"))
        for its in unstorable():
            buffer.add(its)
        buffer.add(entry("2"))
        usage = Usage(output_tokens=HUGE)
        buffer.settle("open", Settlement(outcome="ok", usage=usage, cost=HUGE))
        with trio.CancelScope() as scope:
            scope.cancel()  # what is left is written at the end
            await buffer.run(store)
        [sums] = await store.sums(LedgerFilter())
        assert (sums.entries, sums.open, sums.amount, sums.counted) == (3, 0, 14, 21)
    assert buffer.dropped == len(unstorable()) + 1
    lost = [event.entry for event in events if isinstance(event, EntryLost)]
    assert lost == [*"abcdef", "open"]


@attrs.define
class OnceUnreadable:
    """A store whose second sum fails, once."""

    asked: int = 0

    async def sums(self, which: LedgerFilter) -> tuple[LedgerSum, ...]:
        self.asked += 1
        if self.asked == 2:
            raise StoreUnavailable("the disk is gone", may_recover=True)
        its = LedgerSum(
            provider="a", model="m", hour=int(EPOCH // 3600), counted=10, sure=10
        )
        return (its,)

    async def flags(self) -> dict[str, str]:
        return {}


async def test_what_was_spent_is_loaded_once_where_the_store_fails_in_between() -> None:
    limit = BudgetConfig(limit_usd="1", window="day")
    of_a_tag = attrs.evolve(limit, match=BudgetMatch(tag="a=b"))
    budgets = Budgets.of({"one": limit, "two": of_a_tag}, lambda: EPOCH)
    store: Any = OnceUnreadable()
    with pytest.raises(StoreUnavailable):
        await budgets.load(store)
    await budgets.load(store)
    assert [state.budget.settled for state in budgets.states()] == [10, 10]


def reserved(id_: str) -> LedgerEntry:
    return LedgerEntry(id=id_, provider="a", model="m", at=EPOCH, reserved=7)


PAID = Settlement(outcome="ok", cost=3)


async def test_what_is_left_when_the_daemon_stops_is_written_then(
    nursery, autojump_clock
) -> None:
    store, buffer = MemoryStore(), LedgerBuffer()
    stop = trio.CancelScope()
    nursery.start_soon(_run_in, stop, buffer, store)
    await trio.sleep(10)
    buffer.add(entry("1"))
    stop.cancel()
    await trio.sleep(10)
    assert await spent(store) == 7


async def test_a_disk_that_hangs_has_nothing_sent_and_nothing_left_open(
    nursery, autojump_clock
) -> None:
    store = MemoryStore()
    record = store.record

    async def hang(entries: Any) -> None:
        await record(entries)
        await trio.sleep_forever()

    store.record = hang  # type: ignore[method-assign]
    buffer = LedgerBuffer(store=store)
    nursery.start_soon(buffer.run, store)
    with pytest.raises(Unavailable, match="did not answer within 10 s"):
        await buffer.open(reserved("1"))
    assert trio.current_time() == OPEN_MAX
    await trio.sleep(10)
    assert await store.open_entries() == ()
    assert await spent(store) == 0


async def test_while_it_is_held_nothing_is_written_and_all_that_counts_is_told(
    nursery, autojump_clock
) -> None:
    store = MemoryStore()
    buffer = LedgerBuffer(store=store)
    for id_ in ("paid", "unsent", "under way"):
        await buffer.open(reserved(id_))
    buffer.add(entry("waiting"))
    buffer.settle("paid", PAID)
    buffer.settle("unsent", UNSENT)
    nursery.start_soon(buffer.run, store)
    async with buffer.held() as unwritten:
        assert [(its.id, its.amount) for its in unwritten] == [
            ("waiting", 7),
            ("paid", 3),
        ]
        await trio.sleep(10)
        assert await spent(store) == 0
    await trio.sleep(10)
    assert await spent(store) == 10
    async with buffer.held() as unwritten:
        assert unwritten == ()


async def test_a_flag_is_written_though_nothing_else_is(
    nursery, autojump_clock
) -> None:
    store, buffer = MemoryStore(), LedgerBuffer()
    nursery.start_soon(buffer.run, store)
    await trio.sleep(10)
    buffer.remember("told", "yes")
    await trio.sleep(1)
    assert await store.flags() == {"told": "yes"}


async def test_a_flag_that_changes_while_it_is_written_is_written_again(
    nursery, autojump_clock
) -> None:
    store, buffer = MemoryStore(), LedgerBuffer()
    set_flag = store.set_flag

    async def slow(flag: str, value: str) -> None:
        await trio.sleep(1)
        await set_flag(flag, value)

    store.set_flag = slow  # type: ignore[method-assign]
    nursery.start_soon(buffer.run, store)
    buffer.remember("told", "50")
    await trio.sleep(WINDOW + 0.5)
    buffer.remember("told", "80")
    await trio.sleep(10)
    assert await store.flags() == {"told": "80"}


async def test_what_does_not_fit_into_memory_is_counted_and_the_rest_is_written(
    nursery, autojump_clock, monkeypatch
) -> None:
    monkeypatch.setattr("duckservice.money.ledger.WAITING_MAX", 2)
    store = MemoryStore()
    buffer = LedgerBuffer(store=store)
    await buffer.open(reserved("opened"))
    buffer.add(entry("1"))
    buffer.add(entry("2"))
    buffer.add(entry("3"))
    buffer.settle("opened", PAID)
    assert buffer.dropped == 2
    nursery.start_soon(buffer.run, store)
    await trio.sleep(10)
    assert await spent(store) == 14
    assert [its.id for its in await store.open_entries()] == ["opened"]
    buffer.add(entry("4"))
    await trio.sleep(10)
    assert (await spent(store), buffer.dropped) == (21, 2)


async def test_where_nothing_is_kept_nothing_is_written_and_nobody_is_refused(
    nursery, autojump_clock
) -> None:
    await LedgerBuffer().open(reserved("no store yet"))
    store = MemoryStore()
    buffer = LedgerBuffer(enabled=False, store=store)
    nursery.start_soon(buffer.run, store)
    await buffer.open(reserved("opened"))
    buffer.add(entry("1"))
    buffer.remember("told", "yes")
    await trio.sleep(10)
    assert await store.open_entries() == ()
    assert (await spent(store), await store.flags()) == (0, {})
    assert buffer.dropped == 0


async def _run_in(
    scope: trio.CancelScope, buffer: LedgerBuffer, store: MemoryStore
) -> None:
    with scope:
        await buffer.run(store)
