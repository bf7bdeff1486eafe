"""Budgets in the running service: never passed, and no request that fits is refused.

The provider keeps its own bill: what it says that it was paid is compared with what
the budgets and the ledger say.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from duckservice.calls.call import CallOptions, Submitter
from duckservice.completion import (
    ChatRequest,
    Chunk,
    Completion,
    EmbeddingRequest,
    ImageRequest,
    Usage,
)
from duckservice.config import (
    BudgetConfig,
    BudgetMatch,
    Config,
    PriceConfig,
    RetryConfig,
    RoutingConfig,
)
from duckservice.core.budget_rule import Spender
from duckservice.core.pricing import Price, pico, usd
from duckservice.errors import (
    BudgetExceeded,
    CircuitOpen,
    DuckError,
    ProviderError,
    Unavailable,
)
from duckservice.events import BudgetAlert
from duckservice.money.budgets import Budgets
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.running import RunningService
from duckservice.store.base import LedgerEntry, LedgerFilter, StoreUnavailable
from duckservice.store.memory import MemoryStore
from duckservice.tree import Guarded
from tests.jobs.conftest import EPOCH, job, running
from tests.service.conftest import chat, mock_config

PRICE = PriceConfig(input="0", output="1")
CALL = 100 * 10**6
"""Picodollars of one call with `REQUEST`: 100 tokens."""
REQUEST = chat(max_tokens=100)


class Billed(MockProvider):
    """A provider whose replies are as long as they may be, and that writes its bill."""

    def __init__(self, name: str, *, takes: float = 0.1, tokens: int = 100) -> None:
        super().__init__(name, MockScript(), models=("mock-*",), price=PRICE)
        self.bill = list[int]()
        self.takes, self.tokens = takes, tokens
        self.failures = list[DuckError]()

    async def complete(self, request: ChatRequest) -> Completion:
        await trio.sleep(self.takes)
        if self.failures:
            raise self.failures.pop()
        self.bill.append(self.tokens * 10**6)
        reply = await super().complete(request)
        return attrs.evolve(reply, usage=Usage(output_tokens=self.tokens))


def budget(calls: float, window: Any = "day", **match: Any) -> BudgetConfig:
    limit = usd(int(calls * CALL))
    its = BudgetMatch(**match) if match else None
    return BudgetConfig(limit_usd=limit, window=window, match=its)


def with_budgets(*names: str, **budgets: BudgetConfig) -> Config:
    config = mock_config(*names, max_concurrency=500)
    return attrs.evolve(config, budgets=budgets)


async def spent(store: MemoryStore) -> int:
    return sum(one.amount for one in await store.sums(LedgerFilter()))


def of(service: RunningService, name: str, what: str) -> int:
    (its,) = [each for each in service.budgets() if each["name"] == name]
    return pico(its[f"{what}_usd"])


@pytest.mark.parametrize("takes", [0.0, 0.1])
async def test_a_budget_of_10_calls_admits_10_of_200_at_once(
    autojump_clock, takes
) -> None:
    provider, store = Billed("a", takes=takes), MemoryStore()
    outcomes = list[str]()
    config = with_budgets("a", all=budget(10))
    async with running(config, store, a=provider) as (service, _):

        async def one() -> None:
            try:
                await service.complete(REQUEST)
                outcomes.append("ok")
            except BudgetExceeded:
                outcomes.append("refused")
            assert of(service, "all", "spent") + of(service, "all", "reserved") <= (
                10 * CALL
            )

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(one)
    assert (outcomes.count("ok"), len(provider.bill)) == (10, 10)
    assert await spent(store) == sum(provider.bill) == 10 * CALL


async def test_what_turns_out_cheaper_leaves_room_for_more(autojump_clock) -> None:
    provider = Billed("a", tokens=50)
    async with running(with_budgets("a", all=budget(10)), a=provider) as (service, _):
        for _ in range(19):
            await service.complete(REQUEST)
        with pytest.raises(BudgetExceeded):
            await service.complete(REQUEST)
    assert sum(provider.bill) == 19 * CALL // 2


async def test_a_provider_whose_budget_is_empty_is_passed_over(autojump_clock) -> None:
    a, b = Billed("a"), Billed("b")
    config = with_budgets("a", "b", of_a=budget(2, provider="a"))
    async with running(config, a=a, b=b) as (service, _):
        served = [(await service.complete(REQUEST)).report.provider for _ in range(5)]
    assert served == ["a", "a", "b", "b", "b"]


async def test_where_all_providers_budgets_are_empty_that_is_what_is_said(
    autojump_clock,
) -> None:
    config = with_budgets(
        "a", "b", of_a=budget(1, provider="a"), of_b=budget(1, "hour", provider="b")
    )
    async with running(config, a=Billed("a"), b=Billed("b")) as (service, _):
        for _ in range(2):
            await service.complete(REQUEST)
        with pytest.raises(BudgetExceeded) as caught:
            await service.complete(REQUEST)
    assert caught.value.budget == "of_b"
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 3600


async def test_a_model_whose_budget_is_empty_is_replaced_by_its_fallback(
    autojump_clock,
) -> None:
    config = attrs.evolve(
        with_budgets("a", big=budget(1, model="mock-1")),
        routing=RoutingConfig(fallbacks={"mock-1": ("mock-2",)}),
    )
    async with running(config, a=Billed("a")) as (service, _):
        models = [(await service.complete(REQUEST)).report.model for _ in range(3)]
    assert models == ["mock-1", "mock-2", "mock-2"]


async def test_a_submitters_budget_binds_nobody_else(autojump_clock) -> None:
    config = with_budgets("a", mine=budget(1, submitter=1000))
    me, other = (
        CallOptions(submitter=Submitter(uid=uid, gid=uid, pid=1)) for uid in (1000, 0)
    )
    async with running(config, a=Billed("a")) as (service, _):
        await service.complete(REQUEST, me)
        for options in (other, CallOptions()):
            await service.complete(REQUEST, options)
        with pytest.raises(BudgetExceeded):
            await service.complete(REQUEST, me)


async def test_of_several_budgets_all_are_reserved_or_none(autojump_clock) -> None:
    config = with_budgets(
        "a", all=budget(10), core=budget(1, tag="team=core"), x=budget(5, model="x*")
    )
    core = CallOptions(tags={"team": "core"})
    async with running(config, a=Billed("a")) as (service, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.complete, REQUEST, core)
            await trio.sleep(0.05)
            with pytest.raises(BudgetExceeded):
                await service.complete(REQUEST, core)
            assert of(service, "all", "reserved") == CALL
            assert of(service, "core", "reserved") == CALL
        assert of(service, "all", "reserved") == 0
        assert of(service, "all", "spent") == of(service, "core", "spent") == CALL
        assert of(service, "x", "spent") == 0


async def test_each_retry_is_reserved_and_written_down_by_itself(
    autojump_clock,
) -> None:
    provider, store = Billed("a"), MemoryStore()
    provider.failures = [ProviderError("down", provider="a")]
    async with running(with_budgets("a", all=budget(1)), store, a=provider) as (
        service,
        _,
    ):
        assert (await service.complete(REQUEST)).report.attempts == 2
        assert of(service, "all", "spent") == CALL
    (one,) = await store.sums(LedgerFilter())
    assert (one.entries, one.failures, one.open) == (2, 1, 0)


async def test_a_provider_that_bills_more_is_written_down_and_asked_no_more(
    autojump_clock,
) -> None:
    provider, store = Billed("a", tokens=300), MemoryStore()
    config = with_budgets("a", all=budget(2))
    async with running(config, store, a=provider) as (service, _):
        await service.complete(REQUEST)
        assert of(service, "all", "spent") == 3 * CALL
        with pytest.raises(BudgetExceeded):
            await service.complete(REQUEST)
    assert await spent(store) == sum(provider.bill)


async def test_a_stream_that_is_left_early_counts_with_all_that_was_reserved(
    autojump_clock,
) -> None:
    store = MemoryStore()
    provider = MockProvider("a", MockScript(chunk_interval=1.0), price=PRICE)
    config = with_budgets("a", all=budget(5))
    text = "one two three four five six"
    async with running(config, store, a=provider) as (service, _):
        async with service.stream(chat(text, max_tokens=100)) as answer:
            with trio.move_on_after(3.5):
                async for _batch in answer.batches:
                    pass
        assert of(service, "all", "spent") == CALL
        assert of(service, "all", "reserved") == 0
    # What it has probably cost is less, but the budget does not rely on that.
    assert 0 < await spent(store) < CALL
    async with running(config, store, a=provider) as (service, _):
        assert of(service, "all", "spent") == CALL


async def test_embeddings_and_pictures_are_reserved_too(
    autojump_clock, monkeypatch
) -> None:
    provider = MockProvider("a", price=PriceConfig(input="1", output="1"))
    monkeypatch.setattr(provider, "image_bound", lambda _: Usage(output_tokens=100))
    config = with_budgets("a", all=budget(1000, "hour"))
    store = MemoryStore()
    async with running(config, store, a=provider) as (service, _):
        await service.embed(EmbeddingRequest(model="mock-1", input=("x" * 100,)))
        assert of(service, "all", "spent") > 0
        before = of(service, "all", "spent")
        await service.generate_images(ImageRequest(model="mock-1", prompt="a duck"))
        assert of(service, "all", "spent") > before
        assert len(await store.sums(LedgerFilter())) == 1
    config = with_budgets("a", all=budget(0.0001, "hour"))
    async with running(config, a=provider) as (service, _):
        with pytest.raises(BudgetExceeded):
            await service.embed(EmbeddingRequest(model="mock-1", input=("x" * 9999,)))
        with pytest.raises(BudgetExceeded):
            await service.generate_images(ImageRequest(model="mock-1", prompt="a"))


async def test_a_budget_of_nothing_allows_what_is_free(autojump_clock) -> None:
    free = MockProvider("a", price=PriceConfig(input="0", output="0"))
    async with running(with_budgets("a", all=budget(0)), a=free) as (service, _):
        await service.complete(REQUEST)
    async with running(with_budgets("a", all=budget(0)), a=Billed("a")) as (service, _):
        with pytest.raises(BudgetExceeded) as caught:
            await service.complete(REQUEST)
        assert not caught.value.retryable


async def test_what_can_never_fit_is_not_to_be_sent_again(autojump_clock) -> None:
    config = with_budgets("a", all=budget(10), of_a=budget(20, provider="a"))
    async with running(config, a=Billed("a")) as (service, _):
        await service.complete(REQUEST)
        with pytest.raises(BudgetExceeded) as caught:
            await service.complete(chat(max_tokens=1001))
    assert (caught.value.retryable, caught.value.retry_after) == (False, None)
    assert caught.value.budget == "all"
    assert str(caught.value).endswith(
        "more than the whole of the budget 'all' (0.001 USD a day)"
    )


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ("hour", "an hour) 0 USD are left; a new hour begins at 1970-01-12 14:00 UTC"),
        ("day", "a day) 0 USD are left; a new day begins at 1970-01-13 00:00 UTC"),
        (
            "month",
            "a month) 0 USD are left; a new month begins at 1970-02-01 00:00 UTC",
        ),
        ("total", "in total) 0 USD are left"),
    ],
)
async def test_what_does_not_fit_now_is_told_when_it_will(
    autojump_clock, window, said
) -> None:
    config = with_budgets("a", all=budget(1, window))
    async with running(config, a=Billed("a")) as (service, _):
        await service.complete(REQUEST)
        with pytest.raises(BudgetExceeded) as caught:
            await service.complete(REQUEST)
    assert caught.value.retryable
    assert str(caught.value).endswith(f"of the budget 'all' (0.0001 USD {said}")


async def test_what_waits_for_others_is_told_that_they_are_under_way(
    autojump_clock,
) -> None:
    config = with_budgets("a", all=budget(1))
    async with (
        running(config, a=Billed("a")) as (service, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(service.complete, REQUEST)
        await trio.sleep(0.05)
        with pytest.raises(BudgetExceeded, match="with what is under way") as caught:
            await service.complete(REQUEST)
    assert caught.value.retry_after == 2


async def test_who_sets_no_max_tokens_is_told_which_budgets_want_it_and_how(
    autojump_clock,
) -> None:
    config = with_budgets("a", all=budget(9), of_a=budget(9, provider="a"))
    async with running(config, a=Billed("a")) as (service, _):
        with pytest.raises(BudgetExceeded, match="'all', 'of_a'") as caught:
            await service.complete(chat())
        assert "--max-tokens N" in str(caught.value)
        limited = CallOptions(max_cost=CALL)
        with pytest.raises(BudgetExceeded, match="--max-tokens N"):
            await service.complete(chat(), limited)


# The ledger.


@attrs.define(slots=False)
class Refusing:
    """A store that refuses some of what it is asked."""

    store: MemoryStore
    refuses: set[str] = attrs.field(factory=set)
    after_all: bool = False
    """Whether it has done it, and says that it has not."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        if name not in self.refuses:
            return method

        async def refuse(*args: Any, **kwargs: Any) -> None:
            if self.after_all:
                await method(*args, **kwargs)
            await trio.lowlevel.checkpoint()
            raise StoreUnavailable("the disk is full", may_recover=True)

        return refuse


async def test_a_reservation_is_committed_before_the_provider_is_asked(
    autojump_clock,
) -> None:
    provider, store = Billed("a"), MemoryStore()
    seen = list[int]()
    complete = provider.complete

    async def look_and_complete(request: ChatRequest) -> Completion:
        seen.append(sum(entry.reserved for entry in await store.open_entries()))
        return await complete(request)

    provider.complete = look_and_complete  # type: ignore[method-assign]
    async with running(with_budgets("a", all=budget(3)), store, a=provider) as (
        service,
        _,
    ):
        for _ in range(3):
            await service.complete(REQUEST)
            await trio.sleep(1)
    assert seen == [CALL] * 3
    assert await store.open_entries() == ()


@pytest.mark.parametrize("after_all", [False, True])
async def test_a_store_that_cannot_write_stops_what_a_budget_binds_and_nothing_else(
    autojump_clock, after_all
) -> None:
    provider, store = Billed("a"), MemoryStore()
    refusing: Any = Refusing(store, after_all=after_all)
    config = with_budgets("a", core=budget(3, tag="team=core"))
    core = CallOptions(tags={"team": "core"})
    async with running(config, refusing, a=provider) as (service, _):
        refusing.refuses = {"record"}
        with pytest.raises(Unavailable, match="cannot be written"):
            await service.complete(REQUEST, core)
        assert provider.bill == []
        assert of(service, "core", "reserved") == 0
        await service.complete(REQUEST)
        refusing.refuses = set()
        await service.complete(REQUEST, core)
        await trio.sleep(10)
        assert await store.open_entries() == ()
    assert await spent(store) == sum(provider.bill) == 2 * CALL


@pytest.mark.parametrize("after_all", [False, True])
async def test_who_needs_no_reservation_serves_where_none_can_be_written(
    autojump_clock, after_all
) -> None:
    a, b, store = Billed("a"), Billed("b"), MemoryStore()
    refusing: Any = Refusing(store, {"record"}, after_all=after_all)
    config = with_budgets("a", "b", of_a=budget(3, provider="a"))
    async with running(config, refusing, a=a, b=b) as (service, _):
        assert (await service.complete(REQUEST)).report.provider == "b"
        refusing.refuses = set()
        await trio.sleep(10)
        # What was not sent has an entry of its own, if it has one, and no other's.
        assert await store.open_entries() == ()
    assert (a.bill, b.bill) == ([], [CALL])
    assert await spent(store) == CALL


async def test_a_settlement_that_is_written_twice_counts_once(autojump_clock) -> None:
    provider, store = Billed("a"), MemoryStore()
    refusing: Any = Refusing(store, {"settle_entries"}, after_all=True)
    config = with_budgets("a", all=budget(3))
    async with running(config, refusing, a=provider) as (service, _):
        await service.complete(REQUEST)
        await trio.sleep(3)
        refusing.refuses = set()
        await trio.sleep(3)
    (one,) = await store.sums(LedgerFilter())
    assert (one.entries, one.amount, one.open) == (1, CALL, 0)


async def test_a_client_that_hangs_up_before_it_is_sent_costs_nothing(
    autojump_clock,
) -> None:
    provider, store = Billed("a"), MemoryStore()
    record = store.record

    async def slow(entries: Any) -> None:
        await record(entries)
        await trio.sleep(5)

    store.record = slow  # type: ignore[method-assign]
    async with running(with_budgets("a", all=budget(3)), store, a=provider) as (
        service,
        _,
    ):
        with trio.move_on_after(1):
            await service.complete(REQUEST)
        assert of(service, "all", "reserved") == of(service, "all", "spent") == 0
        await trio.sleep(5)
    assert provider.bill == []
    (one,) = await store.sums(LedgerFilter())
    assert (one.amount, one.open) == (0, 0)


async def test_what_a_dead_process_had_in_flight_counts_in_full(autojump_clock) -> None:
    provider, store = Billed("a", takes=5), MemoryStore()
    dead: Any = Refusing(store)
    config = with_budgets("a", all=budget(3))
    async with (
        running(config, dead, a=provider) as (service, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(service.complete, REQUEST)
        await trio.sleep(1)
        # From here on nothing that it does is on the disk any more.
        dead.refuses = {"settle_entries", "record", "settle_entry"}
        nursery.cancel_scope.cancel()
    async with running(config, store, a=Billed("a")) as (service, _):
        assert of(service, "all", "spent") == CALL
        for _ in range(2):
            await service.complete(REQUEST)
        with pytest.raises(BudgetExceeded):
            await service.complete(REQUEST)


async def test_actors_that_crash_lose_no_money(autojump_clock) -> None:
    provider, store = Billed("a", takes=0.3), MemoryStore()
    done = list[str]()
    config = with_budgets("a", all=budget(40))
    async with running(config, store, a=provider) as (service, _):

        async def one() -> None:
            try:
                await service.complete(REQUEST)
                done.append("ok")
            except DuckError as error:
                done.append(error.code)

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(one)
                if number % 6 == 0:
                    paths = ("ledger", "cost_tracker", "request_queue")
                    await service.restart_actor(paths[number // 6 % 3])
                await trio.sleep(0.05)
        await trio.sleep(3)
        assert of(service, "all", "spent") == await spent(store)
        assert of(service, "all", "spent") >= sum(provider.bill)
        assert of(service, "all", "spent") <= 40 * CALL
        assert of(service, "all", "reserved") == 0
    assert done.count("ok") >= 30


# Time.


async def test_a_request_that_waited_into_a_new_window_belongs_to_that_one(
    autojump_clock,
) -> None:
    left = 3600 - EPOCH % 3600
    config = attrs.evolve(
        mock_config("a", max_concurrency=1), budgets={"all": budget(2, "hour")}
    )
    store = MemoryStore()
    async with running(config, store, a=Billed("a", takes=10)) as (service, _):
        await trio.sleep(left - 5)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(service.complete, REQUEST)
            await trio.sleep(7)
            # The one was sent in the last hour, and the other waits since then.
            assert of(service, "all", "reserved") == 0
            await trio.sleep(5)
            assert of(service, "all", "reserved") == CALL
        assert of(service, "all", "spent") == CALL
        hours = {one.hour: one.amount for one in await ended(store)}
    assert sorted(hours.values()) == [CALL, CALL]


async def ended(store: MemoryStore) -> tuple[Any, ...]:
    await trio.sleep(1)
    return await store.sums(LedgerFilter())


# Alerts.


async def test_half_nearly_all_and_all_are_told_once(autojump_clock) -> None:
    store, config = MemoryStore(), with_budgets("a", all=budget(10))
    told = list[int]()
    for _ in range(3):
        async with running(config, store, a=Billed("a")) as (service, events):
            for _ in range(4):
                try:
                    await service.complete(REQUEST)
                except BudgetExceeded:
                    continue
            await trio.sleep(1)
            told += [each.share for each in events if isinstance(each, BudgetAlert)]
    assert told == [50, 80, 100]


async def test_what_was_lost_with_a_process_is_told_of_at_the_next_start(
    autojump_clock,
) -> None:
    store, told = MemoryStore(), list[BudgetAlert]()
    lost = LedgerEntry(
        id="lost", provider="a", model="mock-1", at=EPOCH, reserved=8 * CALL
    )
    await store.record([lost])
    budgets = Budgets.of({"all": budget(10)}, lambda: EPOCH)
    budgets.alerts.emit = told.append
    await budgets.load(store)
    await budgets.load(store)
    assert [(its.budget, its.share) for its in told] == [("all", 80)]
    assert [its.budget.settled for its in budgets.states()] == [8 * CALL]


def test_what_has_no_bound_can_never_be_spent_where_a_budget_binds() -> None:
    budgets = Budgets.of({"of-a": budget(10, provider="a")}, lambda: EPOCH)
    bound, free = Spender(provider="a"), Spender(provider="b")
    refused = budgets.never(bound, None, "no max_tokens")
    assert isinstance(refused, BudgetExceeded)
    assert "no max_tokens" in refused.message
    assert budgets.never(free, None, "no max_tokens") is None
    assert budgets.never(bound, 10 * CALL, "") is None
    assert isinstance(budgets.never(bound, 10 * CALL + 1, ""), BudgetExceeded)


async def test_a_refusal_tells_that_nothing_is_left(autojump_clock) -> None:
    config = with_budgets("a", all=budget(1.5))
    async with running(config, a=Billed("a")) as (service, events):
        await service.complete(REQUEST)
        for _ in range(2):
            with pytest.raises(BudgetExceeded):
                await service.complete(REQUEST)
        with pytest.raises(BudgetExceeded):
            await service.complete(chat(max_tokens=10_000))
        told = [each for each in events if isinstance(each, BudgetAlert)]
    assert [each.share for each in told] == [50, 100]
    assert [each.why for each in told] == [
        "so much of it is spent",
        "it has refused a request that may cost more than is left",
    ]


async def test_hedged_requests_are_two_reservations(
    autojump_clock,
) -> None:
    a, b, store = Billed("a", takes=10), Billed("b", takes=1), MemoryStore()
    config = attrs.evolve(
        with_budgets("a", "b", all=budget(2)), routing=RoutingConfig(hedge_after=1.0)
    )
    async with running(config, store, a=a, b=b) as (service, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.complete, REQUEST)
            await trio.sleep(1.5)
            assert of(service, "all", "reserved") == 2 * CALL
        # The one that lost may be billed, too: it counts in full.
        assert of(service, "all", "spent") == 2 * CALL
        assert of(service, "all", "reserved") == 0
    (one, other) = await store.sums(LedgerFilter())
    assert one.entries == other.entries == 1


class Raised(Billed):
    """Its price goes up while it answers."""

    guarded: Guarded

    async def complete(self, request: ChatRequest) -> Completion:
        reply = await super().complete(request)
        self._go_up()
        return reply

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest
    ) -> AsyncGenerator[AsyncIterator[Sequence[Chunk]]]:
        async with super().stream(request) as batches:
            self._go_up()
            yield batches

    def _go_up(self) -> None:
        """Do what a config that is read again does."""
        dearer = Billed(self.name)
        dearer._price = Price.usd_per_mtok(input="0", output="3")
        self.guarded.client.renew(lambda: dearer, dearer)


@pytest.mark.parametrize("way", ["whole", "streamed", "a job"])
async def test_a_price_that_is_raised_under_way_is_that_of_the_next_request(
    autojump_clock, way
) -> None:
    provider, store = Raised("a"), MemoryStore()
    config = with_budgets("a", all=budget(1))
    text = "word " * 79 + "word."  # 400 bytes are 100 tokens
    async with running(config, store, a=provider) as (service, _):
        provider.guarded = service.parts.providers["a"]
        request = chat(text, max_tokens=100)
        if way == "whole":
            await service.complete(request)
        elif way == "streamed":
            async with service.stream(request) as streaming:
                async for _ in streaming.batches:
                    pass
        else:
            body = {
                "model": "mock-1",
                "messages": [{"role": "user", "content": text}],
                "max_tokens": 100,
            }
            its = await service.jobs.submit(job(request=body))
            assert (await service.jobs.wait(its.job.id)).job.cost == CALL
        assert of(service, "all", "spent") == CALL
        with pytest.raises(BudgetExceeded, match=r"0\.0003 USD"):
            await service.complete(REQUEST)
    assert await spent(store) == CALL


async def test_what_a_slow_disk_has_made_too_late_costs_nothing_and_is_not_sent(
    autojump_clock,
) -> None:
    provider, store = Billed("a"), MemoryStore()
    record = store.record

    async def slow(entries: Any) -> None:
        await record(entries)
        await trio.sleep(5)

    store.record = slow  # type: ignore[method-assign]
    config = with_budgets("a", core=budget(3, tag="team=core"))
    config = attrs.evolve(config, retry=RetryConfig(max_attempts=1))
    core = CallOptions(tags={"team": "core"})
    provider.failures = [ProviderError("down", provider="a") for _ in range(3)]

    async def fails(service: RunningService) -> None:
        with pytest.raises(ProviderError):
            await service.complete(REQUEST)

    async with running(config, store, a=provider) as (service, _):
        async with trio.open_nursery() as nursery:
            for _ in range(3):  # so many that the breaker opens
                nursery.start_soon(fails, service)
            with pytest.raises(CircuitOpen):
                await service.complete(REQUEST, core)
        assert of(service, "core", "reserved") == of(service, "core", "spent") == 0
        await trio.sleep(20)
        assert await store.open_entries() == ()
    assert provider.bill == []
    assert await spent(store) == 0
