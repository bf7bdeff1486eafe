"""One model under several names is one: for budgets, for breakers and for limits."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from duckservice.calls.call import CallOptions
from duckservice.completion import ChatRequest, Completion, Usage
from duckservice.config import (
    BreakerConfig,
    BudgetConfig,
    BudgetMatch,
    Config,
    PriceConfig,
    RetryConfig,
)
from duckservice.errors import (
    BudgetExceeded,
    CircuitOpen,
    DeadlineExceeded,
    ProviderError,
    RateLimited,
)
from duckservice.providers.mock import MockProvider
from duckservice.store.memory import MemoryStore
from tests.jobs.conftest import job, running
from tests.service.conftest import chat, mock_config
from tests.service.test_limits_of_models import config as limited, telling
from tests.service.test_timeouts import serving
from tests.upstream import open_upstream

PRICE = PriceConfig(input="0", output="1")


class Wordy(MockProvider):
    """A provider whose replies are as long as they may be."""

    async def complete(self, request: ChatRequest) -> Completion:
        reply = await super().complete(request)
        return attrs.evolve(reply, usage=Usage(output_tokens=request.max_tokens or 0))


def provider(name: str = "a", **aliases: str) -> MockProvider:
    return Wordy(name, models=("mock-*",), model_map=aliases, price=PRICE)


def with_budget(limit: str, model: str, *names: str) -> Config:
    budget = BudgetConfig(limit_usd=limit, match=BudgetMatch(model=model))
    return attrs.evolve(mock_config(*names), budgets={"b": budget})


def asking(model: str) -> ChatRequest:
    return chat(model=model, max_tokens=100)


def job_for(model: str):
    return job(
        request={
            "model": model,
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 100,
        }
    )


async def test_a_budget_of_a_model_binds_all_of_its_aliases(autojump_clock) -> None:
    its = provider(fast="mock-1", other="mock-2")
    async with running(with_budget("0", "mock-1*", "a"), a=its) as (service, _):
        for model in ("mock-1", "fast"):
            with pytest.raises(BudgetExceeded):
                await service.complete(asking(model))
            with pytest.raises(BudgetExceeded):
                await service.jobs.submit(job_for(model))
        await service.complete(asking("other"))


async def test_a_budget_of_an_alias_binds_what_is_asked_for_by_that_name(
    autojump_clock,
) -> None:
    its = provider(fast="mock-1")
    async with running(with_budget("0", "fast", "a"), a=its) as (service, _):
        with pytest.raises(BudgetExceeded):
            await service.complete(asking("fast"))
        await service.complete(asking("mock-1"))


async def test_an_alias_goes_where_its_model_is_not_bound(autojump_clock) -> None:
    a, b = provider("a", fast="mock-1"), provider("b", fast="mock-2")
    config = with_budget("0", "mock-1", "a", "b")
    async with running(config, a=a, b=b) as (service, _):
        answer = await service.complete(asking("fast"))
    assert answer.report.provider == "b"


@pytest.mark.parametrize("elsewhere", ["mock-1", "mock-2"])
async def test_a_job_waits_for_a_spent_budget_of_all_that_its_alias_stands_for(
    autojump_clock, elsewhere
) -> None:
    a, b = provider("a", fast="mock-1"), provider("b", fast=elsewhere)
    one_call = "0.0001"
    config = with_budget(one_call, "mock-1", "a", "b")
    async with running(config, a=a, b=b) as (service, _):
        await service.complete(asking("mock-1"))
        id_ = (await service.jobs.submit(job_for("fast"))).job.id
        await trio.sleep(5)
        its = await service.jobs.get(id_)
        if elsewhere == "mock-1":
            assert (its.job.state, its.wait_reason) == ("available", "budget:b")
            assert its.job.attempt == 0
        else:
            assert (its.job.state, its.job.attempt) == ("completed", 1)


async def test_a_restart_remembers_what_was_spent_by_another_name(
    autojump_clock,
) -> None:
    config, store = with_budget("1", "mock-1", "a"), MemoryStore()
    async with running(config, store, a=provider(fast="mock-1")) as (service, _):
        await service.complete(asking("fast"))
        [before] = service.budgets()
        await trio.testing.wait_all_tasks_blocked()
        costs = await service.costs(by="model")
        assert "fast" in str(costs), "costs are told by the client's word"
    async with running(config, store, a=provider(fast="mock-1")) as (service, _):
        [after] = service.budgets()
    assert before["spent_usd"] == after["spent_usd"] != "0"


async def test_a_breaker_of_a_model_is_one_for_all_of_its_names(autojump_clock) -> None:
    breaker = BreakerConfig(failure_threshold=3, reset_timeout=10.0, scope="model")
    config = mock_config("a", retry=RetryConfig(max_attempts=1), breaker=breaker)
    its = provider(broken="mock-fail", bad="mock-fail")
    async with running(config, a=its) as (service, _):
        for model in ("broken", "mock-fail", "bad"):
            with pytest.raises(ProviderError):
                await service.complete(chat(model=model))
        await trio.testing.wait_all_tasks_blocked()
        for model in ("broken", "mock-fail", "bad"):
            with pytest.raises(CircuitOpen):
                await service.complete(chat(model=model))
        assert set(service.parts.board.providers["a"].breakers) == {"mock-fail"}
        id_ = (await service.jobs.submit(job(model="broken"))).job.id
        await trio.testing.wait_all_tasks_blocked()
        assert (await service.jobs.get(id_)).wait_reason == "breaker_open:a"


async def test_what_is_told_of_a_model_holds_for_all_of_its_names() -> None:
    script = [telling(100, 50), telling(5, 0)]
    async with open_upstream(script) as upstream:
        its = attrs.evolve(
            limited("p", upstream.base_url), model_map={"picture": "image"}
        )
        async with serving(its) as (service, _):
            for model in ("chat", "picture"):
                await service.complete(chat(model=model))
                await trio.testing.wait_all_tasks_blocked()
            soon = CallOptions(deadline=trio.current_time() + 0.2)
            with pytest.raises((RateLimited, DeadlineExceeded)):
                await service.complete(chat(model="image"), soon)
            (state,) = await service.providers()
        assert set(state["limiter"]["told"]) == {"chat", "image"}
        assert len(upstream.requests) == 2
