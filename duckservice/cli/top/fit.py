"""Which lines of which sections there is room for in `duck top`; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from duckservice.cli.top.grid import Marks, Section, ends

_ROOMY: Final = 6
"""With so many lines for each section there is a blank one between them."""


def fit(
    sections: Sequence[Section], height: int | None, width: int, marks: Marks
) -> list[Text]:
    """Return the lines of *sections*, no more than *height*; None: all of them.

    They take turns in getting lines until there are no more. One that would have
    a heading and nothing else is left out; one that is cut says by how much.
    """
    blanks = max(0, len(sections) - 1)
    if height is None:
        shown = {at: len(its.rows) for at, its in enumerate(sections)}
    elif height >= _ROOMY * len(sections):
        shown = _shares(sections, height - blanks)
    else:
        shown, blanks = _shares(sections, height), 0
    lines: list[Text] = []
    for at, number in shown.items():
        if lines and blanks:
            lines.append(Text(""))
        lines += _of(sections[at], number, width, marks)
    return lines


def _of(section: Section, number: int, width: int, marks: Marks) -> list[Text]:
    head, rest = section.head, len(section.rows) - number
    if rest > 0:
        head = ends(head, Text(f"+{rest}", style="dim"), width, marks)
    return [head, *section.rows[:number]]


def _shares(sections: Sequence[Section], height: int) -> dict[int, int]:
    """Return how many rows each section has, by its place, from top to bottom."""
    ranked = sorted(range(len(sections)), key=lambda at: sections[at].rank)
    shown: dict[int, int] = {}
    left = height
    for at in ranked:
        first = min(1, len(sections[at].rows))
        if left >= 1 + first:
            shown[at] = first
            left -= 1 + first
    while left > 0 and (
        wanting := [at for at in shown if _wants(sections[at], shown[at])]
    ):
        for at in wanting:
            more = min(_wants(sections[at], shown[at]), sections[at].share, left)
            shown[at] += more
            left -= more
    return dict(sorted(shown.items()))


def _wants(section: Section, number: int) -> int:
    return len(section.rows) - number
