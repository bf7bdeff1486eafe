"""What requests cost: limits that hold, sums that say when they do not know."""

from __future__ import annotations

import attrs
import pytest
import trio

from duckservice.call import CallOptions
from duckservice.completion import EmbeddingRequest
from duckservice.config import PriceConfig, RetryConfig, RoutingConfig
from duckservice.errors import (
    BudgetExceeded,
    DuckError,
    ProviderError,
    ProviderTimeout,
)
from duckservice.events import AttemptEnded
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.spending import worst_cost

from .conftest import chat, mock_config, running

EMBEDDING = EmbeddingRequest(model="mock-1", input=("x" * 1000,))


async def test_embeddings_that_may_cost_too_much_are_not_sent(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        with pytest.raises(BudgetExceeded):
            await service.embed(EMBEDDING, CallOptions(max_cost=1))
        limit = worst_cost(service.parts.providers["a"].provider, EMBEDDING)
        answer = await service.embed(EMBEDDING, CallOptions(max_cost=limit))
        assert limit is not None
        assert answer.report.cost is not None
        assert answer.report.cost <= limit
        assert service.parts.board.providers["a"].requests == 1


async def test_a_limit_holds_for_all_attempts_of_a_request_together(
    autojump_clock,
) -> None:
    # Whether the first was billed is not known, so it counts as if it was.
    script = MockScript(errors={1: ProviderTimeout("no answer", provider="a")})
    request = chat(max_tokens=100)
    for names in (["a"], ["a", "b"]):
        providers = {name: MockProvider(name, script) for name in names}
        async with running(mock_config(*names), **providers) as (service, _):
            worst = worst_cost(providers["a"], request)
            assert worst is not None
            with pytest.raises(ProviderTimeout):
                await service.complete(request, CallOptions(max_cost=2 * worst - 1))
            sent = sum(its.requests for its in service.parts.board.providers.values())
            assert sent == 1


async def test_a_limit_leaves_room_for_a_retry_of_what_was_not_billed(
    autojump_clock,
) -> None:
    script = MockScript(errors={1: ProviderError("down", provider="a")})
    request = chat(max_tokens=100)
    provider = MockProvider("a", script)
    async with running(mock_config("a"), a=provider) as (service, _):
        limit = CallOptions(max_cost=worst_cost(provider, request))
        assert (await service.complete(request, limit)).report.attempts == 2


async def test_a_cost_that_is_not_known_is_never_told_as_nothing(
    autojump_clock, monkeypatch
) -> None:
    provider = MockProvider("a", MockScript(errors={1: ProviderError("down")}))
    monkeypatch.setattr(provider, "estimate_cost", lambda _usage, _model: None)
    async with running(mock_config("a"), a=provider) as (service, _):
        answer = await service.complete(chat())
        assert answer.report.attempts == 2
        assert answer.report.cost is None


async def test_text_that_was_delivered_is_billed_however_the_stream_fails(
    autojump_clock, monkeypatch
) -> None:
    provider = MockProvider("a", MockScript(cut_after=2))
    overloaded = ProviderError("overloaded", provider="a")
    monkeypatch.setattr(provider, "_cut_off", lambda: overloaded)
    async with running(mock_config("a"), a=provider) as (service, events):
        with pytest.raises(ProviderError):
            async with service.stream(chat("one two three four")) as answer:
                async for _batch in answer.batches:
                    pass
        (attempt,) = [e for e in events if isinstance(e, AttemptEnded)]
        assert attempt.outcome == "provider_error"
        assert attempt.output_tokens > 0
        assert attempt.estimated
        assert answer.report.cost


async def test_the_cheapest_provider_is_asked_first(autojump_clock) -> None:
    config = attrs.evolve(
        mock_config("dear", "cheap"), routing=RoutingConfig(strategy="cheapest")
    )
    dear = MockProvider("dear", price=PriceConfig(input="5", output="5"))
    cheap = MockProvider("cheap", price=PriceConfig(input="1", output="1"))
    async with running(config, dear=dear, cheap=cheap) as (service, _):
        assert (await service.complete(chat())).report.provider == "cheap"
        assert (await service.embed(EMBEDDING)).report.provider == "cheap"


async def test_a_fallback_model_of_a_failing_provider_takes_from_its_retry_budget(
    autojump_clock,
) -> None:
    config = mock_config(
        "a",
        fallbacks={"mock-1": ("mock-2",)},
        retry=RetryConfig(base_delay=0.0),
        breaker=attrs.evolve(
            mock_config("a").providers["a"].breaker, failure_threshold=1000
        ),
    )
    provider = MockProvider("a", MockScript(failure_rate=1.0))
    async with running(config, a=provider) as (service, _):
        for _ in range(50):
            with pytest.raises(DuckError):
                await service.complete(chat())
            await trio.testing.wait_all_tasks_blocked()
        assert 60 <= service.parts.board.providers["a"].requests <= 50 * 1.1 + 10
