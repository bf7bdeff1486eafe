"""What requests cost gets into the ledger once, also where its store fails."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from duckservice.budgets import Budgets
from duckservice.config import BudgetConfig, BudgetMatch
from duckservice.ledger import LedgerBuffer
from duckservice.store.base import (
    LedgerEntry,
    LedgerFilter,
    LedgerSum,
    StoreUnavailable,
)
from duckservice.store.memory import MemoryStore
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
