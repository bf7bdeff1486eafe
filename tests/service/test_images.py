"""Pictures go the way of any other request: routing, retries, limits, money."""

from __future__ import annotations

import attrs
import pytest
import trio

import duckservice
from duckservice.calls.call import CallOptions
from duckservice.completion import ImageRequest, Usage
from duckservice.config import BudgetConfig, PriceConfig, RoutingConfig
from duckservice.core.pricing import pico
from duckservice.errors import (
    BudgetExceeded,
    CircuitOpen,
    InvalidRequest,
    NoAvailableProvider,
    ProviderError,
    ProviderTimeout,
)
from duckservice.events import AttemptEnded
from duckservice.money.spending import worst_cost
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript

from .conftest import mock_config, running

DUCK = ImageRequest(model="mock-1", prompt="a duck")


def failing(name: str, times: int = 1000) -> MockProvider:
    error = ProviderError("down", provider=name)
    script = MockScript(errors=dict.fromkeys(range(1, times + 1), error))
    return MockProvider(name, script)


def without_images(name: str) -> MockProvider:
    provider = MockProvider(name)

    def check(request):
        raise InvalidRequest(f"{name} makes no pictures", provider=name, param="model")

    provider.check = check  # type: ignore[method-assign]
    return provider


def uncounted(name: str, monkeypatch, usage: Usage) -> MockProvider:
    """Return a provider that does not say how many tokens its pictures took."""
    provider = MockProvider(name)
    make = provider.generate_images

    async def generate_images(request):
        return attrs.evolve(await make(request), usage=usage)

    monkeypatch.setattr(provider, "generate_images", generate_images)
    return provider


async def test_pictures_come_with_the_account_of_their_request(autojump_clock):
    async with running(mock_config("a"), a=MockProvider("a")) as (service, events):
        answer = await service.generate_images(attrs.evolve(DUCK, n=2))
        report = answer.report
        (ended,) = [each for each in events if isinstance(each, AttemptEnded)]
    assert len(answer.value.images) == 2
    assert (report.provider, report.attempts) == ("a", 1)
    usage = answer.value.usage
    assert (ended.input_tokens, ended.output_tokens) == (2, usage.output_tokens)
    assert report.cost == MockProvider("a").estimate_cost(usage, "mock-1") > 0
    assert not report.cost_estimated


async def test_a_program_gets_its_pictures(autojump_clock):
    async with duckservice.open_service(mock_config("a")) as duck:
        request = duckservice.ImageRequest(model="mock-1", prompt="a duck")
        images = await duck.generate_images(request)
    assert isinstance(images, duckservice.Images)
    assert images.images[0].data is not None


async def test_who_makes_no_pictures_is_not_asked(autojump_clock):
    providers = {"a": without_images("a"), "b": MockProvider("b")}
    async with running(mock_config("a", "b"), **providers) as (service, _):
        answer = await service.generate_images(DUCK)
        assert (answer.report.provider, answer.report.attempts) == ("b", 1)
        assert service.parts.board.providers["a"].requests == 0


async def test_where_nobody_makes_pictures_the_first_says_so(autojump_clock):
    async with running(mock_config("a"), a=without_images("a")) as (service, _):
        with pytest.raises(InvalidRequest, match="makes no pictures"):
            await service.generate_images(DUCK)


async def test_another_provider_makes_what_the_first_fails_to(autojump_clock):
    providers = {"a": failing("a"), "b": MockProvider("b")}
    async with running(mock_config("a", "b"), **providers) as (service, _):
        answer = await service.generate_images(DUCK)
        assert (answer.report.provider, answer.report.attempts) == ("b", 2)


async def test_failures_to_make_pictures_open_the_breaker(autojump_clock):
    async with running(mock_config("a"), a=failing("a")) as (service, _):
        for _ in range(3):
            with pytest.raises((ProviderError, NoAvailableProvider, CircuitOpen)):
                await service.generate_images(DUCK)
        with pytest.raises(CircuitOpen):
            await service.generate_images(DUCK)


async def test_a_picture_that_may_cost_too_much_is_not_asked_for(autojump_clock):
    provider = MockProvider("a")
    async with running(mock_config("a"), a=provider) as (service, _):
        limit = worst_cost(provider, DUCK)
        assert limit is not None
        with pytest.raises(BudgetExceeded):
            await service.generate_images(DUCK, CallOptions(max_cost=limit - 1))
        answer = await service.generate_images(DUCK, CallOptions(max_cost=limit))
        assert answer.report.cost == limit
        assert service.parts.board.providers["a"].requests == 1


async def test_pictures_that_nobody_can_bound_are_refused_under_a_limit(
    autojump_clock, monkeypatch
):
    provider = MockProvider("a")
    monkeypatch.setattr(provider, "image_bound", lambda _: None)
    budget = {"small": BudgetConfig(limit_usd="1", window="hour")}
    async with running(mock_config("a"), a=provider) as (service, _):
        with pytest.raises(BudgetExceeded, match="cannot be bounded"):
            await service.generate_images(DUCK, CallOptions(max_cost=pico("100")))
    config = attrs.evolve(mock_config("a"), budgets=budget)
    async with running(config, a=provider) as (service, _):
        with pytest.raises(BudgetExceeded):
            await service.generate_images(DUCK)
        assert service.parts.board.providers["a"].requests == 0


async def test_a_budget_is_charged_for_pictures(autojump_clock):
    budget = {"small": BudgetConfig(limit_usd="1", window="hour")}
    config = attrs.evolve(mock_config("a"), budgets=budget)
    async with running(config, a=MockProvider("a")) as (service, _):
        answer = await service.generate_images(DUCK)
        (state,) = service.budgets()
        assert pico(state["spent_usd"]) == answer.report.cost


async def test_a_picture_whose_cost_nobody_says_has_no_cost_rather_than_none(
    autojump_clock, monkeypatch
):
    provider = uncounted("a", monkeypatch, Usage(estimated=True))
    async with running(mock_config("a"), a=provider) as (service, _):
        report = (await service.generate_images(DUCK)).report
        assert report.cost is None
        costs = await service.costs("total", None)
        (row,) = costs["rows"]
    assert (row["requests"], row["unpriced"]) == (1, 1)


async def test_what_the_provider_says_it_charges_is_the_cost(
    autojump_clock, monkeypatch
):
    provider = uncounted("a", monkeypatch, Usage(billed=pico("0.02")))
    async with running(mock_config("a"), a=provider) as (service, _):
        report = (await service.generate_images(DUCK)).report
    assert report.cost == pico("0.02")
    assert not report.cost_estimated


async def test_a_picture_that_was_not_waited_for_is_reckoned_as_made(autojump_clock):
    script = MockScript(errors={1: ProviderTimeout("no answer", provider="a")})
    provider = MockProvider("a", script)
    async with running(mock_config("a"), a=provider) as (service, events):
        with pytest.raises(ProviderTimeout):
            await service.generate_images(DUCK)
        (ended,) = [each for each in events if isinstance(each, AttemptEnded)]
    assert ended.estimated
    assert ended.output_tokens > 0
    assert ended.cost_usd not in (None, "0")


async def test_the_cheapest_is_asked_first(autojump_clock):
    config = attrs.evolve(
        mock_config("dear", "cheap"), routing=RoutingConfig(strategy="cheapest")
    )
    dear = MockProvider("dear", price=PriceConfig(input="5", output="5"))
    cheap = MockProvider("cheap", price=PriceConfig(input="1", output="1"))
    async with running(config, dear=dear, cheap=cheap) as (service, _):
        assert (await service.generate_images(DUCK)).report.provider == "cheap"


async def test_a_caller_who_goes_gives_everything_back(autojump_clock):
    script = MockScript(latency=100.0)
    config = mock_config("a", max_concurrency=1)
    async with running(config, a=MockProvider("a", script)) as (service, _):
        with trio.move_on_after(1):
            await service.generate_images(DUCK)
        await trio.testing.wait_all_tasks_blocked()
        assert (await service.queue())["running"] == 0
