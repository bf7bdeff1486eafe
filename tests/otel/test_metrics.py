"""What a collector sees of requests to providers: the histograms of GenAI clients."""

from __future__ import annotations

import pytest

from duckservice.config import RetryConfig
from duckservice.errors import ProviderTimeout
from duckservice.otel import names
from duckservice.providers.mock_script import MockScript
from tests.jobs.conftest import mock
from tests.otel.collector import collecting, running, telling
from tests.service.conftest import chat, mock_config

DURATION = "gen_ai.client.operation.duration"
TOKENS = "gen_ai.client.token.usage"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
PER_CHUNK = "gen_ai.client.operation.time_per_output_chunk"


def counted(collector, metric: str) -> int:
    return sum(point.count for point in collector.points(metric))


async def test_tokens_and_durations_are_counted_with_what_was_asked() -> None:
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=mock("a")) as (duck, _):
            answers = [await duck.complete(chat("hi")) for _ in range(3)]
            await collector.wait_until(lambda: counted(collector, DURATION) == 3)
        [duration] = collector.points(DURATION)
        assert duration.unit == "s"
        assert duration.attributes == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "mock",
            "gen_ai.request.model": "mock-1",
            "gen_ai.response.model": answers[0].value.model,
            "duck.provider": "a",
        }
        tokens = {
            its.attributes["gen_ai.token.type"]: its for its in collector.points(TOKENS)
        }
        usages = [answer.value.usage for answer in answers]
        assert tokens["input"].sum == sum(usage.input_tokens for usage in usages)
        assert tokens["output"].sum == sum(usage.output_tokens for usage in usages)
        assert {its.unit for its in tokens.values()} == {"{token}"}
        # It was no stream.
        assert collector.points(FIRST_CHUNK) == collector.points(PER_CHUNK) == []


async def test_a_failed_attempt_counts_by_the_type_of_its_error() -> None:
    script = MockScript(errors={1: ProviderTimeout("slow", provider="a")})
    config = mock_config("a", "b", retry=RetryConfig(max_attempts=2))
    async with collecting() as collector:
        async with running(
            telling(collector.endpoint, config=config), a=mock("a", script), b=mock("b")
        ) as (duck, _):
            await duck.complete(chat("hi"))
            await collector.wait_until(lambda: counted(collector, DURATION) == 2)
        errors = {
            its.attributes["duck.provider"]: its.attributes.get("error.type")
            for its in collector.points(DURATION)
        }
        assert errors == {"a": ProviderTimeout.code, "b": None}


async def test_a_stream_counts_its_first_chunk_and_the_mean_of_the_others() -> None:
    script = MockScript(latency=0.02, chunk_interval=0.01)
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=mock("a", script)) as (
            duck,
            _,
        ):
            async with duck.stream(chat("one two three four five")) as answer:
                async for _ in answer.batches:
                    pass
            await collector.wait_until(lambda: counted(collector, PER_CHUNK) == 1)
        [first], [per_chunk] = (
            collector.points(FIRST_CHUNK),
            collector.points(PER_CHUNK),
        )
        [duration] = collector.points(DURATION)
        assert 0.02 <= first.sum < duration.sum
        assert 0.004 < per_chunk.sum < duration.sum - first.sum
        assert first.unit == per_chunk.unit == "s"


async def test_an_estimate_of_ours_is_no_usage() -> None:
    cut = MockScript(cut_after=2)
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=mock("a", cut)) as (duck, _):
            async with duck.stream(chat("one two three four five")) as answer:
                with pytest.raises(Exception):  # noqa: B017, PT011 - however it breaks off
                    async for _ in answer.batches:
                        pass
            await collector.wait_until(lambda: counted(collector, DURATION) == 1)
            await collector.wait_until(lambda: len(collector.spans()) == 2)
        [attempt] = collector.attempts()
        assert attempt.attributes["duck.cost.estimated"] is True
        assert attempt.attributes["gen_ai.usage.output_tokens"] > 0
        assert collector.points(TOKENS) == []


async def test_a_million_models_are_no_million_series() -> None:
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=mock("a")) as (duck, _):
            for number in range(230):
                await duck.complete(chat("hi", model=f"mock-{number}"))
            await collector.wait_until(lambda: counted(collector, DURATION) == 230)
        models = [
            its.attributes["gen_ai.request.model"] for its in collector.points(DURATION)
        ]
        assert len(set(models)) == 201
        assert "other" in models


async def test_the_buckets_are_those_that_the_conventions_advise() -> None:
    seconds = (
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12),
        *(10.24, 20.48, 40.96, 81.92),
    )
    tokens = (
        *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304),
        *(16777216, 67108864),
    )
    assert seconds == names.SECONDS_BOUNDS
    assert tokens == names.TOKENS_BOUNDS
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=mock("a")) as (duck, _):
            async with duck.stream(chat("one two three")) as answer:
                async for _ in answer.batches:
                    pass
            await collector.wait_until(lambda: counted(collector, DURATION) == 1)
        for metric in (DURATION, FIRST_CHUNK, PER_CHUNK):
            assert [its.bounds for its in collector.points(metric)] == [seconds]
        assert {its.bounds for its in collector.points(TOKENS)} == {tokens}
