"""The breaker as a provider sees it, who counts for itself who calls and when."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import attrs
import pytest
import trio
import trio.testing

from duckservice.config import BreakerConfig, RetryConfig
from duckservice.errors import DuckError, ProviderError
from duckservice.events import BreakerMoved, Event
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.running import open_running
from duckservice.tree import Seams
from tests.service.conftest import chat, mock_config

REST, PROBES, SUCCESSES = 10.0, 2, 3
LATENCY = 0.7


@attrs.define(eq=False)
class Upstream:
    """A provider that is down for a while, and notes what reaches it."""

    down_until: float
    phase: str = "closed"
    since: float = 0.0
    out: set[int] = attrs.field(factory=set)
    """Calls under way that have come while it was half open."""
    calls: int = 0
    most_out: int = 0
    wrong: list[str] = attrs.field(factory=list)

    def note(self, event: Event) -> None:
        if isinstance(event, BreakerMoved):
            self.phase, self.since = event.now, trio.current_time()

    async def answer(self, seconds: float) -> None:
        self.calls += 1
        call, now = self.calls, trio.current_time()
        if self.phase == "open" and self.since < now < self.since + REST:
            self.wrong.append(f"I18: called at {now}, though it rests")
        if self.phase == "half_open":
            self.out.add(call)
            self.most_out = max(self.most_out, len(self.out))
            if len(self.out) > PROBES:
                self.wrong.append(f"I17: {len(self.out)} probes at {now}")
        try:
            await trio.sleep(seconds)
            if trio.current_time() < self.down_until:
                msg = "down"
                raise ProviderError(msg)
        finally:
            self.out.discard(call)


@pytest.mark.parametrize("scope", ["provider", "model"])
@pytest.mark.parametrize("crashes", [False, True], ids=["", "crashes"])
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 10))]
)
async def test_an_outage_under_load_is_met_with_few_probes_and_ends(
    seed, crashes, scope, autojump_clock
) -> None:
    random = Random(seed)
    upstream = Upstream(down_until=trio.current_time() + random.uniform(30, 60))
    provider = MockProvider("a", MockScript(latency=LATENCY), sleep=upstream.answer)
    breaker = BreakerConfig(
        failure_threshold=3,
        reset_timeout=REST,
        half_open_max=PROBES,
        success_threshold=SUCCESSES,
        scope=scope,
    )
    config = mock_config("a", breaker=breaker, retry=RetryConfig(max_attempts=1))
    seams = Seams(random=Random(seed), emit=upstream.note)

    async with open_running(config, providers={"a": provider}, seams=seams) as service:

        async def caller() -> None:
            while True:
                # Some give up, at any moment.
                patience = random.choice([None, random.uniform(0, 1)])
                with trio.CancelScope() as gives_up:
                    if patience is not None:
                        gives_up.deadline = trio.current_time() + patience
                    with suppress(DuckError):
                        await service.complete(chat())
                await trio.sleep(random.uniform(0, 0.5))

        async def crasher() -> None:
            while True:
                await trio.sleep(random.uniform(0, 5))
                await service.restart_actor("providers/a/circuit_breaker")

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(caller)
            if crashes:
                nursery.start_soon(crasher)
            await trio.sleep_until(upstream.down_until)
            during_the_outage = upstream.calls
            # I19: it opens for the last time before the end, rests, and is probed.
            await trio.sleep(REST + 2 * SUCCESSES * (LATENCY + 1))
            assert upstream.phase == "closed"
            nursery.cancel_scope.cancel()
    assert upstream.wrong == []
    assert upstream.most_out == PROBES
    assert during_the_outage < 100
