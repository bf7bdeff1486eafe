"""`duck cost`: what was spent, on what."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from duckservice.cli.exits import OK
from duckservice.cli.narrow import fitted_table
from duckservice.cli.output import cell
from duckservice.cli.session import Session
from duckservice.cli.text import count, money

_NUMBERS = (
    "REQUESTS",
    "INPUT TOKENS",
    "OUTPUT TOKENS",
    "COST",
    "ESTIMATED",
    "UNPRICED",
)

_DISPENSABLE = ("ESTIMATED", "UNPRICED", "OUTPUT TOKENS", "INPUT TOKENS")
"""What a narrow terminal does without, in this order; `--json` has it all."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to group by, and from when on."""
    parser.add_argument(
        "--by",
        choices=("provider", "model", "day", "hour", "total"),
        default="provider",
        help="what each line stands for (default: provider)",
    )
    parser.add_argument(
        "--since",
        metavar="WHEN",
        help="an ISO date or time in UTC, or a length of time such as 24h",
    )


def run(session: Session) -> int:
    """Print the spend, line by line, and its total."""
    query = {"by": session.options.by}
    if session.options.since:
        query["since"] = session.options.since
    answer = session.get("/v1/costs?" + urlencode(query))
    if session.options.json:
        session.out.json(answer)
        return OK
    rows = [_row(row["key"], row) for row in answer["rows"]]
    if answer["by"] != "total":
        rows.append(_row("total", answer["total"], "bold"))
    by = answer["by"].upper()
    session.out.show(
        fitted_table(
            (by, *_NUMBERS),
            rows,
            session.out.console().width,
            dispensable=_DISPENSABLE,
            whole=(by, "REQUESTS", "COST"),
            numbers=_NUMBERS,
            folds=by,
        )
    )
    return OK


def _row(key: str, row: Mapping[str, Any], style: str = "") -> list[Any]:
    return [
        cell(key, style),
        cell(count(row["requests"]), style),
        cell(count(row["input_tokens"]), style),
        cell(count(row["output_tokens"]), style),
        cell(money(row["cost_usd"]), style),
        cell(count(row["estimated"]), style or _warned(row["estimated"])),
        cell(count(row["unpriced"]), style or _warned(row["unpriced"])),
    ]


def _warned(number: int) -> str:
    """Return the colour for requests of which the cost is not known exactly."""
    return "yellow" if number else ""
