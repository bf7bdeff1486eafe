"""Budgets bind jobs and requests alike; an empty one makes jobs wait, and fails none."""

from __future__ import annotations

import attrs
import pytest
import trio

from duckservice.calls.call import CallOptions, Submitter
from duckservice.config import BudgetConfig, BudgetMatch
from duckservice.core.pricing import pico, usd
from duckservice.errors import BudgetExceeded
from duckservice.money.spending import LEAST_REPLY
from duckservice.store.memory import MemoryStore
from tests.jobs.conftest import EPOCH, job as new_job, mock, running
from tests.service.conftest import chat, mock_config
from tests.service.test_budgets import Billed

HOUR_LEFT = 3600 - EPOCH % 3600


def job(text="one two", **more):
    request = {
        "model": more.pop("model", "mock-1"),
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 10,
    }
    return new_job(request=request, **more)


def with_budget(limit: str, *names, tag=None, **more):
    match = None if tag is None else BudgetMatch(tag=tag)
    budget = BudgetConfig(limit_usd=limit, window="hour", match=match)
    return attrs.evolve(mock_config(*names, **more), budgets={"small": budget})


async def test_jobs_wait_for_the_next_window_and_use_up_no_attempt(
    autojump_clock,
) -> None:
    async with running(with_budget("0.00002", "a"), a=mock("a")) as (service, _):
        ids = [(await service.jobs.submit(job())).job.id for _ in range(12)]
        await trio.sleep(60)
        views = [await service.jobs.get(id_) for id_ in ids]
        waiting = [v for v in views if v.job.state != "completed"]
        print(views[0].job.errors)
        assert 0 < len(waiting) < 12
        assert {v.wait_reason for v in waiting} == {"budget:small"}
        assert {v.wait_until for v in waiting} == {EPOCH + HOUR_LEFT}
        assert {v.job.attempt for v in waiting} == {0}
        [state] = service.budgets()
        assert pico(state["spent_usd"]) + pico(state["reserved_usd"]) <= pico("0.00002")
        done = (await service.jobs.wait(waiting[0].job.id)).job
        assert done.started_at is not None
        assert done.finished_at >= EPOCH + HOUR_LEFT


async def test_a_tags_budget_holds_back_that_tag_only(autojump_clock) -> None:
    config = with_budget("0.00002", "a", tag="team=core")
    async with running(config, a=mock("a")) as (service, _):
        await service.jobs.wait(
            (await service.jobs.submit(job(tags={"team": "core"}))).job.id
        )
        core = (await service.jobs.submit(job(tags={"team": "core"}))).job.id
        free = (await service.jobs.submit(job(tags={"team": "x"}))).job.id
        assert (await service.jobs.wait(free, 5)).job.state == "completed"
        await trio.sleep(5)
        assert (await service.jobs.get(core)).wait_reason == "budget:small"


async def test_a_request_is_refused_by_an_empty_budget(autojump_clock) -> None:
    config = with_budget("0.000001", "a")
    async with running(config, a=mock("a")) as (service, _):
        with pytest.raises(BudgetExceeded) as caught:
            await service.complete(chat(max_tokens=10))
        assert caught.value.budget == "small"
        with pytest.raises(BudgetExceeded, match="max_tokens"):
            await service.complete(chat())


async def test_requests_at_the_same_time_cannot_overspend_together(
    autojump_clock,
) -> None:
    config = with_budget("0.00003", "a")
    async with running(config, a=mock("a")) as (service, _):
        outcomes = []

        async def one() -> None:
            try:
                await service.complete(chat(max_tokens=10))
                outcomes.append("ok")
            except BudgetExceeded:
                outcomes.append("refused")

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(one)
        assert {"ok", "refused"} == set(outcomes)
        [state] = service.budgets()
        assert pico(state["spent_usd"]) <= pico("0.00003")
        assert state["reserved_usd"] == "0"


async def test_what_was_spent_is_known_after_a_restart(autojump_clock) -> None:
    store = MemoryStore()
    config = with_budget("1", "a")
    async with running(config, store, a=mock("a")) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await service.jobs.wait(id_)
        await service.complete(chat(max_tokens=10), CallOptions(tags={"t": "1"}))
        costs, budgets = await service.costs("provider"), service.budgets()
    async with running(config, store, a=mock("a")) as (service, _):
        assert await service.costs("provider") == costs
        assert service.budgets() == budgets


async def test_a_job_that_may_cost_more_than_its_own_limit_is_refused_at_once(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        with pytest.raises(BudgetExceeded, match=r"limit is 0\.0000001 USD"):
            await service.jobs.submit(job(max_cost_usd="0.0000001"))
        free = {"model": "mock-1", "messages": [{"role": "user", "content": "x"}]}
        with pytest.raises(BudgetExceeded, match="max_tokens"):
            await service.jobs.submit(new_job(request=free, max_cost_usd="1"))
        assert not any((await service.jobs.counts()).values())


async def test_what_is_never_sent_takes_nothing_from_a_budget(autojump_clock) -> None:
    store = MemoryStore()
    begin = store.begin_attempt

    async def slow_disk(*args, **kwargs):
        record = await begin(*args, **kwargs)
        await trio.sleep(1)
        return record

    store.begin_attempt = slow_disk  # type: ignore[method-assign]
    async with running(with_budget("1", "a"), store, a=mock("a")) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(0.5)
        assert service.budgets()[0]["reserved_usd"] != "0"
        await service.jobs.cancel(id_)
        await trio.sleep(1)
        assert service.budgets()[0]["reserved_usd"] == "0"
        assert service.budgets()[0]["spent_usd"] == "0"


async def test_a_job_that_could_never_be_paid_is_refused_when_it_is_submitted(
    autojump_clock,
) -> None:
    config = with_budget("0.000001", "a", tag="team=core")
    async with running(config, a=mock("a")) as (service, _):
        with pytest.raises(BudgetExceeded) as caught:
            await service.jobs.submit(job(tags={"team": "core"}))
        assert caught.value.budget == "small"
        for what in ("may cost 0.00001905 USD", "'small' (0.000001 USD an hour)"):
            assert what in caught.value.message
        assert (await service.jobs.submit(job())).created


async def test_a_job_waits_for_no_providers_budget_if_another_provider_serves_it(
    autojump_clock,
) -> None:
    match = BudgetMatch(provider="a")
    of_a = BudgetConfig(limit_usd="0.00002", window="hour", match=match)
    config = attrs.evolve(mock_config("a", "b"), budgets={"of_a": of_a})
    async with running(config, a=mock("a"), b=mock("b")) as (service, _):
        providers = []
        for _ in range(4):
            id_ = (await service.jobs.submit(job())).job.id
            providers.append((await service.jobs.wait(id_, 60)).job.provider)
        assert providers == ["a", "b", "b", "b"]


async def test_a_job_waits_for_the_budget_of_the_only_provider_there_is(
    autojump_clock,
) -> None:
    match = BudgetMatch(provider="a", model="mock-*")
    of_a = BudgetConfig(limit_usd="0.0000191", window="hour", match=match)
    config = attrs.evolve(mock_config("a"), budgets={"of_a": of_a})
    async with running(config, a=mock("a")) as (service, _):
        first, second = [(await service.jobs.submit(job())).job.id for _ in range(2)]
        await service.jobs.wait(first)
        await trio.sleep(10)
        view = await service.jobs.get(second)
        assert view.wait_reason == "budget:of_a"
        assert view.wait_until == EPOCH + HOUR_LEFT
        done = (await service.jobs.wait(second)).job
        assert (done.state, done.attempt) == ("completed", 1)


@pytest.mark.parametrize("by", ["submitter", "model", "both"])
async def test_an_empty_budget_holds_back_those_whom_it_binds_and_nobody_else(
    autojump_clock, by
) -> None:
    match = BudgetMatch(
        submitter=None if by == "model" else 1000,
        model=None if by == "submitter" else "mock-1",
    )
    budget = BudgetConfig(limit_usd="0.00002", window="hour", match=match)
    config = attrs.evolve(mock_config("a"), budgets={"mine": budget})
    me, other = (Submitter(uid=uid, gid=uid, pid=1) for uid in (1000, 0))
    # It bills more than it may: so nothing at all is left.
    async with running(config, a=Billed("a", tokens=100)) as (service, _):
        first = await service.jobs.submit(job(submitter=me))
        await service.jobs.wait(first.job.id)
        held = (await service.jobs.submit(job(submitter=me))).job.id
        free = [
            (await service.jobs.submit(each)).job.id
            for each in (
                job(submitter=other, model="mock-2"),
                job(submitter=me, model="mock-2") if by != "submitter" else job(),
            )
        ]
        for id_ in free:
            assert (await service.jobs.wait(id_, 5)).job.state == "completed"
        view = await service.jobs.get(held)
        assert (view.job.state, view.wait_reason) == ("available", "budget:mine")
        assert view.wait_until == EPOCH + HOUR_LEFT
        assert (await service.jobs.wait(held)).job.state == "completed"


async def test_a_provider_whose_budget_is_wholly_spent_is_not_even_asked_for_a_turn(
    autojump_clock,
) -> None:
    match = BudgetMatch(provider="a", model="mock-1")
    of_a = BudgetConfig(limit_usd="0.00002", window="hour", match=match)
    config = attrs.evolve(
        mock_config("a", fallbacks={"mock-3": ("mock-1",)}), budgets={"of_a": of_a}
    )
    async with running(config, a=Billed("a", tokens=100)) as (service, _):
        await service.jobs.wait((await service.jobs.submit(job())).job.id)
        held = (await service.jobs.submit(job())).job.id
        free = (await service.jobs.submit(job(model="mock-3"))).job.id
        assert (await service.jobs.wait(free, 5)).job.state == "completed"
        view = await service.jobs.get(held)
        assert (view.job.state, view.wait_reason) == ("available", "budget:of_a")
        assert view.wait_until == EPOCH + HOUR_LEFT
        assert (await service.jobs.wait(held)).job.state == "completed"


async def test_a_job_that_a_spent_total_holds_back_is_not_asked_about_all_the_time(
    autojump_clock,
) -> None:
    budget = BudgetConfig(limit_usd="0.00002", window="total")
    config = attrs.evolve(mock_config("a"), budgets={"ever": budget})
    async with running(config, a=mock("a")) as (service, _):
        first, second = [(await service.jobs.submit(job())).job.id for _ in range(2)]
        await service.jobs.wait(first)
        await trio.sleep(10)
        view = await service.jobs.get(second)
        assert view.wait_reason == "budget:ever"
        assert view.wait_until is None or view.wait_until > EPOCH + 50
        assert view.job.attempt == 0


@pytest.mark.parametrize(("runs", "state"), [(1, "discarded"), (2, "completed")])
async def test_a_jobs_own_limit_holds_for_all_its_runs_together(
    autojump_clock, runs, state
) -> None:
    store, provider = MemoryStore(), Billed("a", takes=10.0, tokens=10)
    limit = usd(2 * LEAST_REPLY * 10**6 - (runs == 1))
    async with running(mock_config("a"), store, a=provider) as (service, _):
        id_ = (await service.jobs.submit(job(max_cost_usd=limit))).job.id
        await trio.sleep(1)
        # Somebody else takes it for lost: what was reserved for it counts as spent.
        assert await store.rescue_expired(EPOCH + 1000)
        done = (await service.jobs.wait(id_, 100)).job
        assert done.state == state
        assert len(await service.jobs.attempts(id_)) == runs
        if state == "discarded":
            assert done.errors[-1].code == "budget_exceeded"
