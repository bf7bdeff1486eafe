"""A client that hangs up while it waits leaves the line, through the real gateway."""

from __future__ import annotations

import pytest
import trio

from duckservice.config import ProviderConfig, RateLimitConfig
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript

from .running import CHAT, Duck, open_duck, post

BODY = {"model": "mock-1", "messages": [{"role": "user", "content": "hello"}]}
ONE_IN_100_S = RateLimitConfig(capacity=1, refill_rate=0.01)


async def until(duck: Duck, *path: str, number: int) -> None:
    """Wait until the provider's state has *number* at that place."""
    with trio.fail_after(10):
        while True:
            (state,) = await duck.daemon.service.providers()
            found = {**state, "queue": await duck.daemon.service.queue()}
            for name in path:
                found = found[name]
            if found == number:
                return
            await trio.sleep(0.001)


@pytest.mark.parametrize(
    ("line", "taken", "scarce"),
    [
        ("queue", ["in_flight", 1], {"max_concurrency": 1}),
        ("limiter", ["limiter", "available", 0], {"rate_limit": ONE_IN_100_S}),
    ],
)
async def test_a_client_that_hangs_up_while_it_waits_leaves_the_line(
    line, taken, scarce
):
    config = ProviderConfig(name="a", adapter="mock", **scarce)
    slow = MockProvider("a", MockScript(latency=20.0))
    async with (
        open_duck(config, instances={"a": slow}) as duck,
        duck.connection() as first,
    ):
        await first.send(post(CHAT, BODY))
        await until(duck, *taken[:-1], number=taken[-1])
        async with duck.connection() as second:
            await second.send(post(CHAT, BODY))
            await until(duck, line, "waiting", number=1)
        await until(duck, line, "waiting", number=0)
