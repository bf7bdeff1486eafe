"""What clients and operators ask for just as a job changes hands."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from duckservice.config import RetryConfig
from duckservice.core.job import JobState
from duckservice.errors import ProviderError
from duckservice.providers.mock_script import MockScript
from duckservice.store.base import StoreUnavailable
from duckservice.store.memory import MemoryStore
from tests.jobs.conftest import EPOCH, job, mock, running
from tests.service.conftest import chat, mock_config
from tests.service.test_budgets import Billed

SLOW = MockScript(latency=100.0)


@attrs.define(slots=False)
class Lagging:
    """A store whose answers to some questions come a second after their commit."""

    store: Any
    lagging: set[str]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)

        async def ask(*args: Any, **more: Any) -> Any:
            answer = await method(*args, **more)
            if name in self.lagging:
                await trio.sleep(1)
            return answer

        return ask


def lagging(*names: str) -> tuple[Any, MemoryStore]:
    store = MemoryStore()
    return Lagging(store, set(names)), store


async def test_the_last_word_on_a_pause_is_the_one_that_counts(autojump_clock) -> None:
    slow, store = lagging("set_flag")
    async with running(mock_config("a"), slow, a=mock("a")) as (service, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.jobs.resume)
            await trio.sleep(0.5)
            nursery.start_soon(service.jobs.pause)
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(10)
        assert "paused" in await store.flags()
        assert (await service.jobs.get(id_)).wait_reason == "paused"


async def test_what_is_claimed_as_the_queue_is_paused_asks_nobody(
    autojump_clock,
) -> None:
    slow, _ = lagging("claim")
    async with running(mock_config("a"), slow, a=mock("a", SLOW)) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(0.5)
        await service.jobs.pause()
        await trio.sleep(10)
        assert await service.jobs.attempts(id_) == ()


async def test_what_is_claimed_as_the_daemon_drains_asks_nobody(
    autojump_clock,
) -> None:
    slow, _ = lagging("claim")
    async with running(mock_config("a"), slow, a=mock("a", SLOW)) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(0.5)
        service.drain()
        await trio.sleep(10)
        assert await service.jobs.attempts(id_) == ()


async def test_a_deadline_that_moves_as_the_job_is_claimed_is_kept(
    autojump_clock,
) -> None:
    slow, _ = lagging("claim")
    async with running(mock_config("a"), slow, a=mock("a", SLOW)) as (service, _):
        id_ = (await service.jobs.submit(job(deadline=50))).job.id
        await trio.sleep(0.5)
        await service.jobs.patch(id_, deadline=EPOCH + 10)
        done = (await service.jobs.wait(id_)).job
        assert done.state is JobState.EXPIRED
        assert done.finished_at is not None
        assert done.finished_at <= EPOCH + 11


async def test_a_deadline_that_moves_as_it_passes_crashes_nobody(
    autojump_clock,
) -> None:
    slow, store = lagging("get")
    end = store.end

    async def slowly(*args: Any, **more: Any) -> Any:
        await trio.sleep(1)
        return await end(*args, **more)

    store.end = slowly  # type: ignore[method-assign]
    async with running(mock_config("a"), slow, a=mock("a", SLOW)) as (service, _):
        id_ = (await service.jobs.submit(job(deadline=20))).job.id
        await trio.sleep(20.5)
        await service.jobs.patch(id_, deadline=EPOCH + 1000)
        done = (await service.jobs.wait(id_)).job
        assert done.state is JobState.COMPLETED
        assert done.crashes == 0


async def test_the_stream_of_a_reply_that_is_kept_is_whole(autojump_clock) -> None:
    store = MemoryStore()
    append = store.append_deltas

    async def slowly(*args: Any, **more: Any) -> int:
        await trio.sleep(1)
        return await append(*args, **more)

    store.append_deltas = slowly  # type: ignore[method-assign]
    script = MockScript(latency=1.0)
    async with running(mock_config("a"), store, a=mock("a", script)) as (service, _):
        id_ = (await service.jobs.submit(job(deadline=1.5, stream=True))).job.id
        done = (await service.jobs.wait(id_)).job
        assert done.state is JobState.COMPLETED
        deltas = await store.read_deltas(id_, after=0, limit=100)
        assert b"hello" in b"".join(delta.data for delta in deltas.items)


async def test_what_a_failing_store_has_kept_of_a_stream_is_not_kept_twice(
    autojump_clock,
) -> None:
    store = MemoryStore()
    append, failed = store.append_deltas, []

    async def uncertain(*args: Any, **more: Any) -> int:
        last = await append(*args, **more)
        if not failed:
            failed.append(last)
            raise StoreUnavailable("the disk is full", may_recover=True)
        return last

    store.append_deltas = uncertain  # type: ignore[method-assign]
    script = MockScript(chunk_interval=1.0)
    async with running(mock_config("a"), store, a=mock("a", script)) as (service, _):
        id_ = (await service.jobs.submit(job("one two three", stream=True))).job.id
        await service.jobs.wait(id_)
        deltas = await store.read_deltas(id_, after=0, limit=100)
        text = b"".join(delta.data for delta in deltas.items)
        assert text.count(b"one") == 1


async def test_a_pause_that_the_store_has_not_heard_of_outlasts_the_store(
    autojump_clock,
) -> None:
    store = MemoryStore()

    async def fails(*_: Any) -> None:
        raise StoreUnavailable("the disk is full", may_recover=True)

    async with running(mock_config("a"), store, a=mock("a")) as (service, _):
        store.set_flag = fails  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            await service.jobs.pause()
        await service.restart_actor("store")
        await trio.sleep(10)
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(10)
        assert (await service.jobs.get(id_)).wait_reason == "paused"


async def test_a_store_that_hangs_as_an_attempt_begins_holds_nobody_for_ever(
    autojump_clock,
) -> None:
    store = MemoryStore()
    begin, hung = store.begin_attempt, []

    async def hangs_once(*args: Any, **more: Any) -> Any:
        if not hung:
            hung.append(True)
            await trio.sleep_forever()
        return await begin(*args, **more)

    store.begin_attempt = hangs_once  # type: ignore[method-assign]
    async with running(mock_config("a"), store, a=mock("a")) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        with trio.fail_after(120):
            assert (await service.jobs.wait(id_)).job.state is JobState.COMPLETED


def slow_to_begin(seconds: float) -> MemoryStore:
    """Return a store that takes so long to write the first attempt down."""
    store = MemoryStore()
    begin = store.begin_attempt

    async def slow(*args, **kwargs):
        record = await begin(*args, **kwargs)
        store.begin_attempt = begin  # type: ignore[method-assign]
        await trio.sleep(seconds)
        return record

    store.begin_attempt = slow  # type: ignore[method-assign]
    return store


async def test_what_was_written_too_late_is_not_sent_and_uses_up_no_attempt(
    autojump_clock,
) -> None:
    store, provider = slow_to_begin(5.0), Billed("a")
    config = attrs.evolve(mock_config("a"), retry=RetryConfig(max_attempts=1))
    async with running(config, store, a=provider) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(1)
        for _ in range(3):  # so many that the breaker opens
            provider.failures = [ProviderError("down", provider="a")]
            with pytest.raises(ProviderError):
                await service.complete(chat())
        await trio.sleep(5)
        assert provider.bill == []
        [first] = await service.jobs.attempts(id_)
        assert (first.settlement.outcome, first.settlement.counts) == (
            "circuit_open",
            False,
        )
        done = (await service.jobs.wait(id_, 100)).job
        assert (done.state, done.attempt, len(provider.bill)) == ("completed", 1, 1)


async def test_who_is_cancelled_while_it_is_written_down_is_no_request_of_a_provider(
    autojump_clock,
) -> None:
    async with running(mock_config("a"), slow_to_begin(5.0), a=mock("a")) as (
        service,
        _,
    ):
        id_ = (await service.jobs.submit(job())).job.id
        await trio.sleep(1)
        await service.jobs.cancel(id_)
        await trio.sleep(10)
        its = service.parts.board.providers["a"]
        assert (its.requests, its.failures) == (0, 0)
        assert not its.turns
