"""What came of runs: one row for each world and policy, over all seeds."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from duckservice.core.pricing import PICO_PER_USD
from tests.simulation.run import Ran

Row: TypeAlias = dict[str, Any]

PRIORITIES = ("high", "normal", "low")


def row(runs: Sequence[Ran]) -> Row:
    """Return the figures of some runs of the same world and policy, put together."""
    done = [each for ran in runs for each in ran.judge.done]
    people = [each for each in done if not each.order.source.durable]
    jobs = [each for each in done if each.order.source.durable]
    calls = [seen for ran in runs for its in ran.upstreams.values() for seen in its.log]
    broken = sum((ran.judge.verdicts.broken for ran in runs), Counter[str]())
    return {
        "world": runs[0].world.name,
        "policy": runs[0].policy,
        "seeds": len(runs),
        "minutes": sum(ran.seconds for ran in runs) / 60,
        "orders": len(done),
        "served": _share(each.how == "ok" for each in people),
        "jobs_served": _share(each.how == "ok" for each in jobs),
        "ends": dict(Counter(each.how for each in done).most_common()),
        "limit_use": _limit_use(runs),
        "fullest_minute": max(map(_fullest_minute, runs)),
        "limit": next(iter(runs[0].upstreams.values())).traits.requests_per_minute,
        "spent": max(
            (use for ran in runs for use in ran.judge.money.use.values()),
            default=None,
        ),
        "usd_per_1000": sum(seen.bill for seen in calls)
        / PICO_PER_USD
        / max(1, sum(each.how == "ok" for each in done))
        * 1000,
        "calls": len(calls),
        "calls_per_order": len(calls) / max(1, len(done)),
        "wasted": sum(seen.fate != "ok" for seen in calls),
        "wasted_down": sum(seen.down for seen in calls),
        "again": sum(seen.again for seen in calls),
        "latency": {
            name: _percentiles(
                each.at - each.order.at
                for each in people
                if each.how == "ok" and each.order.source.priority == name
            )
            for name in PRIORITIES
        },
        "recovery": max(
            (seconds for ran in runs for seconds in ran.judge.recovered), default=None
        ),
        "checks": sum(sum(ran.judge.verdicts.checked.values()) for ran in runs),
        "broken": {name: broken[name] for name in sorted(broken)},
        "examples": _examples(runs),
        "seen": dict(sum((ran.judge.verdicts.seen for ran in runs), Counter[str]())),
        "virtual_minutes_per_second": sum(ran.seconds for ran in runs)
        / 60
        / sum(ran.took for ran in runs),
        "digests": {ran.seed: ran.digest for ran in runs},
    }


NONE = "-"

_HEAD = (
    "| world | policy | served | jobs | limit used | fullest minute | spent | USD for 1000 | calls/order | wasted"
    " | of them while down | p50/p99 high | normal | low | back after | broken |"
)


def head() -> str:
    """Return the first lines of a table in Markdown."""
    return f"{_HEAD}\n|" + " --- |" * (_HEAD.count("|") - 1)


def line(its: Row) -> str:
    """Return *its* line of that table."""
    cells = [
        its["world"],
        its["policy"],
        _percent(its["served"]),
        _percent(its["jobs_served"]),
        _percent(its["limit_use"]),
        f"{its['fullest_minute']} of {its['limit'] or '∞'}",
        _percent(its["spent"]),
        f"{its['usd_per_1000']:.2f}",
        f"{its['calls_per_order']:.2f}",
        str(its["wasted"]),
        str(its["wasted_down"]),
        *(_pair(its["latency"][name]) for name in PRIORITIES),
        _seconds(its["recovery"]),
        ", ".join(f"{name} x{n}" for name, n in its["broken"].items()) or NONE,
    ]
    return "| " + " | ".join(cells) + " |"


def summary(rows: Sequence[Row]) -> str:
    """Return how much was simulated and checked, in one line."""
    minutes = sum(its["minutes"] for its in rows)
    real = sum(its["minutes"] / its["virtual_minutes_per_second"] for its in rows)
    return (
        f"{minutes:.0f} virtual minutes in {real:.1f} s ({minutes / real:.0f} a second):"
        f" {sum(its['orders'] for its in rows)} orders,"
        f" {sum(its['calls'] for its in rows)} calls,"
        f" {sum(its['checks'] for its in rows)} checks of promises"
    )


def _limit_use(runs: Sequence[Ran]) -> float | None:
    """Return the share of its limit that the first provider was used to, if it is scarce."""
    if not runs[0].world.saturated:
        return None
    used = allowed = 0.0
    for ran in runs:
        first = next(iter(ran.upstreams.values()))
        limit = first.traits.requests_per_minute or 0
        # The first minute begins with nothing to do.
        used += sum(
            60.0 <= seen.at < ran.seconds and seen.fate != "limited"
            for seen in first.log
        )
        allowed += limit * (ran.seconds - 60.0) / 60.0
    return used / allowed if allowed else None


def _fullest_minute(ran: Ran) -> int:
    """Return the most calls that the first provider got in any 60 s."""
    window, most = deque[float](), 0
    for seen in next(iter(ran.upstreams.values())).log:
        window.append(seen.at)
        while window[0] <= seen.at - 60.0:
            window.popleft()
        most = max(most, len(window))
    return most


def _examples(runs: Sequence[Ran]) -> dict[str, list[str]]:
    found = dict[str, list[str]]()
    for ran in runs:
        for name, texts in ran.judge.verdicts.examples.items():
            some = found.setdefault(name, [])
            some.extend(f"seed {ran.seed}, {text}" for text in texts[: 3 - len(some)])
    return found


def _percentiles(times: Iterable[float]) -> tuple[float, float] | None:
    its = sorted(times)
    if not its:
        return None
    return its[len(its) // 2], its[math.ceil(0.99 * len(its)) - 1]


def _share(truths: Iterable[bool]) -> float | None:
    its = list(truths)
    return sum(its) / len(its) if its else None


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f} %"


def _pair(pair: tuple[float, float] | None) -> str:
    return NONE if pair is None else f"{pair[0]:.1f}/{pair[1]:.1f} s"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    return "never" if math.isinf(seconds) else f"{seconds:.0f} s"
