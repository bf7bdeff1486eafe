"""The table of breakers that are not closed: of providers, and of single models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from duckservice.cli import styles
from duckservice.cli.output import cell, table
from duckservice.cli.text import elapsed

if TYPE_CHECKING:
    from rich.table import Table

_MODELS_SHOWN: Final = 20
"""Of one provider; clients choose the names, so there may be hundreds."""


def breakers_table(
    providers: Iterable[tuple[str, Mapping[str, Any]]],
) -> Table | None:
    """Return a line for each breaker that refuses, why and how long; None if none does."""
    rows = [row for name, its in providers for row in _rows(name, its)]
    if not rows:
        return None
    result = table("NOT CLOSED", "STATE", "FOR", "WHY", numbers=("FOR",), wraps="WHY")
    # A model's name may be as long as a client likes; cut, it is nobody's.
    result.columns[0].no_wrap, result.columns[0].overflow = False, "fold"
    for name, its in rows:
        wait = its.get("breaker_wait_s")
        result.add_row(
            cell(name),
            cell(its["breaker"], styles.of(its["breaker"])),
            cell("-" if wait is None else elapsed(wait)),
            cell(its["breaker_why"]),
        )
    return result


def _rows(
    name: str, provider: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    # A daemon of an older version says nothing of why.
    if provider.get("breaker_why"):
        yield name, provider
    models: Mapping[str, Mapping[str, Any]] = provider.get("breakers") or {}
    bad = [(model, its) for model, its in models.items() if its.get("breaker_why")]
    for model, its in islice(bad, _MODELS_SHOWN):
        yield f"{name}: {model}", its
    if (more := len(bad) - _MODELS_SHOWN) > 0:
        its = {"breaker": "", "breaker_why": "--json has them all"}
        yield f"{name}: {more} more models", its
