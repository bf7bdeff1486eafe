"""Connections that a reload has replaced: closed when nobody uses them, and then."""

from __future__ import annotations

import trio

from duckservice.providers.mock import MockProvider
from duckservice.reloading.retirement import Retirement
from duckservice.tree import Seams
from tests.service.conftest import chat, mock_config, running


class Closable(MockProvider):
    """A provider that says when it was closed, and takes its time to answer."""

    closed = False

    async def complete(self, request):
        await trio.sleep(100)
        assert not self.closed
        return await super().complete(request)

    async def aclose(self):
        self.closed = True
        await super().aclose()


async def test_what_is_used_without_a_turn_is_not_closed_under_its_user(
    autojump_clock, nursery
) -> None:
    old, new = Closable("a"), Closable("a")
    async with running(mock_config("a"), a=old) as (service, _):
        guarded = service.parts.providers["a"]
        retirement = Retirement(service.parts, Seams())
        nursery.start_soon(retirement.run)
        with guarded.client.used() as first:
            assert first is old
            assert guarded.client.replace(lambda: new, new) is old
            retirement.close_later(guarded, old)
            await trio.sleep(60)
            assert not old.closed
            with guarded.client.used() as second:
                assert second is new
        with guarded.client.used():  # of the new one: it keeps nothing open
            await trio.sleep(60)
            assert old.closed
        assert not new.closed


async def test_who_has_a_turn_is_waited_for_and_who_comes_later_is_not(
    autojump_clock, nursery
) -> None:
    old, new = Closable("a"), Closable("a")
    async with running(mock_config("a"), a=old) as (service, _):
        guarded = service.parts.providers["a"]
        retirement = Retirement(service.parts, Seams())
        nursery.start_soon(retirement.run)
        nursery.start_soon(service.complete, chat())
        await trio.sleep(50)
        assert guarded.client.replace(lambda: new, new) is old
        retirement.close_later(guarded, old)
        nursery.start_soon(service.complete, chat())
        await trio.sleep(40)
        assert not old.closed
        await trio.sleep(40)
        assert old.closed
        assert not new.closed
        await trio.sleep(100)
