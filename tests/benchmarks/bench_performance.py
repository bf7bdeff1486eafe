"""What the performance monitor costs an attempt, and whoever reads it.

    python -m tests.benchmarks.bench_performance

The monitor is full, which is when it costs most: 50 models with 1,000 attempts each.
Beside it, in the same run and in turns, stands what every attempt pays anyway for
the sums of its cost.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from itertools import count

from duckservice.completion import Usage
from duckservice.core.circuit_breaker import Outcome
from duckservice.core.cost_sums import CostSums
from duckservice.core.performance import MODELS_MAX, SAMPLES_MAX, PerformanceMonitor
from duckservice.core.performance_figures import Sample

ROUNDS = 7
ATTEMPTS = 20_000
SPACING = 0.001
"""Seconds between attempts, so that the window is full and the newest are kept."""


def main() -> None:
    """Print the figures."""
    tracemalloc.start()
    monitor = full()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    ticks = count(MODELS_MAX * SAMPLES_MAX)
    sums, usage = CostSums(), Usage(input_tokens=200, output_tokens=100)

    def track() -> None:
        number = next(ticks)
        monitor.track(f"m{number % MODELS_MAX}", sample(number))

    def outlook() -> None:
        monitor.outlook("m7", next(ticks) * SPACING)

    def costs() -> None:
        sums.add(1e9, "a", "m", usage, 1000)

    its = {"track": track, "outlook": outlook, "costs": costs}
    best = {name: float("inf") for name in its}
    for _ in range(ROUNDS):
        for name, action in its.items():
            best[name] = min(best[name], timed(action))
    print("microseconds, the best of", ROUNDS, "rounds")
    print(f"  an attempt noted                {best['track']:8.2f}")
    print(f"  a model's outlook read          {best['outlook']:8.2f}")
    print(f"  beside: costs added up          {best['costs']:8.2f}")
    now = next(ticks) * SPACING
    began = time.perf_counter()
    monitor.statistics(now, "m7")
    took = time.perf_counter() - began
    print(f"all figures of a full model: {took * 1000:.2f} ms")
    print(f"a full monitor: {held / 2**20:.1f} MiB")


def full() -> PerformanceMonitor:
    """Return a monitor that holds as much as it may."""
    monitor = PerformanceMonitor()
    for number in range(MODELS_MAX * SAMPLES_MAX):
        monitor.track(f"m{number % MODELS_MAX}", sample(number))
    return monitor


def sample(number: int) -> Sample:
    """Return a success of its own length."""
    return Sample(
        at=number * SPACING,
        code="ok",
        outcome=Outcome.SUCCESS,
        duration=1.0 + number % 997 / 1000,
        first_token=0.1 + number % 89 / 1000,
        output_tokens=100 + number % 50,
    )


def timed(action: Callable[[], None]) -> float:
    """Return the microseconds of one *action*, of many."""
    began = time.perf_counter()
    for _ in range(ATTEMPTS):
        action()
    return (time.perf_counter() - began) / ATTEMPTS * 1e6


if __name__ == "__main__":
    main()
