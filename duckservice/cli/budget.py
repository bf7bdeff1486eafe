"""`duck budget`: what may still be spent, until when."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from duckservice.cli.exits import FAILED, OK, Exit
from duckservice.cli.narrow import fitted_table
from duckservice.cli.output import cell
from duckservice.cli.session import Session
from duckservice.cli.text import money

_COLUMNS: Final = (
    "BUDGET",
    "OF",
    "",
    "USED",
    "SPENT",
    "RESERVED",
    "LEFT",
    "LIMIT",
    "WINDOW",
    "ENDS",
)
_DISPENSABLE: Final = ("", "OF", "ENDS", "WINDOW", "RESERVED")
"""What a narrow terminal does without, in this order: the bar, and what `--json` has."""
_WHOLE: Final = ("BUDGET", "USED", "SPENT", "LEFT", "LIMIT")
_NUMBERS: Final = ("USED", "SPENT", "RESERVED", "LEFT", "LIMIT")
_BAR: Final = 10
NEARLY: Final = 80
"""Percent of a limit from which on it is shown in another colour."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add which is to be shown."""
    parser.add_argument("name", nargs="?", help="show this one only (default: all)")


def run(session: Session) -> int:
    """Print each budget, or one, and how much of it is gone."""
    answer = session.get("/v1/budgets")
    if session.options.name is not None:
        answer = {"budgets": [_named(answer["budgets"], session.options.name)]}
    if session.options.json:
        session.out.json(answer)
        return OK
    if not answer["budgets"]:
        session.out.note("no budget is configured: what may be spent has no limit")
        return OK
    session.out.show(
        fitted_table(
            _COLUMNS,
            [_row(its) for its in answer["budgets"]],
            session.out.console().width,
            dispensable=_DISPENSABLE,
            whole=_WHOLE,
            numbers=_NUMBERS,
            folds="BUDGET",
        )
    )
    return OK


def _named(budgets: list[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    for its in budgets:
        if its["name"] == name:
            return its
    names = ", ".join(its["name"] for its in budgets) or "none"
    raise Exit(f"no budget {name!r}; there are: {names}", FAILED)


def _row(its: Mapping[str, Any]) -> list[Any]:
    used = percent(its)
    style = "red" if used >= 100 else "yellow" if used >= NEARLY else ""
    return [
        cell(its["name"]),
        cell(_of_whom(its["match"])),
        cell(bar(used), style=style),
        cell(f"{used}%", style=style),
        cell(money(its["spent_usd"])),
        cell(money(its["reserved_usd"])),
        cell(money(its["remaining_usd"])),
        cell(money(its["limit_usd"])),
        cell(its["window"]),
        cell(_end(its["until"])),
    ]


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
