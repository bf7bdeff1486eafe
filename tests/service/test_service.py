from __future__ import annotations

import attrs
import pytest
import trio

from duckservice.actors.request_queue import RequestQueue
from duckservice.calls.call import CallOptions
from duckservice.calls.planning import SERVING_MAX
from duckservice.completion import EmbeddingRequest, TextDelta
from duckservice.config import LimitsConfig, QueueConfig, RateLimitConfig, RetryConfig
from duckservice.core.circuit_breaker import Closed, HalfOpen, Open
from duckservice.errors import (
    BadProviderResponse,
    BudgetExceeded,
    CircuitOpen,
    DeadlineExceeded,
    Draining,
    DuckError,
    InvalidRequest,
    ModelNotFound,
    NoAvailableProvider,
    ProviderError,
    QueueFull,
    RateLimited,
)
from duckservice.events import AttemptEnded
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockReply, MockScript
from duckservice.running import open_running
from duckservice.status.providers import CHECK_LIMIT
from duckservice.tree import Seams

from .conftest import chat, mock_config, running

FAILS = MockScript(failure_rate=1.0)


async def test_a_request_is_answered_and_accounted_for(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, events):
        answer = await service.complete(chat("hello"))
        assert answer.value.text == "hello"
        assert answer.report.provider == "a"
        assert answer.report.attempts == 1
        summary = (await service.costs("provider"))["rows"]
        assert [(row["key"], row["requests"]) for row in summary] == [("a", 1)]
        assert answer.report.cost is not None
        assert answer.report.cost > 0
        (attempt,) = [e for e in events if isinstance(e, AttemptEnded)]
        assert attempt.outcome == "ok"
        assert service.counters.completed == 1


async def test_a_stream_is_answered_and_accounted_for(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        text = ""
        async with service.stream(chat("one two three")) as answer:
            async for batch in answer.batches:
                text += "".join(c.text for c in batch if isinstance(c, TextDelta))
        assert text == "one two three"
        assert answer.report.cost
        assert not answer.report.cost_estimated


async def test_embeddings_come_back_in_order(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        request = EmbeddingRequest(model="mock-1", input=("x", "y"))
        answer = await service.embed(request)
        assert len(answer.value.vectors) == 2


async def test_a_failing_provider_is_replaced_by_the_next(autojump_clock) -> None:
    config = mock_config("bad", "good")
    async with running(
        config, bad=MockProvider("bad", FAILS), good=MockProvider("good")
    ) as (service, _):
        answer = await service.complete(chat())
        assert answer.report.provider == "good"
        assert answer.report.attempts == 2


async def test_a_stream_that_fails_at_its_start_is_replaced(autojump_clock) -> None:
    config = mock_config("bad", "good")
    async with (
        running(config, bad=MockProvider("bad", FAILS), good=MockProvider("good")) as (
            service,
            _,
        ),
        service.stream(chat()) as answer,
    ):
        assert answer.report.provider == "good"
        async for _batch in answer.batches:
            pass


async def test_a_stream_that_breaks_off_is_an_error_and_never_repeated(
    autojump_clock,
) -> None:
    config = mock_config("cut", "good")
    cut = MockProvider("cut", MockScript(cut_after=2))
    async with running(config, cut=cut, good=MockProvider("good")) as (service, events):
        text = ""
        with pytest.raises(BadProviderResponse):
            async with service.stream(chat("one two three four")) as answer:
                async for batch in answer.batches:
                    text += "".join(c.text for c in batch if isinstance(c, TextDelta))
        assert text == "one two "
        (attempt,) = [e for e in events if isinstance(e, AttemptEnded)]
        assert attempt.outcome == "bad_provider_response"
        assert attempt.estimated
        assert attempt.output_tokens > 0, "what was delivered will be billed"


async def test_leaving_a_stream_early_gives_everything_back_and_is_billed(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, events):
        async with service.stream(chat("a b c d e f")) as answer:
            await anext(answer.batches)
            await anext(answer.batches)
        await trio.testing.wait_all_tasks_blocked()
        assert not service.parts.board.providers["a"].turns
        (attempt,) = [e for e in events if isinstance(e, AttemptEnded)]
        assert attempt.outcome == "cancelled"
        assert attempt.cost_usd != "0"
        assert (await service.queue())["running"] == 0


async def test_the_same_provider_is_asked_again_after_a_pause(autojump_clock) -> None:
    script = MockScript(errors={1: ProviderError("once"), 2: ProviderError("twice")})
    async with running(mock_config("a"), a=MockProvider("a", script)) as (service, _):
        answer = await service.complete(chat())
        assert answer.report.attempts == 3


async def test_attempts_are_limited(autojump_clock) -> None:
    config = mock_config("a", retry=RetryConfig(max_attempts=2))
    async with running(config, a=MockProvider("a", FAILS)) as (service, _):
        with pytest.raises(ProviderError) as info:
            await service.complete(chat())
        assert info.value.provider == "a"
        assert info.value.job
        assert service.parts.board.providers["a"].requests == 2


async def test_the_callers_own_mistake_is_not_repeated(autojump_clock) -> None:
    script = MockScript(errors={1: InvalidRequest("no such thing")})
    config = mock_config("a", "b")
    async with running(config, a=MockProvider("a", script), b=MockProvider("b")) as (
        service,
        _,
    ):
        with pytest.raises(InvalidRequest):
            await service.complete(chat())
        assert service.parts.board.providers["b"].requests == 0
        assert service.parts.board.providers["a"].breaker == Closed(
            era=service.parts.board.providers["a"].breaker.era
        )


async def test_a_provider_that_fails_too_often_is_left_alone_and_tried_again(
    autojump_clock,
) -> None:
    script = MockScript(errors={n: ProviderError("down") for n in (1, 2, 3)})
    config = mock_config("a", retry=RetryConfig(max_attempts=1))
    async with running(config, a=MockProvider("a", script)) as (service, _):
        for _ in range(3):
            with pytest.raises(ProviderError):
                await service.complete(chat())
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(service.parts.board.providers["a"].breaker, Open)
        with pytest.raises(CircuitOpen) as info:
            await service.complete(chat())
        assert info.value.retry_after == pytest.approx(10.0)
        await trio.sleep(10)
        for _ in range(3):
            await service.complete(chat())
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(service.parts.board.providers["a"].breaker, Closed)


async def test_while_a_probe_is_out_nobody_is_told_to_wait_for_its_expiry(
    autojump_clock,
) -> None:
    script = MockScript(
        latency=5.0, errors={n: ProviderError("down") for n in (1, 2, 3)}
    )
    config = mock_config("a", retry=RetryConfig(max_attempts=1))
    async with running(config, a=MockProvider("a", script)) as (service, _):
        for _ in range(3):
            with pytest.raises(ProviderError):
                await service.complete(chat())
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.complete, chat())
            await trio.sleep(1)
            assert isinstance(service.parts.board.providers["a"].breaker, HalfOpen)
            with pytest.raises(CircuitOpen) as info:
                await service.complete(chat())
            assert info.value.retry_after is None


async def test_an_open_breaker_sends_its_traffic_to_the_next(autojump_clock) -> None:
    config = mock_config("bad", "good")
    async with running(
        config, bad=MockProvider("bad", FAILS), good=MockProvider("good")
    ) as (service, _):
        for _ in range(10):
            assert (await service.complete(chat())).report.provider == "good"
        assert service.parts.board.providers["bad"].requests == 3


async def test_all_failing_providers_are_named(autojump_clock) -> None:
    config = mock_config("a", "b")
    async with running(
        config, a=MockProvider("a", FAILS), b=MockProvider("b", FAILS)
    ) as (service, _):
        with pytest.raises(NoAvailableProvider, match=r"a: provider_error: .*; b: "):
            await service.complete(chat())


async def test_an_unknown_model_is_the_callers_mistake(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        with pytest.raises(ModelNotFound) as info:
            await service.complete(chat(model="gpt-17"))
        assert info.value.param == "model"


async def test_a_fallback_model_serves_when_nobody_else_does(autojump_clock) -> None:
    config = mock_config("a", fallbacks={"gpt-17": ("mock-1",)})
    async with running(config, a=MockProvider("a")) as (service, _):
        answer = await service.complete(chat(model="gpt-17"))
        assert answer.report.model == "mock-1"


async def test_turns_are_limited_and_given_by_priority(autojump_clock) -> None:
    config = mock_config("a", max_concurrency=1)
    provider = MockProvider("a", MockScript(latency=1.0))
    order = list[str]()
    async with (
        running(config, a=provider) as (service, _),
        trio.open_nursery() as nursery,
    ):

        async def one(name: str, priority) -> None:
            await service.complete(chat(name), CallOptions(priority=priority))
            order.append(name)

        nursery.start_soon(one, "first", "low")
        await trio.sleep(0.1)
        for name in ("low", "normal", "high"):
            nursery.start_soon(one, name, name)
            await trio.sleep(0.1)
    assert order == ["first", "high", "normal", "low"]


async def test_a_full_queue_says_so_at_once(autojump_clock) -> None:
    config = mock_config("a", max_concurrency=1, queue=QueueConfig(max_size=1))
    provider = MockProvider("a", MockScript(latency=1.0))
    async with (
        running(config, a=provider) as (service, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(service.complete, chat())
        nursery.start_soon(service.complete, chat())
        await trio.sleep(0.1)
        with pytest.raises(QueueFull, match=r"^1 request waits already$"):
            await service.complete(chat())


async def test_who_gives_up_waiting_leaves_nothing_behind(autojump_clock) -> None:
    config = mock_config("a", max_concurrency=1)
    provider = MockProvider("a", MockScript(latency=10.0))
    async with (
        running(config, a=provider) as (service, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(service.complete, chat())
        await trio.sleep(0.1)
        with trio.move_on_after(1):
            await service.complete(chat())
        statistics = await service.parts.queue.call(RequestQueue.statistics)
        assert statistics.waiting == 0
        assert statistics.running_by_lane == {"a": 1}


async def test_the_rate_limit_spreads_requests(autojump_clock) -> None:
    config = mock_config("a", rate_limit=RateLimitConfig(capacity=2, refill_rate=1.0))
    async with running(config, a=MockProvider("a")) as (service, _):
        since = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(service.complete, chat())
        assert trio.current_time() - since == pytest.approx(3.0, abs=0.01)


async def test_what_can_never_fit_the_limit_is_refused_at_once(autojump_clock) -> None:
    config = mock_config("a", limits=LimitsConfig(tokens_per_minute=100))
    async with running(config, a=MockProvider("a")) as (service, _):
        with pytest.raises(RateLimited) as info:
            await service.complete(chat(max_tokens=1000))
        assert not info.value.retryable


async def test_after_a_429_nothing_is_sent_for_as_long_as_asked(autojump_clock) -> None:
    script = MockScript(errors={1: RateLimited("slow down", retry_after=7.0)})
    async with running(mock_config("a"), a=MockProvider("a", script)) as (service, _):
        since = trio.current_time()
        answer = await service.complete(chat())
        assert answer.report.attempts == 2
        assert trio.current_time() - since >= 7.0
        assert isinstance(service.parts.board.providers["a"].breaker, Closed)


async def test_a_pause_of_zero_that_a_429_asks_for_is_none(autojump_clock) -> None:
    refusal = RateLimited("again, please", retry_after=0.0)
    config = mock_config("a", retry=RetryConfig(base_delay=0.0))
    provider = MockProvider("a", MockScript(errors={1: refusal}))
    async with running(config, a=provider) as (service, _):
        since = trio.current_time()
        assert (await service.complete(chat())).report.attempts == 2
        assert trio.current_time() == since


async def test_who_waits_for_the_limiter_is_not_sent_to_a_provider_that_rests(
    autojump_clock,
) -> None:
    limit = RateLimitConfig(capacity=3, refill_rate=1.0)
    config = mock_config("a", rate_limit=limit, retry=RetryConfig(max_attempts=1))
    codes = list[str]()
    fails = MockScript(failure_rate=1.0, latency=0.5)
    async with running(config, a=MockProvider("a", fails)) as (service, _):

        async def one() -> None:
            with pytest.raises(DuckError) as info:
                await service.complete(chat())
            codes.append(info.value.code)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(one)
        assert service.parts.board.providers["a"].requests == 3
        assert sorted(codes) == ["circuit_open"] * 5 + ["provider_error"] * 3
        (state,) = await service.providers()
        assert state["in_flight"] == 0
        assert state["limiter"]["waiting"] == 0
        # Whoever was not sent has taken nothing from the limit.
        await trio.sleep(3.0)
        (state,) = await service.providers()
        assert state["limiter"]["available"] == 3
        assert (await service.queue())["running"] == 0


async def test_made_up_names_of_models_do_not_fill_the_memory(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        for number in range(SERVING_MAX + 10):
            await service.count_tokens(chat(model=f"mock-{number}"))
        assert len(service.planner._serving) <= SERVING_MAX
        with pytest.raises(ModelNotFound) as info:
            await service.complete(chat(model="mock-" + "x" * 100_000))
        assert info.value.param == "model"
        assert len(info.value.message) < 200


@pytest.mark.parametrize("how", ["complete", "stream", "in_stream"])
async def test_a_bug_in_an_adapter_is_no_cancellation(
    how, autojump_clock, monkeypatch
) -> None:
    def fail(*_args) -> None:
        msg = "the prompt was: hello"
        raise TypeError(msg)

    provider = MockProvider("a", MockScript(cut_after=1))
    monkeypatch.setattr(provider, "_cut_off" if how == "in_stream" else "_answer", fail)
    async with running(mock_config("a"), a=provider) as (service, events):
        with pytest.raises(TypeError):
            if how == "complete":
                await service.complete(chat())
            async with service.stream(chat("one two")) as answer:
                async for _batch in answer.batches:
                    pass
        (attempt,) = [e for e in events if isinstance(e, AttemptEnded)]
        assert attempt.outcome == "internal_error"
        assert attempt.error is not None
        assert "hello" not in attempt.error
        assert (await service.queue())["running"] == 0


async def test_each_attempt_tells_its_own_wait(autojump_clock) -> None:
    limit = RateLimitConfig(capacity=1, refill_rate=0.1)
    config = mock_config("a", rate_limit=limit, retry=RetryConfig(base_delay=0.0))
    script = MockScript(errors={1: ProviderError("once"), 2: ProviderError("twice")})
    async with running(config, a=MockProvider("a", script)) as (service, events):
        report = (await service.complete(chat())).report
        waits = [e.queued for e in events if isinstance(e, AttemptEnded)]
        assert waits == pytest.approx([0.0, 10.0, 10.0])
        assert report.queued == pytest.approx(20.0)


async def test_the_deadline_ends_a_request(autojump_clock) -> None:
    provider = MockProvider("a", MockScript(latency=100.0))
    async with running(mock_config("a"), a=provider) as (service, events):
        deadline = trio.current_time() + 5
        with pytest.raises(DeadlineExceeded):
            await service.complete(chat(), CallOptions(deadline=deadline))
        assert trio.current_time() == pytest.approx(deadline)
        await trio.testing.wait_all_tasks_blocked()
        assert (await service.queue())["running"] == 0
        assert [e.outcome for e in events if isinstance(e, AttemptEnded)] == [
            "cancelled"
        ]


async def test_a_request_that_may_cost_too_much_is_not_sent(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        with pytest.raises(BudgetExceeded):
            await service.complete(chat(max_tokens=1000), CallOptions(max_cost=10))
        with pytest.raises(BudgetExceeded, match="cannot be bounded"):
            await service.complete(chat(), CallOptions(max_cost=10**12))
        await service.complete(chat(max_tokens=1000), CallOptions(max_cost=10**12))
        assert service.parts.board.providers["a"].requests == 1


async def test_a_draining_service_takes_nothing_new(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        service.draining = True
        with pytest.raises(Draining):
            await service.complete(chat())


async def test_a_disabled_provider_gets_nothing_until_enabled(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        assert (await service.provider_action("a", "disable"))["enabled"] is False
        with pytest.raises(CircuitOpen):
            await service.complete(chat())
        await service.restart_actor("providers/a/circuit_breaker")
        with pytest.raises(CircuitOpen):
            await service.complete(chat())
        await service.provider_action("a", "enable")
        await service.complete(chat())


async def test_tool_calls_pass_through(autojump_clock) -> None:
    from duckservice.completion import Tool, ToolCall

    call = ToolCall(id="c1", name="look", arguments='{"x":1}')
    script = MockScript(replies=(MockReply(tool_calls=(call,)),))
    async with running(mock_config("a"), a=MockProvider("a", script)) as (service, _):
        answer = await service.complete(chat(tools=(Tool(name="look"),)))
        assert answer.value.choices[0].tool_calls == (call,)


async def test_a_paused_queue_gives_no_turns_until_it_is_resumed(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        assert (await service.pause_queue(paused=True))["paused"]
        with trio.move_on_after(60) as scope:
            await service.complete(chat())
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.complete, chat())
            await trio.sleep(1)
            assert (await service.queue())["waiting"] == 1
            assert not (await service.pause_queue(paused=False))["paused"]
        assert service.counters.completed == 1


async def test_costs_are_told_since_a_moment(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        await service.complete(chat())
        assert (await service.costs("model", 0.0))["total"]["requests"] == 1
        assert (await service.costs("model", 2_000_000.0))["total"]["requests"] == 0


async def test_a_failing_log_fails_no_request(autojump_clock, monkeypatch) -> None:
    failures = list[object]()
    monkeypatch.setattr("sys.unraisablehook", failures.append)

    def broken(_event) -> None:
        raise OSError("the disk is full")

    providers = {"a": MockProvider("a")}
    async with open_running(
        mock_config("a"), providers=providers, seams=Seams(emit=broken)
    ) as service:
        assert (await service.complete(chat())).value.text == "hello"
    assert failures


async def test_a_refusal_says_whether_somebody_has_disabled_the_provider(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        await service.provider_action("a", "disable")
        with pytest.raises(CircuitOpen, match="'a' is disabled"):
            await service.complete(chat())


@pytest.mark.parametrize("debug_bodies", [False, True])
async def test_a_providers_own_words_reach_the_log_only_if_it_is_to_show_bodies(
    debug_bodies, autojump_clock
) -> None:
    words = InvalidRequest("your prompt 'my secret diary' is too long")
    words.quotes_provider = True
    words.upstream_status = 400
    config = mock_config("a")
    config = attrs.evolve(
        config, log=attrs.evolve(config.log, debug_bodies=debug_bodies)
    )
    provider = MockProvider("a", MockScript(errors={1: words}))
    async with running(config, a=provider) as (service, events):
        with pytest.raises(InvalidRequest, match="secret diary"):
            await service.complete(chat())
    (attempt,) = [e for e in events if isinstance(e, AttemptEnded)]
    assert ("diary" in str(attempt)) == debug_bodies
    assert attempt.upstream_status == 400


async def test_a_provider_with_patterns_only_is_asked_for_its_models(
    autojump_clock,
) -> None:
    config = mock_config("named", "asked")
    config = attrs.evolve(
        config,
        providers={
            "named": attrs.evolve(config.providers["named"], models=("mock-1", "x-*")),
            "asked": attrs.evolve(config.providers["asked"], models=("mock-*",)),
        },
    )
    providers = {"named": MockProvider("named"), "asked": MockProvider("asked")}
    async with running(config, **providers) as (service, _):
        owners = {model.id: model.owned_by for model in await service.models()}
        assert owners["mock-1"] == "named"
        assert owners["mock-slow"] == "asked"


async def test_a_provider_that_does_not_tell_its_models_delays_the_list_by_seconds(
    autojump_clock,
) -> None:
    class Silent(MockProvider):
        async def list_models(self):
            await trio.sleep_forever()

    config = mock_config("a", models=("mock-*",))
    async with running(config, a=Silent("a")) as (service, _):
        assert await service.models() == ()
        assert trio.current_time() == pytest.approx(5.0)
        assert await service.models() == ()
        assert trio.current_time() == pytest.approx(5.0), (
            "it is not asked again at once"
        )


async def test_all_providers_are_checked_side_by_side_and_a_silent_one_is_given_up(
    autojump_clock,
) -> None:
    class Silent(MockProvider):
        async def health_check(self):
            await trio.sleep_forever()

    config = mock_config("a", "b", "c")
    providers = {"a": Silent("a"), "b": MockProvider("b"), "c": Silent("c")}
    async with running(config, **providers) as (service, _):
        started = trio.current_time()
        found = await service.check_providers()
        assert trio.current_time() - started == pytest.approx(CHECK_LIMIT)
    assert [(each["name"], each["healthy"]) for each in found] == [
        ("a", False),
        ("b", True),
        ("c", False),
    ]
    assert "no answer within" in found[0]["detail"]


async def asked(service, model: str) -> str | None:
    return (await service.complete(chat(model=model))).report.provider


async def test_who_names_a_model_comes_before_who_serves_any(autojump_clock) -> None:
    models = {"local": ("*",), "named": ("gpt-4o", "*")}
    config = mock_config(*models)
    config = attrs.evolve(
        config,
        providers={
            name: attrs.evolve(its, models=models[name], priority=1)
            for name, its in config.providers.items()
        },
    )
    instances = {name: MockProvider(name, models=models[name]) for name in models}
    async with running(config, **instances) as (service, _):
        assert await asked(service, "gpt-4o") == "named"
        assert await asked(service, "other") == "local"
        assert [g.config.name for g in service.candidates("gpt-4o")] == [
            "named",
            "local",
        ]


async def test_who_says_nothing_of_models_serves_what_nobody_names(
    autojump_clock,
) -> None:
    config = mock_config("local", "named")
    named = attrs.evolve(config.providers["named"], models=("gpt-*",))
    config = attrs.evolve(config, providers=dict(config.providers) | {"named": named})
    instances = {
        "local": MockProvider("local", models=("*",)),
        "named": MockProvider("named", models=("gpt-*",)),
    }
    async with running(config, **instances) as (service, _):
        assert await asked(service, "gpt-4o") == "named"
        assert await asked(service, "llama") == "local"
        assert [g.config.name for g in service.candidates("gpt-4o")] == ["named"]


async def test_a_failure_names_the_stand_in_that_could_not_be_asked(
    autojump_clock,
) -> None:
    class Strict(MockProvider):
        def check(self, request):
            if request.seed is not None:
                message = "seed: cannot be translated"
                raise InvalidRequest(message, provider="b", param="seed")

    config = mock_config("a", "b", fallbacks={"mock-1": ("other",)})
    instances = {
        "a": MockProvider("a", MockScript(failure_rate=1.0), models=("mock-1",)),
        "b": Strict("b", models=("other",)),
    }
    async with running(config, **instances) as (service, _):
        with pytest.raises(ProviderError) as caught:
            await service.complete(chat(seed=1))
        assert "b was not asked: seed: cannot be translated" in str(caught.value)
        assert await asked(service, "mock-1") == "b"
