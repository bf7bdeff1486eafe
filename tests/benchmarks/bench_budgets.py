"""What it costs a direct request that a budget binds it: its reservation is committed.

    python -m tests.benchmarks.bench_budgets [--requests N] [--rounds N]

The service runs in this process, with a store on the disk and a provider that answers
at once, so that what is measured is the service alone. Rounds with and without a budget
take turns; medians are printed, of the time and of the CPU for each request, for one
client after another and for 64 at a time, which share commits.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TypeAlias

import attrs
import trio

from duckservice.completion import ChatRequest, Message
from duckservice.config import BudgetConfig, Config, ProviderConfig
from duckservice.providers.mock import MockProvider
from duckservice.running import RunningService, open_running
from duckservice.tree import Seams

Round: TypeAlias = tuple[float, float]
"""Seconds and CPU seconds for each request."""

REQUEST = ChatRequest(
    model="mock-1", messages=(Message.of("user", "quack"),), max_tokens=16
)
PLAIN = Config(
    providers={
        "a": ProviderConfig(name="a", adapter="mock", priority=1, max_concurrency=64)
    }
)
BUDGET = BudgetConfig(limit_usd="1000000", window="day")
BOUND = attrs.evolve(PLAIN, budgets={"all": BUDGET})


async def measure(config: Config, clients: int, requests: int) -> Round:
    """Return what one request takes."""

    async def client(service: RunningService) -> None:
        for _ in range(requests // clients):
            await service.complete(REQUEST)

    seams = Seams(emit=lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        async with open_running(
            config,
            providers={"a": MockProvider("a")},
            seams=seams,
            state_dir=Path(folder),
        ) as service:
            await service.complete(REQUEST)
            since, used = time.perf_counter(), time.process_time()
            async with trio.open_nursery() as nursery:
                for _ in range(clients):
                    nursery.start_soon(client, service)
            took = time.perf_counter() - since
            return took / requests, (time.process_time() - used) / requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    its = parser.parse_args()
    for clients in (1, 64):
        rounds: dict[str, list[Round]] = {"no budget": [], "a budget": []}
        for _ in range(its.rounds):
            for name, config in (("no budget", PLAIN), ("a budget", BOUND)):
                rounds[name].append(trio.run(measure, config, clients, its.requests))
        medians = {
            name: [
                statistics.median(column) * 1e6 for column in zip(*found, strict=True)
            ]
            for name, found in rounds.items()
        }
        for name, (took, cpu) in medians.items():
            print(f"{clients:3} at a time, {name:9}: {took:7.0f} µs, CPU {cpu:6.0f} µs")
        (plain, _), (bound, _) = medians["no budget"], medians["a budget"]
        print(f"    ratio of the times: {bound / plain:.2f}")


if __name__ == "__main__":
    main()
