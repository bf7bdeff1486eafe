"""A movable alarm: the state timeout of an actor that keeps deadlines.

An actor must not sleep in its inbox loop. It opens an alarm beside the loop
and has itself sent a message when the time has come:

    @asynccontextmanager
    async def limiter(ref):
        async with open_alarm(lambda: ref.cast(Limiter.tick)) as alarm:
            yield Limiter(alarm)
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import final

import trio


@final
class Alarm:
    """Rings once at the time that was set last."""

    def __init__(self, ring: Callable[[], object]) -> None:
        self._ring = ring
        self._at = math.inf
        self._scope = trio.CancelScope()

    def set(self, at: float | None) -> None:
        """Ring at *at* (on trio's clock; None: not at all), and not before."""
        self._at = math.inf if at is None else at
        self._scope.deadline = self._at

    async def run(self) -> None:
        """Ring whenever it is time; for `open_alarm`."""
        while True:
            with trio.CancelScope(deadline=self._at) as self._scope:
                await trio.sleep_forever()
            if trio.current_time() >= self._at:
                self._at = math.inf
                self._ring()


@asynccontextmanager
async def open_alarm(ring: Callable[[], object]) -> AsyncGenerator[Alarm]:
    """Run an alarm for the length of a block; *ring* is called without waiting."""
    alarm = Alarm(ring)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarm.run, name="alarm")  # noqa: ASYNC113 - what is set before it runs counts
        yield alarm
        nursery.cancel_scope.cancel()
