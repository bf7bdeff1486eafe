"""Tables that do without whole columns, rather than cut each of them, where it is narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from duckservice.cli.output import table

if TYPE_CHECKING:
    from rich.table import Table

_BETWEEN = 2


def fitted_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    width: int,
    *,
    dispensable: Sequence[str],
    whole: Sequence[str],
    numbers: Sequence[str] = (),
    wraps: str = "",
    folds: str = "",
) -> Table:
    """Return a table of *rows* of cells that is not wider than *width*, if it can be.

    It does without the columns in *dispensable*, in this order, until there is room;
    the column *wraps* needs room for its longest word only. Those in *whole* are not
    cut; where even they have no room together, *folds* takes more lines. Without that,
    only the first is not cut.
    """
    named = [dict(zip(columns, row, strict=True)) for row in rows]
    widths = {
        name: max([len(name), *(_needs(row[name], name == wraps) for row in named)])
        + _BETWEEN
        for name in columns
    }
    for name in dispensable:
        # After the last column there is nothing to be kept apart from.
        if sum(widths.values()) - _BETWEEN > width:
            del widths[name]
    is_too_narrow = sum(widths[name] for name in whole) > width
    if is_too_narrow:
        whole = [name for name in whole if name != folds] if folds else whole[:1]
    result = table(*widths, numbers=numbers, wraps=wraps)
    for column, name in zip(result.columns, widths, strict=True):
        if name in whole:
            column.min_width = widths[name] - _BETWEEN
        if is_too_narrow and name == folds:
            column.no_wrap, column.overflow = False, "fold"
    for each in named:
        result.add_row(*(each[name] for name in widths))
    return result


def _needs(cell: Any, is_wrapped: bool) -> int:
    return max(map(len, str(cell).split()), default=0) if is_wrapped else len(cell)
