"""The providers in `duck top`: a line each, in the order that was chosen; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from duckservice.cli import styles
from duckservice.cli.budget import NEARLY
from duckservice.cli.text import count, elapsed, milliseconds, money, percent
from duckservice.cli.top.frame import Frame, Limit, Provider
from duckservice.cli.top.grid import Cell, Column, Marks, Section, bar, grid

_BAR: Final = 8
_TENTH_OF_A_CENT: Final = Decimal("0.001")

SORTS: Final[Mapping[str, Callable[[Provider], float]]] = {
    "name": lambda _: 0,
    "load": lambda its: -(its.in_flight + its.waiting),
    "failures": lambda its: -its.failures,
    "latency": lambda its: -(its.p50_ms or 0),
    "spend": lambda its: -float(Decimal(its.usd)),
}
"""What providers can be sorted by; "name" is as they are configured."""


def providers(frame: Frame, width: int, marks: Marks, sort: str) -> Section:
    """Return a line for each provider, in the order that was chosen."""
    columns = (
        Column("PROVIDER", grows=True),
        Column("BREAKER"),
        Column("BUSY", right=True),
        Column("WAIT", right=True),
        Column("REQ LIMIT", drop=3),
        Column("TOK LIMIT", drop=4),
        Column("P50", right=True, drop=1),
        Column("P90", right=True, drop=6),
        Column("DONE", right=True, drop=5),
        Column("FAILED", right=True),
        Column("SPENT", right=True, drop=2),
        Column("RESTS", right=True),
        Column("WHY", drop=7, grows=True),
    )
    ordered = sorted(frame.providers, key=SORTS[sort])
    rows = [_provider(its, marks) for its in ordered]
    head, lines = grid(columns, rows, width, marks)
    return Section(head=head, rows=lines, rank=0, share=3)


def _provider(its: Provider, marks: Marks) -> Sequence[Cell]:
    full = its.in_flight >= its.max_concurrency
    return (
        Cell(its.name),
        Cell(its.state, styles.of(its.state)),
        Cell(
            f"{count(its.in_flight)}/{count(its.max_concurrency)}",
            "yellow" if full else "",
        ),
        Cell(count(its.waiting), "yellow" if its.waiting else "dim"),
        _limit(its.requests, marks),
        _limit(its.tokens, marks),
        Cell(short_time(its.p50_ms)),
        Cell(short_time(its.p90_ms)),
        Cell(count(its.asked)),
        Cell(count(its.failures), "red" if its.failures else "dim"),
        Cell(short_money(its.usd)),
        Cell("" if its.rests_s is None else elapsed(its.rests_s), "yellow"),
        Cell(its.why),
    )


def _limit(its: Limit | None, marks: Marks) -> Cell:
    if its is None:
        return Cell("-", "dim")
    if its.used is None:
        return Cell(f"{count(max(0, its.left))} left", "yellow" if its.left < 1 else "")
    text = f"{bar(its.used, _BAR, marks)} {percent(its.used):>4}"
    return Cell(text, alarm(int(its.used * 100)))


def alarm(used: int) -> str:
    """Return the colour for a share in percent, of something that runs out."""
    return "red" if used >= 100 else "yellow" if used >= NEARLY else "green"


def short_time(value: float | None) -> str:
    """Return milliseconds in few characters, in seconds from one second on."""
    if value is None or value < 999.5:
        return milliseconds(value)
    return f"{value / 1000:.1f}s" if value < 10_000 else elapsed(value / 1000)


def short_money(usd: str) -> str:
    """Return US dollars to a tenth of a cent."""
    amount = Decimal(usd)
    if amount >= 1 or not amount:
        return money(amount)
    return f"${amount:.3f}" if amount >= _TENTH_OF_A_CENT else "<$0.001"
