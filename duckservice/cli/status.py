"""`duck status`: how the daemon is, at a glance."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from duckservice.cli import styles
from duckservice.cli.breakers import breakers_table
from duckservice.cli.exits import OK
from duckservice.cli.output import cell, table
from duckservice.cli.queue import limited
from duckservice.cli.session import Session
from duckservice.cli.text import count, elapsed, money, percent, plural, size

if TYPE_CHECKING:
    from rich.table import Table


def arguments(_: argparse.ArgumentParser) -> None:
    """Take no arguments of its own."""


def run(session: Session) -> int:
    """Print the state of the daemon, its queue and its providers."""
    status = session.get("/v1/status")
    if session.options.json:
        session.out.json(status)
        return OK
    limits = {name: waiting for name, (waiting, _) in limited(session).items()}
    session.out.show(
        _summary(status, limits), "", providers_table(status["providers"], limits)
    )
    breakers = breakers_table(status["providers"].items())
    if breakers is not None:
        session.out.show("", breakers)
    return OK


def _summary(status: Mapping[str, Any], limits: Mapping[str, int]) -> Table:
    requests, queue = status["requests"], status["queue"]
    depth = ", ".join(f"{n} {level}" for level, n in queue["depth"].items())
    summary = table("", "")
    summary.show_header = False
    done = (
        f"{count(requests['completed'])} completed, {count(requests['failed'])} failed"
        " since the start"
    )
    paused = ", paused" if queue.get("paused") else ""
    rows = (
        ("duckd", f"{status['version']}, pid {status['pid']}"),
        ("state", f"{status['state']}, up {elapsed(status['uptime_s'])}"),
        ("requests", f"{done}, {count(requests['in_flight'])} in flight"),
        ("queue", f"{count(queue['waiting'])} waiting ({depth}){paused}"),
        *_limits(limits),
        *_jobs(status),
        *_store(status),
        *_cache(status),
        ("spent", f"{money(status['cost_usd'])} over all starts"),
    )
    for name, text in rows:
        style = styles.of(status["state"]) if name == "state" else ""
        summary.add_row(cell(name, "bold"), cell(text, style))
    return summary


def _limits(limits: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    waiting = {name: number for name, number in limits.items() if number}
    if waiting:
        whose = ", ".join(f"{count(number)} {name}" for name, number in waiting.items())
        yield (
            "limits",
            f"{count(sum(waiting.values()))} waiting for a rate limit ({whose})",
        )


def _jobs(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    jobs: Mapping[str, int] | None = status.get("jobs")
    states = [f"{count(n)} {name}" for name, n in (jobs or {}).items() if n]
    if states:
        yield "jobs", ", ".join(states)


def _store(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    store = status.get("store")
    if store is not None:
        yield "store", store_text(store)


def store_text(store: Mapping[str, Any]) -> str:
    """Return how the store is, in few words; in capitals where that is bad."""
    if not store["ok"]:
        return f"FAILS: {store['detail']}"
    if store.get("full"):
        return f"FULL: {size(store['used_bytes'])}; takes no jobs"
    jobs = plural(store.get("jobs", 0), "job")
    used = store.get("used_bytes")
    return f"in memory, {jobs}" if used is None else f"{size(used)}, {jobs}"


def _cache(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    cache = status.get("cache")
    if cache is None:
        return
    kept = f"{count(cache['entries'])} replies, {size(cache['bytes'])}"
    used = f"{count(cache['hits'])} hits, {count(cache['misses'])} misses"
    yield "cache", f"{kept}; {used}, {count(cache['coalesced'])} coalesced"


def providers_table(
    providers: Mapping[str, Mapping[str, Any]], limits: Mapping[str, int]
) -> Table:
    """Return a line for each provider of `/v1/status`.

    Of what is in flight, *limits* says how many wait for the provider's rate limit.
    """
    numbers = ("IN FLIGHT", *(("LIMITED",) if any(limits.values()) else ()), "HEALTH")
    result = table("PROVIDER", "BREAKER", *numbers, numbers=numbers)
    for name, provider in providers.items():
        state = provider["breaker"] if provider["enabled"] else "disabled"
        waiting = limits.get(name, 0)
        row = [cell(name), cell(state, styles.of(state))]
        row.append(cell(count(max(0, provider["in_flight"] - waiting))))
        if "LIMITED" in numbers:
            row.append(cell(count(waiting), "yellow" if waiting else ""))
        result.add_row(*row, cell(percent(provider["health"])))
    return result
