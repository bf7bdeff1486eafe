"""Budgets bind jobs and requests alike; an empty one makes jobs wait, and fails none."""

from __future__ import annotations

import attrs
import pytest
import trio

from duckservice.call import CallOptions
from duckservice.config import BudgetConfig, BudgetMatch
from duckservice.core.pricing import pico
from duckservice.errors import BudgetExceeded
from duckservice.store.memory import MemoryStore
from tests.jobs.conftest import EPOCH, job as new_job, mock, running
from tests.service.conftest import chat, mock_config

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
    config = with_budget("0", "a", tag="team=core")
    async with running(config, a=mock("a")) as (service, _):
        core = (await service.jobs.submit(job(tags={"team": "core"}))).job.id
        free = (await service.jobs.submit(job(tags={"team": "x"}))).job.id
        assert (await service.jobs.wait(free, 5)).job.state == "completed"
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


async def test_a_job_that_may_cost_more_than_its_own_limit_is_discarded(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        id_ = (await service.jobs.submit(job(max_cost_usd="0.0000001"))).job.id
        done = (await service.jobs.wait(id_)).job
        assert (done.state, done.attempt) == ("discarded", 0)
        assert done.errors[-1].code == "budget_exceeded"


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
