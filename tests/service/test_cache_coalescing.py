"""What `cache.coalesce` promises: equal requests that are under way become one call."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from duckservice.calls.call import CallOptions
from duckservice.completion import TextDelta
from duckservice.config import RetryConfig
from duckservice.errors import (
    BadProviderResponse,
    BudgetExceeded,
    DeadlineExceeded,
    DuckError,
    InternalError,
    InvalidRequest,
    ProviderError,
    Unavailable,
)
from duckservice.events import AttemptEnded
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript

from .conftest import chat, running
from .test_cache import REFRESH, cached

SLOW = MockScript(latency=1.0, chunk_interval=1.0)


def coalescing(**more):
    return cached(cache={"coalesce": True}, **more)


def failing(*errors: DuckError | None, latency: float = 1.0) -> MockProvider:
    """Its calls fail with these, one after the other; None is an answer."""
    script = MockScript(
        latency=latency, errors={n: e for n, e in enumerate(errors, 1) if e}
    )
    return MockProvider("a", script)


@asynccontextmanager
async def service_of(provider: MockProvider, **more):
    async with running(coalescing(**more), a=provider) as (service, events):
        yield service, events
        assert len(service._flights) == 0, "nothing is left under way"
        assert service.counters.in_flight == 0


async def all_at_once(count, ask, *args):
    """Return what each of so many askers got: an answer or an error."""
    got = [None] * count

    async def one(number):
        try:
            got[number] = await ask(*args)
        except DuckError as error:
            got[number] = error

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
            # In this order: the first is the one that makes the call.
            await trio.testing.wait_all_tasks_blocked()
    return got


async def read(service, request, options=None, on_text=lambda text: None):
    text = ""
    async with service.stream(request, options) as answer:
        async for batch in answer.batches:
            for chunk in batch:
                if isinstance(chunk, TextDelta):
                    text += chunk.text
                    on_text(chunk.text)
    return text, answer.report


def sent(events) -> int:
    return sum(isinstance(event, AttemptEnded) for event in events)


async def test_equal_requests_that_are_under_way_become_one_call(
    autojump_clock,
) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):
        got = await all_at_once(10, service.complete, chat())
        assert {answer.value.text for answer in got} == {"hello"}
        assert sent(events) == 1
        assert [its.report.cache for its in got] == ["miss"] + ["hit"] * 9
        assert trio.current_time() == pytest.approx(1.0)
        status = service.cache_status()
        assert (status["misses"], status["coalesced"], status["hits"]) == (1, 9, 0)
        counters = service.counters
        assert (counters.total, counters.completed, counters.failed) == (10, 10, 0)


async def test_a_call_that_was_shared_is_charged_once(autojump_clock) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):
        got = await all_at_once(5, service.complete, chat())
        first, *others = [its.report for its in got]
        assert first.cost > 0
        assert first.attempts == 1
        assert [(its.cost, its.attempts) for its in others] == [(0, 0)] * 4
        total = (await service.costs("total"))["total"]
        assert (total["requests"], sent(events)) == (1, 1)
        (attempt,) = [e for e in events if isinstance(e, AttemptEnded)]
        assert attempt.job == first.job, "the log's line names who has asked first"
        assert len({its.report.job for its in got}) == 5


async def test_other_requests_are_calls_of_their_own(autojump_clock) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):
        async with trio.open_nursery() as nursery:
            for text in "xyz":
                nursery.start_soon(service.complete, chat(text))
        assert sent(events) == 3


async def test_a_stream_that_is_shared_reaches_all_as_it_comes(autojump_clock) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):
        seen = []

        async def follow():
            def note(text):
                seen.append((trio.current_time(), text))

            return await read(service, chat("one two three"), None, note)

        got = await all_at_once(2, follow)
        assert [text for text, _ in got] == ["one two three"] * 2
        assert [report.cache for _, report in got] == ["miss", "hit"]
        assert seen == [
            (time, text)
            for time, text in [(1, "one "), (2, "two "), (3, "three")]
            for _ in range(2)
        ]
        assert sent(events) == 1
        assert got[0][1].cost > 0
        assert got[1][1].cost == 0


async def test_who_comes_in_mid_stream_gets_all_of_it(autojump_clock) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):
        got = []

        async def follow(after):
            await trio.sleep(after)
            got.append((await read(service, chat("one two three")))[0])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, 0.0)
            nursery.start_soon(follow, 2.5)
        assert got == ["one two three"] * 2
        assert sent(events) == 1
        assert trio.current_time() == pytest.approx(3.0)


async def test_a_client_that_does_not_read_holds_up_nobody_else(autojump_clock) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):
        async with service.stream(chat("one two three")) as stuck:
            await anext(stuck.batches)
            with trio.fail_after(10):
                text, report = await read(service, chat("one two three"))
            assert (text, report.cache) == ("one two three", "hit")
        assert sent(events) == 1


@pytest.mark.parametrize("leaves_after", [0.5, 1.5])
async def test_a_call_goes_on_when_the_one_who_made_it_leaves(
    leaves_after, autojump_clock
) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):
        got = []

        async def first():
            with trio.move_on_after(leaves_after):
                await read(service, chat("one two three"))

        async def second():
            got.append(await read(service, chat("one two three")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(second)
        assert got[0][0] == "one two three"
        assert sent(events) == 1, "it was not made, nor paid for, twice"
        assert trio.current_time() == pytest.approx(3.0)


async def test_a_call_ends_with_the_last_who_waits_for_it(autojump_clock) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):

        async def ask(seconds):
            with trio.move_on_after(seconds):
                await service.complete(chat())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 0.5)
            nursery.start_soon(ask, 0.7)
        await trio.testing.wait_all_tasks_blocked()
        (attempt,) = [e for e in events if isinstance(e, AttemptEnded)]
        assert attempt.outcome == "cancelled"
        assert attempt.duration == pytest.approx(0.7)
        assert (await service.complete(chat())).report.cache == "miss"


async def test_nobody_joins_a_call_that_is_being_cancelled(autojump_clock) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):
        with trio.move_on_after(0.5) as scope:
            await service.complete(chat())
        assert scope.cancelled_caught
        assert len(service._flights) == 0
        # At once: the task of the other call has not run since.
        assert (await service.complete(chat())).value.text == "hello"
        assert sent(events) == 2


async def test_each_has_its_own_deadline(autojump_clock) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):
        got = {}

        async def ask(name, deadline):
            try:
                options = CallOptions(deadline=deadline)
                got[name] = (await service.complete(chat(), options)).value.text
            except DeadlineExceeded:
                got[name] = trio.current_time()

        async with trio.open_nursery() as nursery:
            for name, deadline in [("a", 0.3), ("b", 0.6), ("c", None), ("d", 1.5)]:
                nursery.start_soon(ask, name, deadline)
                await trio.testing.wait_all_tasks_blocked()
        assert got == {
            "a": pytest.approx(0.3),
            "b": pytest.approx(0.6),
            "c": "hello",
            "d": "hello",
        }
        assert sent(events) == 1


async def test_an_error_of_the_request_is_everybodys(autojump_clock) -> None:
    provider = failing(InvalidRequest("no such thing", param="tools"))
    async with service_of(provider) as (service, events):
        got = await all_at_once(5, service.complete, chat())
        assert all(isinstance(error, InvalidRequest) for error in got)
        assert {error.param for error in got} == {"tools"}
        assert len({error.job for error in got}) == 5, "each has its own"
        assert sent(events) == 1


async def test_one_of_those_who_waited_tries_again_after_a_passing_error(
    autojump_clock,
) -> None:
    provider = failing(ProviderError("overloaded"))
    async with service_of(provider, retry=RetryConfig(max_attempts=1)) as (
        service,
        events,
    ):
        got = await all_at_once(5, service.complete, chat())
        assert isinstance(got[0], ProviderError)
        assert {its.value.text for its in got[1:]} == {"hello"}
        assert sent(events) == 2, "no herd"
        assert [its.report.cache for its in got[1:]].count("miss") == 1


async def test_a_provider_that_goes_on_failing_is_not_asked_by_each_in_turn(
    autojump_clock,
) -> None:
    provider = failing(*[ProviderError("overloaded")] * 99)
    async with service_of(provider, retry=RetryConfig(max_attempts=1)) as (
        service,
        events,
    ):
        got = await all_at_once(20, service.complete, chat())
        assert all(isinstance(error, ProviderError) for error in got)
        assert sent(events) == 2, "no chain"
        assert service.counters.failed == 20


async def test_a_limit_of_the_first_does_not_bind_those_who_wait(
    autojump_clock,
) -> None:
    provider = failing(*[BudgetExceeded("it is all spent")] * 3)
    async with service_of(provider) as (service, events):
        got = await all_at_once(6, service.complete, chat())
        refused = [its for its in got if isinstance(its, BudgetExceeded)]
        assert len(refused) == 3, "those whose calls they were"
        assert {its.value.text for its in got if its not in refused} == {"hello"}
        assert sent(events) == 4


async def test_a_stream_that_breaks_off_breaks_off_for_all_and_is_not_repeated(
    autojump_clock,
) -> None:
    script = MockScript(latency=1.0, chunk_interval=1.0, cut_after=2)
    async with service_of(MockProvider("a", script)) as (service, events):
        got = await all_at_once(3, read, service, chat("one two three"))
        assert all(isinstance(error, BadProviderResponse) for error in got)
        assert len({error.job for error in got}) == 3
        assert sent(events) == 1
        assert service.cache_status()["entries"] == 0


async def test_who_is_more_urgent_does_not_wait_for_who_is_less(autojump_clock) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):
        got = {}

        async def ask(priority):
            answer = await service.complete(chat(), CallOptions(priority=priority))
            got[priority] = answer.report.cache

        async with trio.open_nursery() as nursery:
            for priority in ("normal", "high", "low"):
                nursery.start_soon(ask, priority)
                await trio.testing.wait_all_tasks_blocked()
        assert got == {"normal": "miss", "high": "miss", "low": "hit"}
        assert sent(events) == 2


async def test_who_wants_a_new_answer_joins_nobody(autojump_clock) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, events):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.complete, chat())
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(service.complete, chat(), REFRESH)
        assert sent(events) == 2


async def test_without_coalescing_each_makes_its_own_call(autojump_clock) -> None:
    provider = MockProvider("a", SLOW)
    async with running(cached(), a=provider) as (service, events):
        await all_at_once(3, service.complete, chat())
        assert sent(events) == 3


async def test_a_crash_of_the_part_that_shares_calls_leaves_nobody_waiting(
    autojump_clock,
) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, _events):

        async def crash():
            await trio.sleep(0.5)
            await service.restart_actor("flights")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash)
            with trio.fail_after(10):
                got = await all_at_once(5, service.complete, chat())
        assert isinstance(got[0], Unavailable), "it may be sent already"
        assert {its.value.text for its in got[1:]} == {"hello"}
        again = await all_at_once(3, service.complete, chat("again"))
        assert [its.report.cache for its in again] == ["miss", "hit", "hit"]


async def test_a_bug_is_raised_where_the_call_was_made_and_told_to_the_others(
    autojump_clock, monkeypatch
) -> None:
    class Bug(Exception):
        pass

    async def broken(*_):
        await trio.sleep(1)
        raise Bug

    monkeypatch.setattr(MockProvider, "complete", broken)
    async with service_of(MockProvider("a")) as (service, _events):
        got = []

        async def ask():
            try:
                await service.complete(chat())
            except (InternalError, Bug) as error:
                got.append(type(error))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        assert sorted(its.__name__ for its in got) == ["Bug", *["InternalError"] * 2]


@pytest.mark.parametrize("tick", range(0, 40, 3))
async def test_cancelling_anybody_at_any_time_leaks_nothing(
    tick, autojump_clock
) -> None:
    async with service_of(MockProvider("a", SLOW)) as (service, _events):
        scopes = [trio.CancelScope() for _ in range(3)]

        async def ask(number):
            with scopes[number]:
                if number % 2:
                    await service.complete(chat("one two"))
                else:
                    await read(service, chat("one two"))

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(ask, number)
            await trio.sleep(tick / 16)
            scopes[tick % 3].cancel()
        await trio.testing.wait_all_tasks_blocked()
        queue = await service.queue()
        assert (queue["running"], queue["waiting"]) == (0, 0)
