"""What requests cost: limits that hold, sums that say when they do not know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import attrs
import httpx
import pytest
import trio

from duckservice.calls.call import CallOptions
from duckservice.completion import (
    ChatRequest,
    Completion,
    EmbeddingRequest,
    ImageRequest,
    Images,
    Message,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    UsageReport,
)
from duckservice.config import BudgetConfig, PriceConfig, RetryConfig, RoutingConfig
from duckservice.core.pricing import pico
from duckservice.errors import (
    BadProviderResponse,
    BudgetExceeded,
    DuckError,
    ProviderError,
    ProviderTimeout,
    Unavailable,
)
from duckservice.events import AttemptEnded, EntryLost
from duckservice.money.spending import LEAST_REPLY, worst_cost
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.running import open_running
from duckservice.store.base import LedgerFilter
from duckservice.tree import Seams
from supervisors import ChildTerminated

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


BUDGET = {"all": BudgetConfig(limit_usd="100", window="day")}


async def test_a_turn_that_brings_back_a_signature_is_allowed_under_a_limit(
    autojump_clock,
) -> None:
    signature = {"extra_content": {"google": {"thought_signature": "SIG"}}}
    call = ToolCall(id="a", name="f", arguments="{}", extra=signature)
    result = ToolResult(tool_call_id="a", content=(TextPart(text="1"),))
    request = attrs.evolve(
        chat(max_tokens=9),
        messages=(
            Message.of("user", "x"),
            Message(role="assistant", parts=(call,)),
            Message(role="tool", parts=(result,)),
        ),
    )
    config = attrs.evolve(mock_config("a"), budgets=BUDGET)
    async with running(config, a=MockProvider("a")) as (service, _):
        answer = await service.complete(request, CallOptions(max_cost=pico("1")))
        assert answer.report.cost is not None


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (chat(), "max_tokens"),
        (chat(max_tokens=9, extra={"web_search_options": {}}), "web_search_options"),
        (ImageRequest(model="mock-1", prompt="x"), "how large pictures"),
    ],
)
async def test_a_refusal_says_what_it_is_that_has_no_bound(
    autojump_clock, monkeypatch, request_, why
) -> None:
    provider = MockProvider("a")
    monkeypatch.setattr(provider, "image_bound", lambda _: None)
    monkeypatch.setattr(provider, "check", lambda _: None)
    config = attrs.evolve(mock_config("a"), budgets=BUDGET)
    async with running(config, a=provider) as (service, _):
        ask = (
            service.generate_images
            if isinstance(request_, ImageRequest)
            else service.complete
        )
        for options in (CallOptions(), CallOptions(max_cost=1)):
            with pytest.raises(BudgetExceeded, match="cannot be bounded") as caught:
                await ask(request_, options)
            assert why in caught.value.message
            assert ("max_tokens" in caught.value.message) == (why == "max_tokens")


async def test_a_refusal_says_that_a_model_has_no_price(
    autojump_clock, monkeypatch
) -> None:
    provider = MockProvider("a")
    monkeypatch.setattr(provider, "estimate_cost", lambda _usage, _model: None)
    config = attrs.evolve(mock_config("a"), budgets=BUDGET)
    async with running(config, a=provider) as (service, _):
        for options in (CallOptions(), CallOptions(max_cost=1)):
            with pytest.raises(
                BudgetExceeded, match=r"'a' has no price for .*'mock-1'"
            ):
                await service.complete(chat(max_tokens=9), options)


async def test_what_a_provider_adds_unseen_is_in_the_worst_cost(monkeypatch) -> None:
    provider = MockProvider("a", price=PriceConfig(input="0.000001", output="0"))
    without = worst_cost(provider, chat(max_tokens=9))
    assert without is not None
    more = attrs.evolve(provider.capabilities, hidden_prompt_tokens=500)
    monkeypatch.setattr(MockProvider, "capabilities", more)
    assert worst_cost(provider, chat(max_tokens=9)) == without + 500


def test_a_reply_has_the_least_length_that_providers_give_it() -> None:
    provider = MockProvider("a", price=PriceConfig(input="0", output="0.000001"))
    assert worst_cost(provider, chat(max_tokens=1)) == LEAST_REPLY
    assert worst_cost(provider, chat(max_tokens=1, n=3)) == 3 * LEAST_REPLY
    assert worst_cost(provider, chat(max_tokens=500)) == 500


async def test_tokens_that_are_not_charged_are_counted_and_not_paid(
    autojump_clock, monkeypatch
) -> None:
    provider = MockProvider("a", price=PriceConfig(input="1", output="1"))
    said = Usage(
        input_tokens=500,
        output_tokens=11,
        billed_input_tokens=1,
        billed_output_tokens=9,
    )
    whole, stream = provider.complete, provider.stream

    async def complete(request: ChatRequest) -> Completion:
        return attrs.evolve(await whole(request), usage=said)

    @asynccontextmanager
    async def streamed(request: ChatRequest) -> AsyncIterator[AsyncIterator[Any]]:
        async with stream(request) as batches:

            async def changed() -> AsyncIterator[Any]:
                async for batch in batches:
                    yield tuple(
                        UsageReport(usage=said) if isinstance(c, UsageReport) else c
                        for c in batch
                    )

            yield changed()

    monkeypatch.setattr(provider, "complete", complete)
    monkeypatch.setattr(provider, "stream", streamed)
    config = attrs.evolve(mock_config("a"), budgets=BUDGET)
    async with running(config, a=provider) as (service, _):
        await service.complete(chat(max_tokens=20))
        async with service.stream(chat(max_tokens=20)) as answer:
            async for _batch in answer.batches:
                pass
        await trio.testing.wait_all_tasks_blocked()
        paid = 2 * (1 + 9) * 10**6
        assert answer.report.cost == paid // 2
        (row,) = (await service.costs("total", None))["rows"]
        assert pico(row["cost_usd"]) == paid
        assert row["input_tokens"] == 1000
        (state,) = service.budgets()
        assert pico(state["spent_usd"]) == paid


PICTURE = ImageRequest(model="mock-1", prompt="a duck")


def because(error: DuckError, cause: Exception) -> DuckError:
    error.__cause__ = cause
    return error


def failing_once(name: str, error: DuckError, monkeypatch) -> MockProvider:
    """Return a provider that raises *error*, as it is, for the first pictures."""
    provider = MockProvider(name)
    draw = provider.generate_images
    errors = [error]

    async def fail_once(request: ImageRequest) -> Images:
        if errors:
            raise errors.pop()
        return await draw(request)

    monkeypatch.setattr(provider, "generate_images", fail_once)
    return provider


@pytest.mark.parametrize(
    "error",
    [
        ProviderTimeout("no answer", provider="a"),
        BadProviderResponse("not a picture", provider="a"),
        Unavailable("restarted", provider="a"),
        because(ProviderError("closed", provider="a"), httpx.ReadError("")),
    ],
)
async def test_a_picture_that_may_be_made_already_is_not_asked_for_again(
    autojump_clock, monkeypatch, error
) -> None:
    for names in (["a"], ["a", "b"]):
        providers = {name: failing_once(name, error, monkeypatch) for name in names}
        async with running(mock_config(*names), **providers) as (service, events):
            with pytest.raises(type(error)) as caught:
                await service.generate_images(PICTURE)
            (ended,) = [each for each in events if isinstance(each, AttemptEnded)]
        assert not caught.value.retryable
        assert ended.estimated
        assert ended.output_tokens > 0


@pytest.mark.parametrize("cause", [httpx.ConnectTimeout(""), httpx.ConnectError("")])
async def test_a_picture_that_was_never_asked_for_is_asked_for_again(
    autojump_clock, monkeypatch, cause
) -> None:
    error = because(ProviderTimeout("no connection", provider="a"), cause)
    provider = failing_once("a", error, monkeypatch)
    async with running(mock_config("a"), a=provider) as (service, events):
        report = (await service.generate_images(PICTURE)).report
        first, _second = [each for each in events if isinstance(each, AttemptEnded)]
    assert report.attempts == 2
    assert not report.cost_estimated
    assert first.cost_usd == "0"


class Miscounting(MockProvider):
    """What it says of its usage is beyond reason."""

    said = Usage(input_tokens=1, output_tokens=1, billed=2**63)

    async def complete(self, request: ChatRequest) -> Completion:
        return attrs.evolve(await super().complete(request), usage=self.said)


ABSURD = [
    Usage(input_tokens=1, output_tokens=1, billed=2**63),
    Usage(input_tokens=2**40, output_tokens=2**40),
    Usage(input_tokens=1, output_tokens=2**63),
]


@pytest.mark.parametrize("said", ABSURD)
@pytest.mark.parametrize("budgets", [{}, BUDGET], ids=["no budget", "a budget"])
async def test_a_usage_beyond_reason_costs_nobody_their_daemon(
    tmp_path, said, budgets
) -> None:
    provider = Miscounting("a", price=PriceConfig(input="10", output="10"))
    provider.said = said
    config = attrs.evolve(mock_config("a"), budgets=budgets)
    events: list[Any] = []
    seams = Seams(random=Random(1), wall_clock=lambda: 1_000_000.0, emit=events.append)
    async with open_running(
        config, providers={"a": provider}, seams=seams, state_dir=tmp_path / "state"
    ) as service:
        request = chat(max_tokens=20)
        worst = worst_cost(provider, request)
        answer = await service.complete(request)
        assert answer.value.text == "hello"
        assert answer.report.cost is None, "nobody knows"
        ledger = service.parts.ledger
        with trio.fail_after(5):
            while ledger._waiting or ledger._settled:  # noqa: ASYNC110 - no event tells
                await trio.sleep(0.01)
        sums = await service.jobs.store.sums(LedgerFilter())
        status = await service.status()
    assert not [its for its in events if isinstance(its, ChildTerminated)]
    assert sum(its.open for its in sums) == 0
    if budgets:
        assert [its.counted for its in sums] == [worst], "the whole reservation"
    lost = 2**63 in (said.input_tokens, said.output_tokens)
    assert status["store"]["ledger_dropped"] == lost


async def test_half_a_character_costs_nobody_their_ledger(tmp_path) -> None:
    events: list[Any] = []
    seams = Seams(random=Random(1), wall_clock=lambda: 1_000_000.0, emit=events.append)
    async with open_running(
        mock_config("a"),
        providers={"a": MockProvider("a")},
        seams=seams,
        state_dir=tmp_path / "state",
    ) as service:
        await service.complete(chat(model="mock-\ud800"))
        await service.complete(chat())
        ledger = service.parts.ledger
        with trio.fail_after(5):
            while ledger._waiting:  # noqa: ASYNC110 - no event tells
                await trio.sleep(0.01)
        sums = await service.jobs.store.sums(LedgerFilter())
    assert sum(its.entries for its in sums) == 1
    assert ledger.dropped == 1
    assert len([its for its in events if isinstance(its, EntryLost)]) == 1
    assert not [its for its in events if isinstance(its, ChildTerminated)]
