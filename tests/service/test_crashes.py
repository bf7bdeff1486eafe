"""Every actor is crashed under load: callers get an answer or a typed error, at once."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from duckservice.actors.circuit_breaker import CircuitBreaker
from duckservice.actors.rate_limiter import RateLimiter
from duckservice.calls.asking import ask
from duckservice.config import RateLimitConfig, RetryConfig
from duckservice.errors import DuckError, InternalError, forget_frames
from duckservice.events import AttemptEnded
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from supervisors import (
    ActorRef,
    ChildTerminated,
    Crashed,
    Event,
    SupervisorSpec,
    actor,
    open_supervisor,
)

from .conftest import chat, mock_config, running

ACTORS = [
    "cost_tracker",
    "request_queue",
    "providers",
    "providers/a",
    "providers/a/rate_limiter",
    "providers/a/circuit_breaker",
    "providers/a/client",
]


@pytest.mark.parametrize("path", ACTORS)
async def test_a_crash_under_load_is_noticed_by_nobody(path, autojump_clock) -> None:
    config = mock_config("a", "b", max_concurrency=4, retry=RetryConfig(max_attempts=2))
    providers = {
        name: MockProvider(name, MockScript(latency=0.5), models=(f"mock-{name}",))
        for name in "ab"
    }
    outcomes = list[str]()
    async with running(config, **providers) as (service, events):
        async with trio.open_nursery() as nursery:

            async def one(model: str) -> None:
                try:
                    await service.complete(chat(model=model))
                except DuckError as error:
                    outcomes.append(error.code)
                else:
                    outcomes.append("ok")

            for _ in range(20):
                nursery.start_soon(one, "mock-a")
                nursery.start_soon(one, "mock-b")
            await trio.sleep(0.7)  # some run, most wait
            await service.restart_actor(path)
        assert outcomes == ["ok"] * 40
        # Four at a time, half a second each: a crash may not have let more in.
        assert trio.current_time() >= 2.5
        ended = [e for e in events if isinstance(e, AttemptEnded)]
        assert len(ended) == 40
        assert (await service.costs("total"))["total"]["requests"] == 40
        assert (await service.queue())["running"] == 0
        assert not any(its.turns for its in service.parts.board.providers.values())


async def test_a_crash_of_the_queue_does_not_let_more_requests_run(
    autojump_clock,
) -> None:
    running_now = most = 0

    async def sleep(seconds: float) -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await trio.sleep(seconds)
        running_now -= 1

    provider = MockProvider("a", MockScript(latency=1.0), sleep=sleep)
    async with (
        running(mock_config("a", max_concurrency=3), a=provider) as (service, _),
        trio.open_nursery() as nursery,
    ):
        for _ in range(12):
            nursery.start_soon(service.complete, chat())
        for _ in range(3):
            await trio.sleep(0.6)
            await service.restart_actor("request_queue")
    assert most == 3


async def test_a_crash_of_the_limiter_lifts_no_limit(autojump_clock) -> None:
    config = mock_config("a", rate_limit=RateLimitConfig(capacity=5, refill_rate=1.0))
    async with running(config, a=MockProvider("a")) as (service, _):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(service.complete, chat())
            await trio.sleep(0.1)
            await service.restart_actor("providers/a/rate_limiter")
        assert trio.current_time() >= 5.0


async def test_a_paused_queue_stays_so_when_it_crashes(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        await service.pause_queue(paused=True)
        await service.restart_actor("request_queue")
        assert (await service.queue())["paused"]
        await service.pause_queue(paused=False)
        await service.restart_actor("request_queue")
        await service.complete(chat())


@pytest.mark.parametrize(
    ("actor", "method"), [(CircuitBreaker, "admit"), (RateLimiter, "acquire")]
)
async def test_an_actor_that_dies_of_every_request_is_its_own_providers_affair(
    actor, method, autojump_clock, monkeypatch
) -> None:
    works = getattr(actor, method)

    def admit_or_acquire(self, *args, **more):
        if self.provider == "a":
            msg = "a bug"
            raise RuntimeError(msg)
        return works(self, *args, **more)

    admit_or_acquire.__qualname__ = works.__qualname__
    monkeypatch.setattr(actor, method, admit_or_acquire)
    providers = {name: MockProvider(name) for name in "ab"}
    async with running(mock_config("a", "b"), **providers) as (service, _):
        assert (await service.complete(chat())).report.provider == "b"
        assert service.parts.board.providers["a"].requests == 0
        assert (await service.queue())["running"] == 0


async def test_no_cent_is_lost_when_the_cost_tracker_crashes(autojump_clock) -> None:
    async with running(mock_config("a"), a=MockProvider("a")) as (service, _):
        cost = (await service.complete(chat())).report.cost
        before = await service.costs("total")
        await service.restart_actor("cost_tracker")
        assert await service.costs("total") == before
        assert cost


async def test_cancelling_at_any_moment_leaks_nothing(autojump_clock) -> None:
    config = mock_config(
        "a",
        max_concurrency=2,
        rate_limit=RateLimitConfig(capacity=3, refill_rate=2.0),
    )
    provider = MockProvider("a", MockScript(latency=0.3))
    async with running(config, a=provider) as (service, _):
        for step in range(40):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(service.complete, chat())
                await trio.sleep(step * 0.05)
                nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        queue = await service.queue()
        assert (queue["running"], queue["waiting"]) == (0, 0)
        (state,) = await service.providers()
        assert state["in_flight"] == 0
        assert state["limiter"]["waiting"] == 0
        assert service.counters.in_flight == 0
        await service.complete(chat())


@pytest.mark.parametrize("steps", range(1, 12))
async def test_a_request_cancelled_at_any_step_leaves_no_permission(
    steps, autojump_clock
) -> None:
    config = mock_config(
        "a",
        max_concurrency=2,
        rate_limit=RateLimitConfig(capacity=2, refill_rate=1.0),
    )
    provider = MockProvider("a", MockScript(latency=5.0))
    async with running(config, a=provider) as (service, _):
        for _ in range(3):  # granted at once, then waiting for the limit, for a turn
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(service.complete, chat())
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        queue = await service.queue()
        assert (queue["running"], queue["waiting"]) == (0, 0)
        (state,) = await service.providers()
        assert state["in_flight"] == 0
        assert state["limiter"]["waiting"] == 0


async def test_who_forgets_an_error_does_not_take_the_crash_from_the_log() -> None:
    crashes = list[BaseException]()

    def note(event: Event) -> None:
        match event:
            case ChildTerminated(exit=Crashed(error)):
                crashes.append(error)
            case _:
                pass

    class Bad:
        def fail(self) -> None:
            raise ValueError("as ever")

    ref = ActorRef[Bad]("bad")
    spec = SupervisorSpec(children=[actor(ref, Bad)], max_restarts=9)
    async with open_supervisor(spec, on_event=note):
        with pytest.raises(InternalError) as caught:
            await ask(lambda: ref.call(Bad.fail))
        forget_frames(caught.value)
        await trio.testing.wait_all_tasks_blocked()
    assert len(crashes) == 5
    assert all(crash.__traceback__ for crash in crashes)
