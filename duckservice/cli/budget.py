"""`duck budget`: what may still be spent, until when."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from duckservice.cli.exits import OK
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session
from duckservice.cli.text import money

_NUMBERS = ("SPENT", "RESERVED", "LEFT", "LIMIT")
_BAR: Final = 10
_NEARLY: Final = 80
"""Percent of a limit from which on it is shown in another colour."""


def arguments(_parser: argparse.ArgumentParser) -> None:
    """Add nothing: there is nothing to choose."""


def run(session: Session) -> int:
    """Print each budget, and how much of it is gone."""
    answer = session.get("/v1/budgets")
    if session.options.json:
        session.out.json(answer)
        return OK
    result = table(
        "BUDGET", "OF", "USED", *_NUMBERS, "WINDOW", "ENDS", numbers=_NUMBERS
    )
    for its in answer["budgets"]:
        used = percent(its)
        style = "red" if used >= 100 else "yellow" if used >= _NEARLY else ""
        result.add_row(
            cell(its["name"]),
            cell(_of_whom(its["match"])),
            cell(f"{bar(used)} {used:3d}%", style=style),
            cell(money(its["spent_usd"])),
            cell(money(its["reserved_usd"])),
            cell(money(its["remaining_usd"])),
            cell(money(its["limit_usd"])),
            cell(its["window"]),
            cell(_end(its["until"])),
        )
    session.out.show(result)
    return OK


def percent(its: Mapping[str, Any]) -> int:
    """Return how many percent of a budget are spent or set aside."""
    limit = Decimal(its["limit_usd"])
    gone = Decimal(its["spent_usd"]) + Decimal(its["reserved_usd"])
    # Rounded down, so that 100 means that nothing is left; a budget of nothing is.
    return int(gone * 100 / limit) if limit else 100


def bar(used: int) -> str:
    """Return *used* percent as a row of marks, which any terminal can show."""
    full = min(_BAR, used * _BAR // 100)
    return f"[{'#' * full}{'.' * (_BAR - full)}]"


def _of_whom(match: Mapping[str, Any]) -> str:
    words = [f"{key} {value}" for key, value in match.items() if value is not None]
    return ", ".join(words) or "all"


def _end(until: str | None) -> str:
    return "never" if until is None else until[:16].replace("T", " ") + " UTC"
