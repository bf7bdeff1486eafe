"""`duck status`: how the daemon is, at a glance."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from duckservice.cli import styles
from duckservice.cli.breakers import breakers_table
from duckservice.cli.exits import OK
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session
from duckservice.cli.text import count, elapsed, money, percent, size

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
    session.out.show(_summary(status), "", providers_table(status["providers"]))
    breakers = breakers_table(status["providers"].items())
    if breakers is not None:
        session.out.show("", breakers)
    return OK


def _summary(status: Mapping[str, Any]) -> Table:
    requests, queue = status["requests"], status["queue"]
    depth = ", ".join(f"{n} {level}" for level, n in queue["depth"].items())
    summary = table("", "")
    summary.show_header = False
    done = (
        f"{count(requests['completed'])} completed, {count(requests['failed'])} failed"
    )
    rows = (
        ("duckd", f"{status['version']}, pid {status['pid']}"),
        ("state", f"{status['state']}, up {elapsed(status['uptime_s'])}"),
        ("requests", f"{done}, {count(requests['in_flight'])} in flight"),
        ("queue", f"{count(queue['waiting'])} waiting ({depth})"),
        *_store(status),
        *_cache(status),
        ("spent", money(status["cost_usd"])),
    )
    for name, text in rows:
        style = styles.of(status["state"]) if name == "state" else ""
        summary.add_row(cell(name, "bold"), cell(text, style))
    return summary


def _store(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    store = status.get("store")
    if store is None:
        return
    if not store["ok"]:
        yield "store", f"FAILS: {store['detail']}"
    elif store["full"]:
        yield "store", f"FULL: {size(store['used_bytes'])}; takes no jobs"
    elif store.get("used_bytes") is None:
        yield "store", f"in memory, {count(store['jobs'])} jobs"
    else:
        yield "store", f"{size(store['used_bytes'])}, {count(store['jobs'])} jobs"


def _cache(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    cache = status.get("cache")
    if cache is None:
        return
    kept = f"{count(cache['entries'])} replies, {size(cache['bytes'])}"
    used = f"{count(cache['hits'])} hits, {count(cache['misses'])} misses"
    yield "cache", f"{kept}; {used}, {count(cache['coalesced'])} coalesced"


def providers_table(providers: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a line for each provider of `/v1/status`."""
    result = table(
        "PROVIDER", "BREAKER", "IN FLIGHT", "HEALTH", numbers=("IN FLIGHT", "HEALTH")
    )
    for name, provider in providers.items():
        state = provider["breaker"] if provider["enabled"] else "disabled"
        result.add_row(
            cell(name),
            cell(state, styles.of(state)),
            cell(count(provider["in_flight"])),
            cell(percent(provider["health"])),
        )
    return result
