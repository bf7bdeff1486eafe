"""Batches whose store is full, fails or forgets: they wait, and come to an end."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio

from duckservice.batches import run as batch_run
from duckservice.config import StoreConfig
from duckservice.providers.mock_script import MockScript
from duckservice.store.base import StoreUnavailable
from duckservice.store.memory import open_memory
from supervisors import ChildTerminated
from tests.batches.conftest import ended, number, order, plain, put, results
from tests.jobs.conftest import mock, running
from tests.service.conftest import mock_config


def storing(**limits: Any) -> Any:
    return attrs.evolve(mock_config("m"), store=StoreConfig(**limits))


def crashes(events: Any) -> list[str]:
    return [each.path for each in events if isinstance(each, ChildTerminated)]


async def test_a_batch_waits_while_the_store_is_full(autojump_clock) -> None:
    async with open_memory() as store:
        await put(store, plain("a", "b"))
        config = storing(max_bytes=1 << 20)
        async with running(config, store, m=mock("m")) as (service, events):
            service.jobs.room.measured(1 << 20)
            made = await service.batch_jobs.create(order())
            await trio.sleep(3)
            assert (await service.batch_jobs.get(made.batch.id)).tally.left == 2
            service.jobs.room.measured(0)
            view = await ended(service, made.batch.id)
    assert view.tally.completed == 2
    assert not crashes(events)


@pytest.mark.parametrize("fault", ["the store", "the client"])
async def test_a_batch_that_was_stored_runs_whatever_became_of_its_request(
    autojump_clock, fault
) -> None:
    async with open_memory() as store:
        await put(store, plain("a"))
        create = store.create_batch

        async def uncertain(batch: Any) -> None:
            await create(batch)
            if fault == "the store":
                raise StoreUnavailable("the disk is full", may_recover=True)
            await trio.sleep(10)  # nobody waits for so long

        store.create_batch = uncertain
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            wanted = service.batch_jobs._batch(order(idempotency_key="k"))
            with trio.move_on_after(1):
                with suppress(StoreUnavailable):
                    await service.batch_jobs.create(order(idempotency_key="k"))
            view = await ended(service, wanted.id)
    assert view.tally.completed == 1


async def test_an_order_that_was_not_stored_leaves_nothing_behind(
    autojump_clock,
) -> None:
    async with open_memory() as store:
        await put(store, plain("a"))

        async def full(_: Any) -> None:
            raise StoreUnavailable("the disk is full", may_recover=True)

        store.create_batch = full
        async with running(mock_config("m"), store, m=mock("m")) as (service, events):
            with pytest.raises(StoreUnavailable):
                await service.batch_jobs.create(order())
            await trio.sleep(60)
    assert not crashes(events)


async def test_a_line_that_is_too_large_for_a_job_is_bad(autojump_clock) -> None:
    async with open_memory() as store:
        await put(store, plain("a") + plain("b" * 2000))
        config = storing(max_request=1 << 10)
        async with running(config, store, m=mock("m")) as (service, _):
            made = await service.batch_jobs.create(order())
            view = await ended(service, made.batch.id)
    [bad] = view.details.bad
    assert (bad.number, bad.code) == (2, "request_too_large")


async def test_a_batch_whose_file_is_gone_comes_to_an_end(
    autojump_clock, monkeypatch
) -> None:
    monkeypatch.setattr(batch_run, "WINDOW", 2)
    monkeypatch.setattr(batch_run, "GROUP", 1)
    async with open_memory() as store:
        await put(store, plain(*"abcdef"))
        script = MockScript(latency=10.0)
        config = mock_config("m")
        async with running(config, store, m=mock("m", script)) as (service, _):
            made = await service.batch_jobs.create(order())
            await trio.sleep(15)
        await store.delete_file("file-in")  # as if its time was over
        async with running(config, store, m=mock("m", script)) as (service, _):
            view = await ended(service, made.batch.id)
            answers, _ = await results(store, view)
            await trio.sleep(100)
            counts = await service.jobs.counts(batch=made.batch.id)
    assert view.batch.status == "failed"
    assert view.details.bad[0].code == "not_found"
    assert counts["completed"] == len(answers)
    assert len(answers) == len(set(map(number, answers))) == view.tally.completed > 0


async def test_the_check_of_many_lines_leaves_others_their_turn(autojump_clock) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with open_memory() as store:
        await put(store, plain(*map(str, range(2000))))
        async with (
            running(mock_config("m"), store, m=mock("m")) as (service, _),
            trio.open_nursery() as nursery,
        ):
            made = await service.batch_jobs.create(order())
            nursery.start_soon(count)
            while not (await service.batch_jobs.get(made.batch.id)).details.times:
                pass
            nursery.cancel_scope.cancel()
    assert turns > 50
