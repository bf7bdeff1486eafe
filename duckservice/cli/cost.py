"""`duck cost`: what was spent, on what."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from duckservice.cli.exits import OK
from duckservice.cli.output import cell, table
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
    result = table(answer["by"].upper(), *_NUMBERS, numbers=_NUMBERS)
    for row in answer["rows"]:
        result.add_row(*_row(row["key"], row))
    if answer["by"] != "total":
        result.add_section()
        result.add_row(*_row("total", answer["total"]), style="bold")
    session.out.show(result)
    return OK


def _row(key: str, row: Mapping[str, Any]) -> list[Any]:
    return [
        cell(key),
        cell(count(row["requests"])),
        cell(count(row["input_tokens"])),
        cell(count(row["output_tokens"])),
        cell(money(row["cost_usd"])),
        cell(count(row["estimated"])),
        cell(count(row["unpriced"])),
    ]
