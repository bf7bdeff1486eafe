"""A batch that is cut off at any point: complete in the end, and no line twice."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio

from duckservice.batches import run as batch_run
from duckservice.core.pricing import pico
from duckservice.errors import NotFound
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.store.base import Store, StoreUnavailable
from duckservice.store.memory import open_memory
from tests.batches.conftest import ended, number, order, plain, put, results
from tests.jobs.conftest import mock, running
from tests.service.conftest import mock_config

pytestmark = pytest.mark.slow

ITS_STEPS = {
    "append_to_file",
    "create_file",
    "get_batch",
    "get_file",
    "insert",
    "list_jobs",
    "read_file",
    "result",
    "update_batch",
    "wait_final",
}
"""What a batch asks a store for."""
TEXTS = "abcdefg"


@attrs.define(slots=False)
class Guillotine:
    """A store at whose n-th step, before or after it is done, everything stops."""

    store: Store
    at: int
    done: bool
    steps: int = 0
    fallen: trio.Event = attrs.field(factory=trio.Event)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        if name not in ITS_STEPS:
            return method

        async def step(*args: Any, **more: Any) -> Any:
            self.steps += 1
            falls = self.steps == self.at
            value = await method(*args, **more) if self.done or not falls else None
            if falls:
                self.fallen.set()
            if self.fallen.is_set():
                await trio.sleep_forever()
            return value

        return step


@attrs.define(slots=False)
class Flaky:
    """A store whose n-th step fails, before or after it is done."""

    store: Store
    at: int
    done: bool
    steps: int = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        if name not in ITS_STEPS:
            return method

        async def step(*args: Any, **more: Any) -> Any:
            self.steps += 1
            falls = self.steps == self.at
            if falls and self.done:
                await method(*args, **more)
            if falls:
                raise StoreUnavailable("the disk is full", may_recover=True)
            return await method(*args, **more)

        return step


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(batch_run, "WINDOW", 4)
    monkeypatch.setattr(batch_run, "GROUP", 2)


async def life(store: Any, asked: Counter[str], *, until: trio.Event | None) -> None:
    """Run a service on *store*, to a batch's end or until it is cut off."""
    provider = counting(asked)
    async with running(mock_config("m"), store, m=provider) as (service, _):
        if until is None:
            [view] = await service.batch_jobs.list_batches(
                submitter=None, limit=2, after=None
            )
            await ended(service, view.batch.id)
        else:
            with trio.move_on_after(100):
                await until.wait()


def counting(asked: Counter[str]) -> MockProvider:
    provider = mock("m", MockScript(latency=0.5))
    complete = provider.complete

    async def counted(request, *args, **more):
        asked[request.messages[-1].parts[0].text] += 1
        return await complete(request, *args, **more)

    provider.complete = counted
    return provider


async def check(store: Store) -> None:
    async with running(mock_config("m"), store, m=mock("m")) as (service, _):
        [view] = await service.batch_jobs.list_batches(
            submitter=None, limit=2, after=None
        )
        answers, errors = await results(store, view)
    assert view.batch.status == "completed"
    assert sorted(map(number, answers)) == list(range(1, len(TEXTS) + 1))
    assert errors == []
    assert view.tally.completed == len(TEXTS)
    assert (await store.counts(batch=view.batch.id))["completed"] == len(TEXTS)


async def submit(store: Store, max_cost: int | None) -> None:
    await put(store, plain(*TEXTS, max_tokens=10))
    async with running(mock_config("m"), store, m=mock("m")) as (service, _):
        wanted = service.batch_jobs._batch(order(max_cost=max_cost))
    await store.create_batch(wanted)


@pytest.mark.parametrize("max_cost", [None, pico("1")])
@pytest.mark.parametrize("done", [False, True])
async def test_a_batch_goes_on_wherever_the_daemon_was_killed(
    autojump_clock, small, done, max_cost
) -> None:
    at, cut = 0, True
    while cut:
        at += 1
        asked = Counter[str]()
        async with open_memory() as store:
            await submit(store, max_cost)
            broken = Guillotine(store, at, done)
            await life(broken, asked, until=broken.fallen)
            cut = broken.fallen.is_set()
            if not cut:
                break
            await life(store, asked, until=None)
            await check(store)
        # A line may be asked for again only if it was in flight.
        assert sum(asked.values()) <= len(TEXTS) + 4
    assert at > 30


@pytest.mark.parametrize("done", [False, True])
async def test_a_batch_outlasts_a_store_that_fails_at_any_step(
    autojump_clock, small, done
) -> None:
    at, failed = 0, True
    while failed:
        at += 1
        asked = Counter[str]()
        async with open_memory() as store:
            await submit(store, None)
            broken = Flaky(store, at, done)
            await life(broken, asked, until=None)
            failed = broken.steps >= at
            await check(store)
        assert asked == Counter(TEXTS)
    assert at > 30


@pytest.mark.parametrize(
    "what", ["batches/runs/{}", "batches/starter", "dispatcher/dispatcher"]
)
async def test_a_crash_of_a_part_costs_no_line(autojump_clock, small, what) -> None:
    asked, crashes = Counter[str](), 0
    async with open_memory() as store:
        await submit(store, None)
        async with running(mock_config("m"), store, m=counting(asked)) as (service, _):
            [view] = await service.batch_jobs.list_batches(
                submitter=None, limit=2, after=None
            )
            for _ in range(3):
                await trio.sleep(0.3)
                path = what.format(view.batch.id)
                with suppress(NotFound):  # it is being restarted
                    await service.restart_actor(path)
                    crashes += 1
            await ended(service, view.batch.id)
        await check(store)
    assert asked == Counter(TEXTS)
    assert crashes
