"""The table of how providers, and their models, performed lately."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from duckservice.cli.narrow import fitted_table
from duckservice.cli.output import cell
from duckservice.cli.text import count, elapsed, milliseconds, percent

if TYPE_CHECKING:
    from rich.table import Table

_NUMBERS = ("REQUESTS", "SUCCESS", "MEAN", "P50", "P90", "P99", "TTFT", "TOK/S")
_DISPENSABLE = ("P90", "MEAN", "TOK/S", "TTFT", "P99", "P50")
"""What a narrow terminal does without, in this order; `--json` has it all."""


def performance_table(
    providers: Sequence[Mapping[str, Any]], width: int, *, models: bool
) -> Table | None:
    """Return a line for each provider that was asked lately; None if none was.

    With *models*, each of its models that was asked lately has one below it.
    """
    rows = list(_rows(providers, models=models))
    if not rows:
        return None
    window = elapsed(rows[0][1].get("window_s") or 0).upper()
    first = f"LAST {window}"
    return fitted_table(
        (first, *_NUMBERS, "ENDED WITH"),
        [[cell(name), *_cells(figures)] for name, figures in rows],
        width,
        dispensable=_DISPENSABLE,
        whole=(first, *(name for name in _NUMBERS if name not in _DISPENSABLE)),
        numbers=_NUMBERS,
        wraps="ENDED WITH",
        folds=first,
    )


def _rows(
    providers: Sequence[Mapping[str, Any]], *, models: bool
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for provider in providers:
        # A daemon of an older version says nothing of it.
        figures: Mapping[str, Any] = provider.get("performance") or {}
        if not figures.get("requests"):
            continue
        yield provider["name"], figures
        if models:
            for model, its in provider.get("by_model", {}).items():
                if its["requests"]:
                    yield f"  {model}", its


def _cells(its: Mapping[str, Any]) -> Iterator[Any]:
    # A daemon of an older version does not say whether there were more.
    more = "+" if its.get("sample_full") else ""
    yield cell(count(its["requests"]) + more)
    yield cell(_success(its["success_rate"]))
    for name in ("average", "p50", "p90", "p99"):
        yield cell(_time(its[f"{name}_latency_ms"]))
    yield cell(_time(its["average_time_to_first_token_ms"]))
    speed = its["tokens_per_second"]
    yield cell("-" if speed is None else f"{speed:,.1f}")
    yield cell(_endings(its["failures_by_code"] | its["not_counted"]))


def _time(value: float | None) -> str:
    """Return milliseconds in few characters, in seconds from one second on."""
    if value is None or value < 999.5:
        return milliseconds(value)
    return f"{value / 1000:.2f}s" if value < 10_000 else f"{value / 1000:,.0f}s"


def _success(share: float | None) -> str:
    """Return a share; 100% only if it is all, 0% only if it is nothing."""
    if share is None or share in (0, 1):
        return percent(share)
    return f"{min(max(share, 0.001), 0.999):.1%}"


def _endings(by_code: Mapping[str, int]) -> str:
    """Return how those ended that did not succeed, the most frequent first."""
    ranked = sorted(by_code.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{code} {count(number)}" for code, number in ranked)
