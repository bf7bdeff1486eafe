"""What events and metrics cost a request: with and without, in turns, in one process.

    python -m tests.benchmarks.bench_events [rounds]

The request is the smallest that there is: a mock provider, no socket, no log. A reader
that follows all events is the third case.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time

import trio

from duckservice.calls.story import RequestStory
from duckservice.event_stream.as_json import encode, fields_of
from duckservice.event_stream.hub import EventHub
from duckservice.metrics.metrics import Metrics
from duckservice.running import RunningService, open_running
from duckservice.tree import Seams
from tests.jobs.conftest import mock
from tests.service.conftest import chat, mock_config

SLICE = 100
"""Requests between two changes."""

_PUBLISH, _ADD = EventHub.publish, Metrics.add
_BEGUN = RequestStory.__dict__["begun"]


class _Silent:
    def end(self, _error):
        pass


def switch(*, on: bool) -> None:
    """Have everything told, or nothing."""
    EventHub.publish = _PUBLISH if on else lambda self, event: None
    Metrics.add = _ADD if on else lambda self, event: None
    silent = _Silent()
    RequestStory.begun = _BEGUN if on else staticmethod(lambda *_: silent)


async def slice_of(service: RunningService) -> float:
    """Return the CPU that one request costs, in microseconds."""
    since = time.process_time()
    for _ in range(SLICE):
        await service.complete(chat("hi"))
    return (time.process_time() - since) / SLICE * 1e6


async def measure(rounds: int) -> None:
    seams = Seams(emit=lambda _: None)
    found: dict[str, list[float]] = {"without": [], "with": [], "followed": []}
    async with open_running(
        mock_config("a"), providers={"a": mock("a")}, seams=seams
    ) as service:
        for _ in range(25):  # until the ring is full
            await slice_of(service)
        for number in range(rounds):
            order = ("without", "with", "followed")
            for name in order if number % 2 else reversed(order):
                gc.collect()
                switch(on=name != "without")
                async with trio.open_nursery() as nursery:
                    if name == "followed":
                        nursery.start_soon(follow, service)
                    found[name].append(await slice_of(service))
                    nursery.cancel_scope.cancel()
    switch(on=True)
    base = statistics.median(found["without"])
    for name, values in found.items():
        median = statistics.median(values)
        print(f"{name:>9}: {median:6.1f} µs a request, {median / base:5.3f}")


async def follow(service: RunningService) -> None:
    reader = service.events.follow()
    while True:
        for its in await reader.read():
            encode(its.word, its.at, fields_of(its.word, its.event))


if __name__ == "__main__":
    trio.run(measure, int(sys.argv[1]) if len(sys.argv) > 1 else 60)
