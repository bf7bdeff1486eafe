"""What a collector sees of requests: their spans."""

from __future__ import annotations

import time

import attrs
import pytest
import trio

from duckservice.calls.call import CallOptions, Submitter
from duckservice.config import (
    Config,
    LogConfig,
    ProviderConfig,
    RetryConfig,
    TelemetryConfig,
)
from duckservice.core.pricing import PICO_PER_USD
from duckservice.errors import DuckError, InvalidRequest, ProviderTimeout
from duckservice.providers.mock_script import MockReply, MockScript
from tests.jobs.conftest import job, mock
from tests.otel.collector import collecting, running, telling
from tests.service.conftest import chat, mock_config
from tests.service.test_cache import cached

CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = "00-{}-{}-01".format(*CLIENT)
BY = Submitter(uid=7, gid=7, pid=1)


async def test_a_request_is_a_trace_with_a_span_for_its_attempt() -> None:
    async with collecting() as collector:
        began = time.time()
        async with running(telling(collector.endpoint), a=mock("a")) as (duck, _):
            options = CallOptions(request_id="r1", priority="high")
            answer = await duck.complete(chat("hi"), options)
            await collector.wait_until(lambda: len(collector.spans()) == 2)
        [attempt], [root] = collector.attempts(), collector.roots()
        assert (root.name, root.kind, root.parent) == ("duck.request", "INTERNAL", "")
        assert (attempt.name, attempt.kind) == ("chat mock-1", "CLIENT")
        assert (attempt.trace, attempt.parent) == (root.trace, root.id)
        assert began <= root.start <= attempt.start <= attempt.end <= root.end
        assert root.end <= time.time()
        cost = answer.report.cost / PICO_PER_USD
        report = answer.report
        queued = root.attributes.pop("duck.queue.seconds")
        assert attempt.attributes.pop("duck.queue.seconds") == queued >= 0
        assert root.attributes == {
            "duck.job.id": report.job,
            "duck.request.id": "r1",
            "duck.operation": "chat",
            "duck.model": "mock-1",
            "duck.priority": "high",
            "duck.outcome": "ok",
            "duck.provider": "a",
            "duck.served_model": "mock-1",
            "duck.attempts": 1,
            "duck.cost.usd": cost,
        }
        its = answer.value
        assert attempt.attributes == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "mock",
            "gen_ai.request.model": "mock-1",
            "gen_ai.response.model": its.model,
            "gen_ai.usage.input_tokens": its.usage.input_tokens,
            "gen_ai.usage.output_tokens": its.usage.output_tokens,
            "duck.job.id": report.job,
            "duck.request.id": "r1",
            "duck.attempt": 1,
            "duck.provider": "a",
            "duck.why": attempt.attributes["duck.why"],
            "duck.outcome": "ok",
            "duck.cost.usd": cost,
        }
        assert not root.error
        assert not attempt.error


async def test_nothing_of_a_prompt_a_reply_or_a_tag_is_sent() -> None:
    quoting = InvalidRequest("no drake", provider="a")
    quoting.quotes_provider = True
    script = MockScript(replies=(MockReply(text="mallard"),), errors={2: quoting})
    options = CallOptions(tags={"who": "teal"})
    # Not even where the log may have them.
    config = attrs.evolve(mock_config("a"), log=LogConfig(debug_bodies=True))
    async with collecting() as collector:
        async with running(
            telling(collector.endpoint, config=config), a=mock("a", script)
        ) as (duck, _):
            await duck.complete(chat("gadwall"), options)
            with pytest.raises(DuckError):
                await duck.complete(chat("gadwall"), options)
            await collector.wait_until(lambda: len(collector.spans()) == 4)
        sent = b"".join(its.head + its.body for its in collector.upstream.requests)
        for text in (b"mallard", b"drake", b"teal", b"gadwall"):
            assert text not in sent
        assert b"mock-1" in sent


async def test_a_failover_is_two_spans_below_one() -> None:
    broken = MockScript(errors={1: ProviderTimeout("too slow", provider="a")})
    config = mock_config("a", "b", retry=RetryConfig(max_attempts=2))
    async with collecting() as collector:
        async with running(
            telling(collector.endpoint, config=config), a=mock("a", broken), b=mock("b")
        ) as (duck, _):
            await duck.complete(chat("hi"))
            await collector.wait_until(lambda: len(collector.spans()) == 3)
        [root], [first, second] = collector.roots(), collector.attempts()
        assert {first.parent, second.parent} == {root.id}
        assert (first.error, second.error, root.error) == (True, False, False)
        assert first.attributes["error.type"] == ProviderTimeout.code
        assert first.message == "too slow"
        assert "error.type" not in second.attributes | root.attributes
        its = [span.attributes for span in (first, second)]
        assert [one["duck.provider"] for one in its] == ["a", "b"]
        assert [one["duck.attempt"] for one in its] == [1, 2]
        assert root.attributes["duck.attempts"] == 2
        assert first.end <= second.start


async def test_a_failure_is_an_error_of_its_request_too() -> None:
    error = InvalidRequest("no ducks", provider="a")
    error.upstream_status = 422
    script = MockScript(errors={1: error})
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=mock("a", script)) as (
            duck,
            _,
        ):
            with pytest.raises(InvalidRequest):
                await duck.complete(chat("hi"))
            await collector.wait_until(lambda: len(collector.spans()) == 2)
        for span in collector.spans():
            assert span.error
            assert span.attributes["error.type"] == "invalid_request"
            assert span.attributes["duck.outcome"] == "invalid_request"
        [attempt] = collector.attempts()
        assert attempt.attributes["http.response.status_code"] == 422


async def test_a_client_that_leaves_is_no_error() -> None:
    slow = mock("a", MockScript(latency=60))
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=slow) as (duck, _):
            with trio.move_on_after(0.02):
                await duck.complete(chat("hi"))
            await collector.wait_until(lambda: len(collector.spans()) == 2)
        for span in collector.spans():
            assert span.attributes["duck.outcome"] == "cancelled"
            assert "error.type" not in span.attributes
            assert not span.error


async def test_a_stream_tells_when_it_began() -> None:
    script = MockScript(latency=0.03, chunk_interval=0.01)
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=mock("a", script)) as (
            duck,
            _,
        ):
            async with duck.stream(chat("one two three four")) as answer:
                async for _ in answer.batches:
                    pass
            await collector.wait_until(lambda: len(collector.spans()) == 2)
        [attempt] = collector.attempts()
        assert attempt.attributes["gen_ai.request.stream"] is True
        first = attempt.attributes["gen_ai.response.time_to_first_chunk"]
        assert 0.03 <= first < attempt.end - attempt.start
        assert attempt.attributes["duck.stream.pieces"] >= 4
        assert attempt.attributes["gen_ai.response.model"]


async def test_a_clients_trace_goes_on_here() -> None:
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=mock("a")) as (duck, _):
            options = CallOptions(traceparent=TRACEPARENT, submitter=BY)
            await duck.complete(chat("hi"), options)
            await collector.wait_until(lambda: len(collector.spans()) == 2)
        [attempt], [root] = collector.attempts(), collector.roots()
        assert (root.trace, root.parent) == CLIENT
        assert root.kind == "SERVER"
        assert (attempt.trace, attempt.parent) == (CLIENT[0], root.id)


async def test_a_trace_that_its_client_does_not_keep_is_not_sent() -> None:
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=mock("a")) as (duck, _):
            left_out = TRACEPARENT[:-1] + "0"
            await duck.complete(chat("hi"), CallOptions(traceparent=left_out))
            await duck.complete(chat("hi"), CallOptions(request_id="next"))
            await collector.wait_until(lambda: len(collector.spans()) == 2)
        ids = {its.attributes["duck.request.id"] for its in collector.spans()}
        assert ids == {"next"}


async def test_a_sampled_part_is_sent_and_what_clients_keep_as_well() -> None:
    async with collecting() as collector:
        config = telling(collector.endpoint, sample_ratio=1e-9)
        async with running(config, a=mock("a")) as (duck, _):
            for _ in range(20):
                await duck.complete(chat("hi"))
            await duck.complete(chat("hi"), CallOptions(traceparent=TRACEPARENT))
            await collector.wait_until(lambda: len(collector.spans()) == 2)
        assert {its.trace for its in collector.spans()} == {CLIENT[0]}


async def test_the_environment_may_decide_about_samples(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=mock("a")) as (duck, _):
            await duck.complete(chat("hi"))
            await collector.wait_until(lambda: collector.requests("/v1/metrics"))
        assert collector.spans() == []


async def test_the_runs_of_a_job_are_in_one_trace() -> None:
    script = MockScript(errors={1: ProviderTimeout("too slow", provider="a")})
    retry = RetryConfig(base_delay=0.01, max_delay=0.02, jitter=False)
    config = mock_config("a", retry=retry)
    async with collecting() as collector:
        async with running(
            telling(collector.endpoint, config=config), a=mock("a", script)
        ) as (duck, _):
            its = (await duck.jobs.submit(job("hi"))).job
            await duck.jobs.wait(its.id, 5)
            await collector.wait_until(lambda: len(collector.spans()) == 4)
        first, second = sorted(collector.roots(), key=lambda span: span.start)
        assert first.name == second.name == "duck.job_run"
        assert first.kind == "INTERNAL"
        assert (first.error, second.error) == (True, False)
        assert len({span.trace for span in collector.spans()}) == 1
        assert {span.attributes["duck.job.id"] for span in collector.spans()} == {
            its.id
        }
        assert [span.parent for span in collector.attempts()] == [first.id, second.id]


async def test_what_the_cache_answers_has_no_attempt() -> None:
    async with collecting() as collector:
        config = telling(collector.endpoint, config=cached())
        async with running(config, a=mock("a")) as (duck, _):
            await duck.complete(chat("hi", temperature=0.0))
            await duck.complete(chat("hi", temperature=0.0))
            await collector.wait_until(lambda: len(collector.spans()) == 3)
        first, second = sorted(collector.roots(), key=lambda span: span.start)
        assert second.attributes["duck.cache"] == "hit"
        assert [span.parent for span in collector.attempts()] == [first.id]


async def test_who_we_are_is_in_the_resource(monkeypatch) -> None:
    for set_, environ, expected in (
        ("", None, "duckd"),
        ("", "from-environ", "from-environ"),
        ("mine", "from-environ", "mine"),
    ):
        if environ is not None:
            monkeypatch.setenv("OTEL_SERVICE_NAME", environ)
        async with collecting() as collector:
            config = telling(collector.endpoint, service_name=set_)
            async with running(config, a=mock("a")) as (duck, _):
                await duck.complete(chat("hi"))
                await collector.wait_until(collector.spans)
            resource = collector.resources()[0]
            assert resource["service.name"] == expected
            assert resource["service.version"]


async def test_hostile_names_reach_the_collector_as_harmless_text() -> None:
    key = "sk-" + "a1" * 12
    async with collecting() as collector:
        async with running(telling(collector.endpoint), a=mock("a")) as (duck, _):
            for model in (f"mock-{key}", "mock-\ud800"):
                options = CallOptions(request_id="x" * 9999)
                await duck.complete(chat("hi", model=model), options)
            await collector.wait_until(lambda: len(collector.spans()) == 4)
        names = {its.attributes["gen_ai.request.model"] for its in collector.attempts()}
        assert names == {"mock-…", "mock-\\ud800"}
        texts = [its.attributes["duck.request.id"] for its in collector.spans()]
        assert {*map(len, texts)} == {256}
        sent = b"".join(its.body for its in collector.upstream.requests)
        assert key.encode() not in sent


async def test_a_provider_is_named_as_the_conventions_do_with_its_address() -> None:
    from duckservice.otel.places import place_of

    def place(adapter, base_url="", name="p"):
        its = ProviderConfig(name=name, adapter=adapter, base_url=base_url)
        return place_of(its)

    assert place("openai") == {
        "gen_ai.provider.name": "openai",
        "duck.provider": "p",
        "server.address": "api.openai.com",
        "server.port": 443,
    }
    local = place("openai-compatible", "http://127.0.0.1:11434/v1", "local")
    assert local["gen_ai.provider.name"] == "local"
    assert (local["server.address"], local["server.port"]) == ("127.0.0.1", 11434)
    assert place("openai-compatible", "http://h/v1")["server.port"] == 80
    assert place("gemini")["gen_ai.provider.name"] == "gcp.gemini"
    assert place("together")["gen_ai.provider.name"] == "together"
    assert "server.address" not in place("mock")


async def test_a_reload_that_brings_or_moves_a_provider_is_heeded() -> None:
    from duckservice.otel.places import Places

    def config(**adapters):
        return Config(
            providers={
                name: ProviderConfig(name=name, adapter=adapter)
                for name, adapter in adapters.items()
            }
        )

    configs = [config(a="openai")]
    places = Places(lambda: configs[-1])

    def names():
        return [places.of(name)["gen_ai.provider.name"] for name in ("a", "b")]

    assert names() == ["openai", "b"]
    configs.append(config(a="groq", b="xai"))
    assert names() == ["groq", "x_ai"]
    configs.append(config(b="xai"))
    assert names() == ["groq", "x_ai"]


async def test_only_traces_or_only_metrics_can_be_sent() -> None:
    for traces in (True, False):
        async with collecting() as collector:
            config = telling(collector.endpoint, traces=traces, metrics=not traces)
            async with running(config, a=mock("a")) as (duck, _):
                await duck.complete(chat("hi"))
                await collector.wait_until(lambda: collector.upstream.requests)
            assert bool(collector.requests("/v1/traces")) is traces
            assert bool(collector.requests("/v1/metrics")) is not traces


def test_neither_signal_is_off() -> None:
    its = TelemetryConfig(otlp_endpoint="http://h")
    assert its.enabled
    assert not attrs.evolve(its, traces=False, metrics=False).enabled
