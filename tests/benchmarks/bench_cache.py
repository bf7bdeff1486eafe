"""What a hit costs against a miss, in the service alone; run it as a program.

    python -m tests.benchmarks.bench_cache [REQUESTS]

The provider is the mock, which answers at once: so a miss is what the service itself
needs for a request, and the ratio is the least that a cache can be worth. Medians, in
microseconds; the kinds are measured in turns, in one process.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

from duckservice.calls.call import CallOptions
from duckservice.completion import ChatRequest, Message
from duckservice.config import CacheConfig, Config, ProviderConfig
from duckservice.providers.mock import MockProvider
from duckservice.running import RunningService, open_running
from duckservice.tree import Seams

ROUNDS = 10
TEXT = "Why do ducks quack? " * 40

Ask = Callable[[int], Awaitable[object]]


def config(*, enabled: bool, persist: bool = False) -> Config:
    """Return the config of one mock provider, with a cache or without."""
    mock = ProviderConfig(name="mock", adapter="mock", models=("*",))
    cache = CacheConfig(enabled=enabled, persist=persist, ttl=3600.0)
    return Config(providers={"mock": mock}, cache=cache)


def chat(number: int) -> ChatRequest:
    """Return a request of five messages; others of the same length differ in it."""
    messages = [Message.of("system", TEXT)]
    for turn in range(2):
        messages.append(Message.of("user", f"{turn} {TEXT}"))
        messages.append(Message.of("assistant", TEXT))
    messages.append(Message.of("user", f"{number:08} {TEXT}"))
    return ChatRequest(model="mock-1", messages=tuple(messages))


async def measure(count: int) -> dict[str, float]:
    """Return the median of each kind, in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder, "state")
        async with (
            open_service(config(enabled=False)) as plain,
            open_service(config(enabled=True)) as cached,
            open_service(config(enabled=True, persist=True), state) as kept,
        ):
            off = CallOptions(cache="off")
            await cached.complete(chat(0))
            kinds: dict[str, Ask] = {
                "without a cache": lambda n: plain.complete(chat(n)),
                "cache: off": lambda n: cached.complete(chat(n), off),
                "miss": lambda n: cached.complete(chat(n)),
                "miss, with a file": lambda n: kept.complete(chat(n)),
                "hit": lambda _: cached.complete(chat(0)),
                "hit, as a stream": lambda _: read(cached, chat(0)),
            }
            return await medians(kinds, count)


async def medians(kinds: dict[str, Ask], count: int) -> dict[str, float]:
    """Measure all kinds in turns."""
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    number = 1
    for _ in range(ROUNDS):
        for kind, ask in kinds.items():
            for _ in range(count // ROUNDS):
                number += 1
                start = time.perf_counter()
                await ask(number)
                times[kind].append((time.perf_counter() - start) * 1e6)
    return {kind: statistics.median(its) for kind, its in times.items()}


def open_service(
    its: Config, state: Path | None = None
) -> AbstractAsyncContextManager[RunningService]:
    """Run a service that logs nothing."""
    seams = Seams(emit=lambda _: None)
    providers = {"mock": MockProvider("mock")}
    return open_running(its, providers=providers, seams=seams, state_dir=state)


async def read(service: RunningService, request: ChatRequest) -> None:
    """Read a stream to its end."""
    async with service.stream(request) as answer:
        async for _ in answer.batches:
            pass


def main() -> None:
    """Print the medians, and how they compare with a miss."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    found = trio.run(measure, count)
    for kind, micros in found.items():
        print(f"{kind:20} {micros:8.0f} us   {found['miss'] / micros:5.2f} x a miss")


if __name__ == "__main__":
    main()
