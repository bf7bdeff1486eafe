"""The money of one attempt: the caller's limit, and budgets that a reload brings."""

from __future__ import annotations

import attrs
import pytest

from duckservice.calls.attempt_money import AttemptMoney
from duckservice.calls.call import Call, CallOptions, CallReport
from duckservice.completion import AnyRequest, ImageRequest, Usage
from duckservice.config import BudgetConfig
from duckservice.core.pricing import usd
from duckservice.errors import BudgetExceeded
from duckservice.money.spending import worst_cost
from duckservice.providers.mock import MockProvider
from duckservice.running import RunningService
from tests.service.conftest import chat, mock_config, running

REQUEST = chat(max_tokens=100)
USED = Usage(output_tokens=10)
PICTURE = ImageRequest(model="mock-1", prompt="x")


def call(limit: int | None = None) -> Call:
    return Call(CallOptions(max_cost=limit), CallReport(job="job", request_id="req"))


def set_aside(
    service: RunningService, its: Call, request: AnyRequest = REQUEST
) -> AttemptMoney:
    guarded = service.parts.providers["a"]
    return AttemptMoney.set_aside(service.parts, its, guarded, request)


def worst(service: RunningService) -> int:
    found = worst_cost(service.parts.providers["a"].provider, REQUEST)
    assert found
    return found


def total(picodollars: int) -> BudgetConfig:
    return BudgetConfig(limit_usd=usd(picodollars), window="total")


async def bind(service: RunningService, **config: BudgetConfig) -> None:
    """Have budgets as a reload does."""
    parts = service.parts
    await parts.budgets.bind(config, parts.ledger, lambda _, model: model)


def books(service: RunningService) -> dict[str, tuple[int, int]]:
    """Return what is settled, and what is reserved, in each budget."""
    return {
        its.rule.name: (its.budget.settled, its.budget.reserved)
        for its in service.parts.budgets.states()
    }


# The limit of the caller.


async def test_another_attempt_under_way_is_in_the_callers_limit(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        its = call(2 * worst(service) - 1)
        first = set_aside(service, its)
        with pytest.raises(BudgetExceeded, match="with what was sent before") as caught:
            set_aside(service, its)
        assert caught.value.provider == "a"
        first.release()
        set_aside(service, its)
        its = call(2 * worst(service))
        for _ in range(2):
            set_aside(service, its)


async def test_what_an_attempt_has_surely_cost_is_in_the_callers_limit(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        most, cost = worst(service), 1000
        for limit, fits in ((most + cost, True), (most + cost - 1, False)):
            its = call(limit)
            set_aside(service, its).book("provider_error", USED, cost)
            assert its.at_most == cost
            if fits:
                set_aside(service, its)
            else:
                with pytest.raises(BudgetExceeded):
                    set_aside(service, its)


@pytest.mark.parametrize(
    ("usage", "cost"), [(attrs.evolve(USED, estimated=True), 1000), (USED, None)]
)
async def test_what_an_attempt_may_have_cost_is_in_the_callers_limit_in_full(
    autojump_clock, usage, cost
) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        its = call(2 * worst(service) - 1)
        set_aside(service, its).book("timeout", usage, cost)
        assert its.at_most == worst(service)
        with pytest.raises(BudgetExceeded):
            set_aside(service, its)


# Budgets that come with a reload.


async def test_a_full_budget_that_comes_before_it_is_sent_refuses_it(
    autojump_clock,
) -> None:
    config = attrs.evolve(mock_config("a"), budgets={"old": total(10**15)})
    async with running(config, a=MockProvider("a")) as (service, _):
        money = set_aside(service, call())
        money.obey_new_budgets()
        assert books(service) == {"old": (0, worst(service))}
        await bind(service, old=total(10**15), new=total(worst(service) - 1))
        with pytest.raises(BudgetExceeded) as caught:
            money.obey_new_budgets()
        assert caught.value.budget == "new"
        assert books(service) == {"old": (0, 0), "new": (0, 0)}
        money.release()
        assert books(service) == {"old": (0, 0), "new": (0, 0)}


async def test_nothing_is_sent_that_a_budget_refuses_which_came_meanwhile(
    autojump_clock, monkeypatch
) -> None:
    config = attrs.evolve(mock_config("a"), budgets={"old": total(10**15)})
    async with running(config, a=MockProvider("a")) as (service, _):

        async def while_it_reloads(_money: AttemptMoney) -> None:
            await bind(service, old=total(10**15), new=total(worst(service) - 1))

        monkeypatch.setattr(AttemptMoney, "open_entry", while_it_reloads)
        with pytest.raises(BudgetExceeded) as caught:
            await service.complete(REQUEST)
        assert caught.value.budget == "new"
        assert service.parts.board.providers["a"].requests == 0
        assert books(service) == {"old": (0, 0), "new": (0, 0)}


async def test_a_budget_with_room_that_comes_before_it_is_sent_has_it_once(
    autojump_clock,
) -> None:
    config = attrs.evolve(mock_config("a"), budgets={"old": total(10**15)})
    async with running(config, a=MockProvider("a")) as (service, _):
        money, most = set_aside(service, call()), worst(service)
        await bind(service, old=total(10**15), new=total(most))
        money.obey_new_budgets()
        assert books(service) == {"old": (0, most), "new": (0, most)}
        money.book("ok", USED, 7)
        assert books(service) == {"old": (7, 0), "new": (7, 0)}


async def test_a_budget_that_comes_after_it_was_sent_counts_what_it_cost(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        sent = [set_aside(service, call()) for _ in range(2)]
        assert [money.reservation for money in sent] == [None, None]
        await bind(service, new=total(10**15))
        sent[0].book("ok", USED, 7)
        sent[1].book("ok", USED, None)
        assert books(service) == {"new": (7, 0)}


# What it has cost.


async def test_who_bills_without_counting_tokens_is_believed(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        money = set_aside(service, call())
        assert money.cost(Usage(billed=7), ok=True) == 7
        assert money.cost(Usage(billed=7), ok=False) == 7
        assert money.cost(Usage(), ok=True) == 0


async def test_a_picture_has_cost_what_nobody_knows_where_it_was_made_uncounted(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        money = set_aside(service, call(), PICTURE)
        assert money.cost(Usage(), ok=True) is None
        assert money.cost(Usage(), ok=False) == 0
        assert money.cost(Usage(billed=7), ok=True) == 7
