"""`duck models`: what can be asked, one model at one provider a line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from duckservice.cli.exits import OK
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session

_PRICES = ("INPUT", "CACHED", "WRITTEN", "OUTPUT", "PICTURES")
_RATES = ("input", "cached_input", "cache_write", "output", "image_output")
_WORDS = {
    "streaming": "stream",
    "tools": "tools",
    "images_in": "vision",
    "json_schema": "schema",
    "reasoning": "reasoning",
}
"""What a chat can do, shortly; a provider's whole table is in the JSON."""
_NAMED_MAX = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to show of each."""
    parser.add_argument(
        "--prices",
        action="store_true",
        help="show prices in USD per million tokens, and which are not known",
    )


def run(session: Session) -> int:
    """Print the models, who has them, and what they can do or what they cost."""
    answer = session.get("/v1/models?details=true")
    if session.options.json:
        session.out.json(answer)
    elif session.options.prices:
        _show_prices(session, answer)
    else:
        _show_abilities(session, answer)
    for name, why in answer.get("silent_providers", {}).items():
        session.out.note(f"{name} did not say which models it has: {why}")
    return OK


def _show_abilities(session: Session, answer: Mapping[str, Any]) -> None:
    result = table("MODEL", "PROVIDER", "FOR", "CAN", wraps="CAN")
    for model, offer in _offers(answer):
        result.add_row(
            cell(model), cell(offer["provider"]), cell(offer["kind"]), cell(_can(offer))
        )
    session.out.show(result)


def _can(offer: Mapping[str, Any]) -> str:
    if offer["kind"] != "chat":
        return ""
    its = offer["capabilities"]
    return " ".join(word for name, word in _WORDS.items() if its.get(name))


def _show_prices(session: Session, answer: Mapping[str, Any]) -> None:
    result = table("MODEL", "PROVIDER", *_PRICES, "ABOVE", "SOURCE", numbers=_PRICES)
    unknown: list[str] = []
    for model, offer in _offers(answer):
        price = offer["price"]
        if price is None:
            unknown.append(f"{model} ({offer['provider']})")
            continue
        for step in (price, *price.get("tiers", ())):
            above = step.get("above_input_tokens")
            result.add_row(
                cell(model),
                cell(offer["provider"]),
                *(cell(step.get(f"{rate}_usd_per_mtok", "")) for rate in _RATES),
                cell("" if above is None else f"{above:,}"),
                cell(price["source"]),
            )
    session.out.show(result)
    its = answer["price_list"]
    changed = its["as_of"] or "no day that it names"
    session.out.note(
        f"USD per million tokens. The list is {its['name']} {its['version']}: it knows"
        f" no change of a price after {changed}."
    )
    if unknown:
        session.out.note(_warning(unknown))


def _warning(unknown: list[str]) -> str:
    named = ", ".join(unknown[:_NAMED_MAX])
    more = len(unknown) - _NAMED_MAX
    others = f" and {more:,} more" if more > 0 else ""
    return (
        f"duck: no price is known of {named}{others}: what they cost is unknown too,"
        " and hard budgets refuse them. Set `price` in the provider's table."
    )


def _offers(answer: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        (model["id"], offer) for model in answer["data"] for offer in model["offers"]
    ]
