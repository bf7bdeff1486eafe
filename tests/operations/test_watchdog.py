"""The watchdog is told that the daemon lives only where all of it answers."""

from __future__ import annotations

from contextlib import asynccontextmanager

import attrs
import trio

from duckservice.host.systemd import Notifier
from duckservice.host.watchdog import find_stuck, keep_watchdog
from duckservice.running import open_running
from duckservice.store.base import Health, StoreUnavailable
from duckservice.store.memory import open_memory
from tests.e2e.notify_socket import open_notify_socket
from tests.service.conftest import mock_config

PERIOD = 20.0


@attrs.define
class Store:
    """A store in memory whose check can be made to hang, or to fail."""

    memory: object
    check_: object = None

    def __getattr__(self, name):
        return getattr(self.memory, name)

    async def check(self) -> Health:
        if self.check_ is not None:
            return await self.check_()
        return await self.memory.check()


@asynccontextmanager
async def watched(tmp_path):
    """A service that is watched; its store; and what was told."""
    with open_notify_socket(f"{tmp_path}/notify") as told:
        async with open_memory() as memory:
            store, notifier = Store(memory), Notifier(told.address, PERIOD)
            async with (
                open_running(mock_config("a"), store=store) as service,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(keep_watchdog, service, notifier)
                await trio.sleep(0.1)
                yield service, store, told
                nursery.cancel_scope.cancel()


async def pings(told, seconds: float) -> int:
    """Return how often the watchdog is told within that time."""
    before = len(told.waiting())
    await trio.sleep(seconds)
    return len(told.waiting()) - before


async def test_it_is_told_twice_in_each_period(tmp_path, autojump_clock):
    async with watched(tmp_path) as (_, _, told):
        assert len(told.waiting()) == 1, "at once"
        assert await pings(told, 4 * PERIOD) == 8
        assert all(message == {"WATCHDOG": "1"} for message in told.told)


async def test_without_a_watchdog_it_ends_at_once(autojump_clock):
    async with open_running(mock_config("a")) as service:
        await keep_watchdog(service, Notifier("@nobody", None))
    assert trio.current_time() < 1


async def hang(*_) -> None:
    await trio.sleep_forever()


async def test_a_queue_that_is_stuck_silences_it(tmp_path, autojump_clock):
    async with watched(tmp_path) as (service, _, told):
        service.parts.queue.cast(hang)
        assert await pings(told, 3 * PERIOD) == 0
        stuck = await find_stuck(service, within=1.0)
        assert stuck == "the request queue did not answer within 1 s"


async def test_a_store_that_is_stuck_silences_it_until_it_answers(
    tmp_path, autojump_clock
):
    async with watched(tmp_path) as (service, store, told):
        store.check_ = hang
        assert await pings(told, 3 * PERIOD) == 0
        assert (
            await find_stuck(service, within=1) == "the store did not answer within 1 s"
        )
        store.check_ = None
        assert await pings(told, PERIOD) >= 1


async def test_a_full_disk_is_no_reason_to_end_the_daemon(tmp_path, autojump_clock):
    async def full() -> Health:
        return Health(ok=False, detail="the disk is full", may_recover=True)

    async def not_open() -> Health:
        raise StoreUnavailable("the disk is full", may_recover=True)

    async with watched(tmp_path) as (_, store, told):
        for store.check_ in (full, not_open):
            assert await pings(told, 2 * PERIOD) == 4


async def test_a_daemon_that_drains_is_alive(tmp_path, autojump_clock):
    async with watched(tmp_path) as (service, _, told):
        service.drain()
        assert await pings(told, 2 * PERIOD) == 4


async def test_a_tree_that_is_not_up_is_stuck(autojump_clock):
    async with open_running(mock_config("a")) as service:
        root, service.root = service.root, None
        stuck = await find_stuck(service, within=1.0)
        service.root = root
    assert stuck == "the root supervisor: the supervision tree is not up"
