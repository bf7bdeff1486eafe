"""Print what one grant of the rate limiter costs while others wait.

    python -m tests.benchmarks.bench_limiter [turns]

Each turn is one that enters, one that is granted and settles, and the next wakeup, with
0, 100 and 10,000 waiting meanwhile, of 1 and of 50 submitters. What counts are the
ratios: nothing should take much longer where many wait.
"""

from __future__ import annotations

import argparse
import time

from duckservice.core.grants import Grant, Limits
from duckservice.core.limiter import Limiter

WAITING = (0, 100, 10_000)
RATIO_AIM = 10.0
"""With 10,000 waiting, as against 100."""


def micros(waiting: int, submitters: int, turns: int, *, sizes: int) -> float:
    """Return the microseconds of the processor that a turn takes."""
    limits = Limits(
        requests_per_minute=6000, tokens_per_minute=600_000, waiting_max=1_000_000
    )
    limiter: Limiter[int] = Limiter(limits, 0.0)
    now, number = 0.0, 0

    def enter() -> bool:
        nonlocal number
        number += 1
        tokens = 40 + 20 * (number % sizes)
        deadline = now + 1e6
        answer = limiter.acquire(
            now,
            tokens,
            number,
            "normal" if number % 3 else "high",
            submitter=(number % submitters, number % 7),
            deadline=deadline if number % 2 else float("inf"),
        )
        if isinstance(answer, Grant):
            limiter.settle(answer, answer.tokens // 2)
        return isinstance(answer, Grant)

    while limiter.statistics(now).waiting < waiting:
        enter()
    missing, done, begun = 0, 0, time.process_time()
    while done < turns:
        if not waiting:
            now += 0.02
            done += enter()
            continue
        now = max(now, limiter.next_wakeup(now) or now)
        for _, grant in limiter.due(now):
            assert isinstance(grant, Grant)
            limiter.settle(grant, grant.tokens // 2)
            done += 1
            missing += 1
        while missing:
            # Where all went at once, some of the next ones need not wait either.
            granted = enter()
            done += granted
            missing -= not granted
    return (time.process_time() - begun) / done * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("turns", type=int, nargs="?", default=2_000)
    turns = parser.parse_args().turns
    for submitters, sizes in ((1, 1), (50, 1), (50, 50)):
        costs = [micros(n, submitters, turns, sizes=sizes) for n in WAITING]
        shown = "  ".join(
            f"{n:>6} wait: {cost:6.1f} µs"
            for n, cost in zip(WAITING, costs, strict=True)
        )
        ratio = costs[2] / costs[1]
        verdict = "ok" if ratio <= RATIO_AIM else "TOO SLOW"
        print(
            f"{submitters:>3} submitters, {sizes:>2} sizes  {shown}  x{ratio:.2f} {verdict}"
        )


if __name__ == "__main__":
    main()
