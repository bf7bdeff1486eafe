from __future__ import annotations

from contextlib import aclosing, asynccontextmanager

import pytest
import trio

from duckservice.calls.metering import Meter
from duckservice.completion import (
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from duckservice.config import RetryConfig
from duckservice.core.circuit_breaker import Outcome
from duckservice.core.performance import SAMPLES_MAX
from duckservice.core.performance_figures import Sample
from duckservice.errors import BadProviderResponse, DuckError, RateLimited
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockReply, MockScript

from .conftest import chat, mock_config, running

ONCE = RetryConfig(max_attempts=1)


async def figures(service, name: str = "a") -> dict:
    (found,) = [p for p in await service.providers() if p["name"] == name]
    return found


async def test_a_whole_reply_is_measured_from_the_sending_to_its_end(
    autojump_clock,
) -> None:
    slow = MockProvider("a", MockScript(latency=2.0))
    async with running(mock_config("a", max_concurrency=1), a=slow) as (service, _):
        async with trio.open_nursery() as nursery:
            # The second waits for its turn, which is not the provider's fault.
            nursery.start_soon(service.complete, chat("x" * 400))
            nursery.start_soon(service.complete, chat("x" * 400))
        its = await figures(service)
    tokens = 400 // 4
    assert (
        its["performance"].items()
        >= {
            "requests": 2,
            "successes": 2,
            "failures": 0,
            "success_rate": 1.0,
            "average_latency_ms": 2000.0,
            "p99_latency_ms": 2000.0,
            "average_time_to_first_token_ms": None,
            "tokens_per_second": pytest.approx(tokens / 2.0, rel=0.05),
            "recent_latency_ms": 2000.0,
        }.items()
    )
    assert its["by_model"] == {"mock-1": its["performance"]}


async def test_a_stream_is_measured_to_its_first_word_and_to_its_end(
    autojump_clock,
) -> None:
    reply = MockReply(text="one two three")
    script = MockScript(latency=2.0, chunk_interval=0.5, replies=(reply,))
    async with running(mock_config("a"), a=MockProvider("a", script)) as (service, _):
        async with service.stream(chat()) as answer:
            async for _batch in answer.batches:
                pass
        its = (await figures(service))["performance"]
    assert its["average_time_to_first_token_ms"] == 2000.0
    assert its["average_latency_ms"] == 3000.0


CONTENT = [
    TextDelta(text="x"),
    ReasoningDelta(text="x"),
    RefusalDelta(text="x"),
    ToolCallDelta(index=0, id="1", name="f"),
]
NO_CONTENT = [
    Started(id="1", model="m"),
    TextDelta(text=""),
    ReasoningDelta(signature="x"),
    Finished(reason="stop"),
    UsageReport(usage=Usage(input_tokens=1)),
]


@pytest.mark.parametrize("content", CONTENT, ids=lambda c: type(c).__name__)
async def test_the_first_content_is_noted_once_and_not_what_announces_it(
    content, autojump_clock
) -> None:
    meter = Meter()
    meter.read(NO_CONTENT)
    assert meter.first_content is None
    await trio.sleep(3)
    began = trio.current_time()
    meter.read([content])
    await trio.sleep(3)
    meter.read([content])
    assert meter.first_content == began


async def test_a_stream_that_is_left_says_when_it_began_and_nothing_else(
    autojump_clock,
) -> None:
    script = MockScript(latency=1.5, chunk_interval=9.0)
    async with running(mock_config("a"), a=MockProvider("a", script)) as (service, _):
        async with service.stream(chat("one two three")) as answer:
            async for batch in answer.batches:
                if any(isinstance(chunk, TextDelta) for chunk in batch):
                    break
        its = (await figures(service))["performance"]
    assert its["not_counted"] == {"cancelled": 1}
    assert its["success_rate"] is None
    assert its["average_latency_ms"] is None
    assert its["average_time_to_first_token_ms"] == 1500.0


class Retouched:
    """A provider whose streams go *through* something on their way."""

    def __init__(self, its: MockProvider, through) -> None:
        self._its = its
        self._through = through

    def __getattr__(self, name: str) -> object:
        return getattr(self._its, name)

    @asynccontextmanager
    async def stream(self, request):
        async with (
            self._its.stream(request) as batches,
            aclosing(self._through(batches)) as retouched,
        ):
            yield retouched


async def uncounted(batches):
    async for batch in batches:
        if not any(isinstance(chunk, UsageReport) for chunk in batch):
            yield batch


async def hesitant(batches):
    async for batch in batches:
        yield batch
        if isinstance(batch[0], Started):
            await trio.sleep(4.0)


async def test_a_stream_has_not_begun_when_it_is_announced(autojump_clock) -> None:
    its = Retouched(MockProvider("a", MockScript(latency=1.0)), hesitant)
    async with running(mock_config("a"), a=its) as (service, _):
        async with service.stream(chat()) as answer:
            async for _batch in answer.batches:
                pass
        found = await figures(service)
    assert found["latency_ms"] == 1000.0, "the first of anything"
    assert found["performance"]["average_time_to_first_token_ms"] == 5000.0


async def test_tokens_that_we_have_guessed_make_no_speed(autojump_clock) -> None:
    script = MockScript(latency=1.0)
    providers = {
        "a": Retouched(MockProvider("a", script, models=("mock-a",)), uncounted),
        "b": MockProvider("b", script, models=("mock-b",)),
    }
    async with running(mock_config("a", "b"), **providers) as (service, _):
        for name in providers:
            async with service.stream(chat("x" * 40, model=f"mock-{name}")) as answer:
                async for _batch in answer.batches:
                    pass
        guessed, counted = [
            (await figures(service, name))["performance"] for name in providers
        ]
    assert guessed["average_latency_ms"] == counted["average_latency_ms"] == 1000.0
    assert guessed["tokens_per_second"] is None
    assert counted["tokens_per_second"] == 10.0


async def test_failures_are_counted_by_code_and_a_429_is_none(autojump_clock) -> None:
    cut = BadProviderResponse("no JSON")
    busy = RateLimited("slow down", retry_after=0.1)
    errors: dict[int, DuckError] = {1: cut, 2: cut, 3: busy}
    provider = MockProvider("a", MockScript(errors=errors))
    async with running(mock_config("a", retry=ONCE), a=provider) as (service, _):
        for _ in errors:
            with pytest.raises(DuckError):
                await service.complete(chat())
        await service.complete(chat())
        its = await figures(service)
    for found in (its["performance"], its["by_model"]["mock-1"]):
        assert found["failures_by_code"] == {"bad_provider_response": 2}
        assert found["not_counted"] == {"rate_limited": 1}
        assert found["success_rate"] == pytest.approx(1 / 3, abs=1e-4)
        assert found["since_start"]["requests"] == 4


async def test_the_figures_outlive_the_actors_and_then_their_window(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        await service.complete(chat())
        before = (await figures(service))["performance"]
        for actor in ("rate_limiter", "circuit_breaker"):
            await service.restart_actor(f"providers/a/{actor}")
            await trio.testing.wait_all_tasks_blocked()
        after = (await figures(service))["performance"]
        assert (after["requests"], after["since_start"]) == (1, before["since_start"])
        await trio.sleep(after["window_s"])
        later = (await figures(service))["performance"]
    assert later["requests"] == 0
    assert later["average_latency_ms"] is None
    assert later["recent_age_s"] == pytest.approx(900.0, abs=1.0)
    assert later["since_start"] == before["since_start"]


async def test_a_sample_says_that_it_is_full_when_it_has_left_some_out(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        await service.complete(chat())
        assert (await figures(service))["performance"]["sample_full"] is False
        board = service.parts.board.providers["a"].performance
        sample = Sample(
            at=trio.current_time(), code="ok", outcome=Outcome.SUCCESS, duration=1.0
        )
        for _ in range(SAMPLES_MAX - 1):
            board.track("mock-1", sample)
        its = (await figures(service))["performance"]
        assert (its["requests"], its["sample_full"]) == (SAMPLES_MAX, False)
        board.track("mock-1", sample)
        its = await figures(service)
        for found in (its["performance"], its["by_model"]["mock-1"]):
            assert (found["requests"], found["sample_full"]) == (SAMPLES_MAX, True)


async def test_each_model_has_figures_of_its_own(autojump_clock) -> None:
    async with running(mock_config("a", retry=ONCE), a=MockProvider("a")) as (
        service,
        _,
    ):
        await service.complete(chat(model="mock-slow"))
        with pytest.raises(DuckError):
            await service.complete(chat(model="mock-fail"))
        its = await figures(service)
        board = service.parts.board.providers["a"]
        slow = board.performance.outlook("mock-slow", trio.current_time())
    assert its["by_model"]["mock-slow"]["average_latency_ms"] == 2000.0
    assert its["by_model"]["mock-fail"]["success_rate"] == 0.0
    assert its["performance"]["success_rate"] == 0.5
    assert (slow.success_rate, slow.latency_ewma, slow.samples) == (1.0, 2.0, 1)
