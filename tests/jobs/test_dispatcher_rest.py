"""The dispatcher looks when there is something to see, and rests otherwise."""

from __future__ import annotations

import pytest
import trio

from duckservice.actors.dispatcher import Dispatcher
from duckservice.config import LimitsConfig
from duckservice.core.circuit_breaker import HalfOpen, Probe
from tests.service.conftest import mock_config

from .conftest import job, mock, running


@pytest.fixture
def looks(monkeypatch) -> list[float]:
    """Return when the dispatcher has looked what may be claimed."""
    at = []
    claim = Dispatcher._claim

    async def noted(self):
        at.append(trio.current_time())
        return await claim(self)

    monkeypatch.setattr(Dispatcher, "_claim", noted)
    return at


def of_tokens(count: int) -> dict:
    words = {"role": "user", "content": "x " * (2 * count)}
    return {"model": "mock-1", "max_tokens": count, "messages": [words]}


async def test_it_rests_while_the_first_in_the_line_waits_for_tokens(
    autojump_clock, looks
) -> None:
    limits = LimitsConfig(requests_per_minute=2, tokens_per_minute=1000)
    config = mock_config("a", max_concurrency=5, limits=limits)
    async with running(config, a=mock("a")) as (service, _):
        for tokens in (300, 400, 10):
            await service.jobs.submit(job(request=of_tokens(tokens)))
            await trio.sleep(0.3)
        begun = len(looks)
        await trio.sleep(30)
        assert len(looks) - begun < 30


async def test_it_rests_while_an_expired_probe_is_listed_and_no_turn_is_free(
    autojump_clock, looks
) -> None:
    config = mock_config("a", max_concurrency=1)
    async with running(config, a=mock("a")) as (service, _):
        its = service.parts.board.providers["a"]
        its.turns[999] = 0.0
        now = trio.current_time()
        its.breaker = HalfOpen(7, places=1, probes=(Probe(1, now - 1.0),))
        for _ in range(3):
            await service.jobs.submit(job())
        await trio.sleep(1)
        begun = len(looks)
        await trio.sleep(30)
        assert len(looks) - begun < 30
