"""`duck providers`: each provider, its health and its account."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from duckservice.cli import styles
from duckservice.cli.breakers import breakers_table
from duckservice.cli.exits import FAILED, OK, USAGE, Exit
from duckservice.cli.narrow import fitted_table
from duckservice.cli.output import cell, table
from duckservice.cli.performance import performance_table
from duckservice.cli.session import Session
from duckservice.cli.text import count, elapsed, milliseconds, money, percent
from duckservice.terminal import escape_controls

_MODELS_SHOWN = 3
_NUMBERS = ("HEALTH", "BUSY", "LATENCY", "REQUESTS", "FAILURES", "COST")
_COLUMNS = ("PROVIDER", "ADAPTER", "BREAKER", *_NUMBERS, "MODELS")
_DISPENSABLE = ("ADAPTER", "MODELS", "LATENCY", "BUSY")
"""What a narrow terminal does without, in this order; `--json` has it all."""
_SINCE = "COST is over all starts, REQUESTS and FAILURES since the last"
_WHOLE = ("PROVIDER", "BREAKER", "HEALTH", "REQUESTS", "FAILURES", "COST")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what may be done to one of them."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("enable", "disable", "reset", "check"),
        help="reset: close its breaker; check: find out whether it answers",
    )
    parser.add_argument(
        "name",
        nargs="?",
        help="the provider, for an action; check without one checks all",
    )
    parser.add_argument(
        "--models",
        nargs="?",
        const="",
        metavar="NAME",
        help="how each model performed lately, of all providers or of one",
    )


def run(session: Session) -> int:
    """Print a line for each provider, or do something to one."""
    its = session.options
    if its.action and its.models is not None:
        raise Exit("--models only shows, and goes with no action", USAGE)
    if its.action:
        return _act(session, its.action, its.name)
    answer = session.get("/v1/providers")
    if its.models:
        answer = {"providers": [_named(answer["providers"], its.models)]}
    if its.json:
        session.out.json(answer)
    elif its.models is None:
        _show(session, answer["providers"])
    else:
        _show_models(session, answer["providers"])
    return OK


def _show(session: Session, providers: list[Mapping[str, Any]]) -> None:
    width = session.out.console().width
    session.out.show(
        fitted_table(
            _COLUMNS,
            [_row(provider) for provider in providers],
            width,
            dispensable=_DISPENSABLE,
            whole=_WHOLE,
            numbers=_NUMBERS,
            wraps="MODELS",
            folds="PROVIDER",
        ),
        cell(_SINCE, "dim"),
    )
    breakers = breakers_table((its["name"], its) for its in providers)
    if breakers is not None:
        session.out.show("", breakers)
    performance = performance_table(providers, width, models=False)
    if performance is not None:
        session.out.show("", performance)
    for provider in providers:
        for line in _keys(provider):
            session.out.note(line)


def _show_models(session: Session, providers: list[Mapping[str, Any]]) -> None:
    width = session.out.console().width
    performance = performance_table(providers, width, models=True)
    if performance is None:
        session.out.note("nothing was asked of a provider lately")
    else:
        session.out.show(performance)


def _named(providers: list[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    for provider in providers:
        if provider["name"] == name:
            return provider
    names = ", ".join(provider["name"] for provider in providers)
    raise Exit(f"no provider {name!r}; there are: {names}", FAILED)


def _keys(provider: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each key that is set aside."""
    for key in provider.get("keys", ()):
        if key["state"] != "ok":
            state = key["state"].replace("_", " ")
            wait = elapsed(key["wait_s"])
            line = f"{provider['name']}: key {key['key']} is {state}, for {wait} more"
            yield escape_controls(line)


def _act(session: Session, action: str, name: str | None) -> int:
    if name is None and action == "check":
        return _check_all(session)
    if name is None:
        raise Exit(f"{action} which provider?", USAGE)
    answer = session.post(f"/v1/providers/{quote(name, safe='')}/{action}")
    healthy = answer.get("healthy", True)
    if session.options.json:
        session.out.json(answer)
    elif action == "check":
        detail = answer.get("detail") or milliseconds(answer.get("latency_ms"))
        state = "answers" if healthy else "does not answer"
        session.out.data(escape_controls(f"{name} {state}: {detail}"))
    elif action == "reset" and answer["breaker"] == "disabled":
        session.out.note(
            f"{name}: stays disabled: reset forgets failures only;"
            f" `duck providers enable {name}` lets requests pass again"
        )
    elif action == "disable":
        session.out.note(f"{name}: {answer['breaker']}, until duckd is started anew")
    else:
        session.out.note(f"{name}: {answer['breaker']}")
    return OK if healthy else FAILED


def _check_all(session: Session) -> int:
    answer = session.post("/v1/providers/check")
    found = answer["providers"]
    if session.options.json:
        session.out.json(answer)
    else:
        columns = ("PROVIDER", "ADAPTER", "ANSWERS", "LATENCY", "DETAIL")
        result = table(*columns, numbers=("LATENCY",), wraps="DETAIL")
        for each in found:
            state = "yes" if each["healthy"] else "no"
            result.add_row(
                cell(each["name"]),
                cell(each["adapter"]),
                cell(state, styles.of("closed" if each["healthy"] else "open")),
                cell(milliseconds(each["latency_ms"])),
                cell(each["detail"]),
            )
        session.out.show(result)
    return OK if all(each["healthy"] for each in found) else FAILED


def _row(provider: Mapping[str, Any]) -> list[Any]:
    state = provider["breaker"] if provider["enabled"] else "disabled"
    busy = f"{count(provider['in_flight'])}/{count(provider['max_concurrency'])}"
    return [
        cell(provider["name"]),
        cell(provider["adapter"]),
        cell(state, styles.of(state)),
        cell(percent(provider["health"])),
        cell(busy),
        cell(milliseconds(provider["latency_ms"])),
        cell(count(provider["requests"])),
        cell(count(provider["failures"])),
        cell(money(provider["cost_usd"])),
        cell(_models(provider["models"])),
    ]


def _models(names: list[str]) -> str:
    more = len(names) - _MODELS_SHOWN
    shown = ", ".join(names[:_MODELS_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
