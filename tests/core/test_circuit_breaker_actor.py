"""The breaker in a running service: by model, slow calls, crashes, what it tells."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing

from duckservice.config import (
    BreakerConfig,
    RateLimitConfig,
    RetryConfig,
    TimeoutConfig,
)
from duckservice.core import circuit_breaker as core
from duckservice.errors import CircuitOpen, DuckError, ProviderError, ProviderTimeout
from duckservice.events import BreakerMoved, to_log
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from tests.service.conftest import chat, mock_config, running

ONCE = RetryConfig(max_attempts=1)
BREAKER = BreakerConfig(failure_threshold=3, reset_timeout=10.0, success_threshold=1)
BY_MODEL = attrs.evolve(BREAKER, scope="model")
ACTOR = "providers/a/circuit_breaker"


def config(breaker: BreakerConfig = BREAKER, **more):
    return mock_config("a", retry=ONCE, breaker=breaker, **more)


async def fails(service, model: str = "mock-fail", times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ProviderError):
            await service.complete(chat(model=model))
    await trio.testing.wait_all_tasks_blocked()


async def crash(service) -> None:
    await service.restart_actor(ACTOR)
    await trio.testing.wait_all_tasks_blocked()  # the next incarnation is there


def moves(events) -> list[tuple[str, str, str]]:
    moved = [event for event in events if isinstance(event, BreakerMoved)]
    return [(event.model, event.now, event.why) for event in moved]


async def shown(service) -> dict[str, Any]:
    (provider,) = await service.providers()
    status = (await service.status())["providers"]["a"]
    assert {key: provider[key] for key in status if key in provider} == status
    return provider


async def test_a_model_that_fails_rests_and_the_others_go_on(autojump_clock) -> None:
    async with running(config(BY_MODEL), a=MockProvider("a")) as (service, events):
        await fails(service, times=3)
        with pytest.raises(CircuitOpen) as info:
            await service.complete(chat(model="mock-fail"))
        assert info.value.retry_after == pytest.approx(10.0)
        await service.complete(chat(model="mock-echo"))
        assert moves(events) == [("mock-fail", "open", "3 failures in a row")]
        its = await shown(service)
        assert its["breaker"] == "closed"
        assert its["breakers"]["mock-echo"]["breaker"] == "closed"
        assert its["breakers"]["mock-fail"] == {
            "breaker": "open",
            "breaker_why": "3 failures in a row",
            "breaker_wait_s": 10.0,
        }


async def test_a_provider_of_one_breaker_rests_with_all_its_models(
    autojump_clock,
) -> None:
    async with running(config(), a=MockProvider("a")) as (service, events):
        await fails(service, times=3)
        with pytest.raises(CircuitOpen):
            await service.complete(chat(model="mock-echo"))
        its = await shown(service)
        assert (its["breaker"], its["breakers"]) == ("open", {})
        assert its["breaker_why"] == "3 failures in a row"
        assert moves(events) == [("", "open", "3 failures in a row")]


async def test_operators_act_on_a_provider_with_all_its_models(autojump_clock) -> None:
    async with running(config(BY_MODEL), a=MockProvider("a")) as (service, events):
        await fails(service, times=3)
        await service.provider_action("a", "disable")
        await service.provider_action("a", "disable")
        for model in ("mock-echo", "mock-fail"):
            with pytest.raises(DuckError):
                await service.complete(chat(model=model))
        assert not (await shown(service))["enabled"]
        await service.provider_action("a", "enable")
        await service.complete(chat(model="mock-echo"))
        await fails(service, times=3)
        await service.provider_action("a", "reset")
        await fails(service)
        assert [(model, now) for model, now, _ in moves(events)] == [
            ("mock-fail", "open"),
            ("", "disabled"),
            ("mock-fail", "disabled"),
            ("", "closed"),
            ("mock-fail", "open"),
            ("mock-fail", "closed"),
        ]
        assert moves(events)[-1][2] == "reset by hand"


async def test_made_up_models_do_not_fill_the_memory(autojump_clock) -> None:
    async with running(config(BY_MODEL), a=MockProvider("a")) as (service, _):
        await fails(service, times=3)
        for number in range(300):
            await service.complete(chat(model=f"mock-{number}"))
        its = service.parts.board.providers["a"].breakers
        assert len(its) == 256
        assert isinstance(its["mock-fail"], core.Open)


async def test_a_failure_rate_opens_it(autojump_clock) -> None:
    breaker = attrs.evolve(BREAKER, failure_rate=0.5, min_requests=4)
    async with running(config(breaker), a=MockProvider("a")) as (service, events):
        await service.complete(chat())
        await fails(service)
        await service.complete(chat())
        await fails(service)
        assert moves(events) == [("", "open", "failure rate 0.50")]


async def test_slow_answers_open_it_though_all_succeed(autojump_clock) -> None:
    breaker = attrs.evolve(BREAKER, slow_call=1.0, min_requests=3)
    slow = MockProvider("a", MockScript(latency=1.5))
    async with running(config(breaker), a=slow) as (service, events):
        for _ in range(3):
            await service.complete(chat())
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(CircuitOpen):
            await service.complete(chat())
        await trio.sleep(10)
        await service.complete(chat())
        await trio.testing.wait_all_tasks_blocked()
        assert moves(events) == [
            ("", "open", "slow calls: 3 of 3"),
            ("", "half_open", "its rest is over"),
            ("", "open", "slow calls: 1 of 1 probes"),
        ]


async def test_a_timeout_is_a_slow_call_however_soon_it_comes(autojump_clock) -> None:
    breaker = BreakerConfig(failure_threshold=99, slow_call=60.0, min_requests=3)
    script = MockScript(errors={n: ProviderTimeout("late") for n in (1, 2, 3)})
    async with running(config(breaker), a=MockProvider("a", script)) as (
        service,
        events,
    ):
        await fails(service, "mock-1", times=3)
        assert moves(events) == [("", "open", "slow calls: 3 of 3")]


@pytest.mark.parametrize("crashes", [1, 5])
@pytest.mark.parametrize("breaker", [BREAKER, BY_MODEL], ids=["provider", "model"])
async def test_a_crash_lifts_no_rest(breaker, crashes, autojump_clock) -> None:
    async with running(config(breaker), a=MockProvider("a")) as (service, _):
        await fails(service, times=3)
        await trio.sleep(4)
        for _ in range(crashes):
            await crash(service)
        with pytest.raises(CircuitOpen) as info:
            await service.complete(chat(model="mock-fail"))
        assert info.value.retry_after == pytest.approx(6.0)
        await trio.sleep(6)
        await fails(service)  # a probe passes


async def test_a_crash_takes_no_place_from_a_probe_and_makes_none(
    autojump_clock,
) -> None:
    script = MockScript(latency=5, errors={n: ProviderError("no") for n in (1, 2, 3)})
    async with running(config(), a=MockProvider("a", script)) as (service, events):
        await fails(service, "mock-1", times=3)
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.complete, chat())
            await trio.sleep(1)
            await crash(service)
            with pytest.raises(CircuitOpen):
                await service.complete(chat())
        await trio.testing.wait_all_tasks_blocked()
        assert moves(events)[-1] == ("", "closed", "enough probes succeeded")


async def test_a_disabled_provider_stays_so_whatever_crashes(autojump_clock) -> None:
    async with running(config(BY_MODEL), a=MockProvider("a")) as (service, _):
        await service.provider_action("a", "disable")
        await crash(service)
        with pytest.raises(DuckError):
            await service.complete(chat())


async def test_a_state_that_crashes_the_actor_is_not_kept_for_ever(
    autojump_clock, monkeypatch
) -> None:
    """And the daemon lives on: it stops after 20 crashes within 10 seconds."""
    works = core.admit
    crashes = 0

    def admit(state, policy, now):
        nonlocal crashes
        if isinstance(state, core.HalfOpen):
            crashes += 1
            raise ZeroDivisionError
        return works(state, policy, now)

    script = MockScript(latency=1, errors={n: ProviderError("no") for n in (1, 2, 3)})
    breaker = attrs.evolve(BREAKER, success_threshold=2)
    async with running(config(breaker), a=MockProvider("a", script)) as (
        service,
        events,
    ):
        await fails(service, "mock-1", times=3)
        await trio.sleep(10)
        await service.complete(chat())  # one probe of two: half open now
        monkeypatch.setattr(core, "admit", admit)
        for _ in range(100):
            with pytest.raises(DuckError):
                await service.complete(chat())
            await trio.sleep(0.05)
        assert crashes == 3
        assert moves(events)[-1][1:] == ("open", "its actor crashes again and again")
        monkeypatch.undo()
        await trio.sleep(10)
        for _ in range(2):
            await service.complete(chat())
        await trio.testing.wait_all_tasks_blocked()
        assert moves(events)[-1][1] == "closed"


@pytest.mark.parametrize("steps", range(1, 16))
@pytest.mark.parametrize("breaker", [BREAKER, BY_MODEL], ids=["provider", "model"])
async def test_a_probe_cancelled_at_any_step_gives_its_place_back(
    breaker, steps, autojump_clock
) -> None:
    script = MockScript(latency=5, errors={n: ProviderError("no") for n in (1, 2, 3)})
    its = config(breaker, rate_limit=RateLimitConfig(capacity=4, refill_rate=0.001))
    async with running(its, a=MockProvider("a", script)) as (service, _):
        await fails(service, "mock-1", times=3)
        await trio.sleep(10)
        board = service.parts.board.providers["a"]
        for _ in range(2):  # the first is sent, the second waits for the rate limit
            async with trio.open_nursery() as nursery:
                nursery.start_soon(service.complete, chat())
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            state = board.breaker_of("mock-1")
            assert not (isinstance(state, core.HalfOpen) and state.probes)
            assert core.eligible(state, trio.current_time())


async def test_nobody_holds_a_probe_while_it_waits_for_the_rate_limit(
    autojump_clock,
) -> None:
    """It would expire there, and others be refused; what is sent is one that counts."""
    its = config(
        rate_limit=RateLimitConfig(capacity=3, refill_rate=0.01),
        timeout=TimeoutConfig(total=20.0),
    )
    script = MockScript(errors={n: ProviderError("no") for n in (1, 2, 3)})
    async with running(its, a=MockProvider("a", script)) as (service, _):
        await fails(service, "mock-1", times=3)
        await trio.sleep(10)
        board = service.parts.board.providers["a"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.complete, chat())
            for _ in range(4):
                await trio.sleep(5)
                assert core.eligible(board.breaker, trio.current_time())
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(board.breaker, core.Closed)


async def test_a_move_is_a_line_of_the_log(capsys) -> None:
    to_log(
        BreakerMoved(provider="a", model="m\n", was="closed", now="open", why="slow")
    )
    (line,) = capsys.readouterr().out.splitlines()
    assert "breaker.moved" in line
    assert "why=slow" in line
