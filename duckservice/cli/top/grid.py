"""Lines of text in columns, cut to a width: the building blocks of `duck top`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import attrs
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from duckservice.terminal import escape_controls

_GAP = 2
_APART = 4
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-:=+*#"


@attrs.frozen
class Cell:
    """A text of others, made harmless, and rich's style for it."""

    text: str = attrs.field(converter=escape_controls)
    style: str = ""


@attrs.frozen
class Column:
    """A column; of several, the one with the highest *drop* is done without first."""

    title: str
    drop: int = 0
    """0: it stays."""
    right: bool = False
    grows: bool = False
    """Whether it is the one that is cut where there is no room."""


@attrs.frozen(kw_only=True)
class Section:
    """A heading and the lines under it."""

    head: Text
    rows: tuple[Text, ...]
    rank: int = 0
    """Which section gets lines first where there are few, the lowest first."""
    share: int = 1
    """So many lines it gets in its turn."""


@attrs.frozen
class Marks:
    """What bars and curves are drawn with."""

    full: str
    empty: str
    levels: str
    cut: str


UNICODE = Marks("█", "░", _BLOCKS, "…")
ASCII = Marks("#", ".", _ASCII_BLOCKS, "~")


def cut(text: Text, width: int, marks: Marks) -> Text:
    """Return *text*, cut so that it fills *width* columns at most."""
    if text.cell_len <= width:
        return text
    if width < 1:
        return Text("")
    shorter = text.copy()
    shorter.right_crop(1)
    while shorter.cell_len > width - 1:
        shorter.right_crop(max(1, (shorter.cell_len - width + 1) // 2))
    return shorter.append(marks.cut)


def ends(left: Text, right: Text, width: int, marks: Marks) -> Text:
    """Return a line with something at both ends; the left one is cut for the right."""
    room = width - right.cell_len - 1
    if room < width // 2:
        return cut(left, width, marks)
    line = cut(left, room, marks)
    line.append(" " * (width - line.cell_len - right.cell_len))
    return line.append_text(right)


def grid(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int, marks: Marks
) -> tuple[Text, tuple[Text, ...]]:
    """Return the heading and a line for each row, none wider than *width*."""
    widths = _widths(columns, rows, width)
    heads = [Cell(column.title, "bold") for column in columns]
    head, *lines = [_line(columns, widths, row, width, marks) for row in [heads, *rows]]
    return head, tuple(lines)


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int
) -> dict[int, int]:
    """Return the width of each column that there is room for."""
    widths = {
        at: max(cell_len(text) for text in (its.title, *(row[at].text for row in rows)))
        for at, its in enumerate(columns)
    }
    by_drop = sorted(range(len(columns)), key=lambda at: -columns[at].drop)
    for at in by_drop:
        if _total(widths) <= width or not columns[at].drop:
            break
        del widths[at]
    if (over := _total(widths) - width) > 0:
        for at, its in enumerate(columns):
            if its.grows and at in widths:
                # Something of it must be left, else the line itself is cut.
                widths[at] = max(4, widths[at] - over)
                break
    return widths


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _line(
    columns: Sequence[Column],
    widths: dict[int, int],
    row: Sequence[Cell],
    width: int,
    marks: Marks,
) -> Text:
    line = Text()
    for at, room in widths.items():
        if line:
            line.append(" " * _GAP)
        text = cut(Text(row[at].text, style=row[at].style), room, marks)
        pad = " " * (room - text.cell_len)
        line.append(pad if columns[at].right else "")
        line.append_text(text)
        line.append("" if columns[at].right else pad)
    line.rstrip()
    return cut(line, width, marks)


def bar(share: float, width: int, marks: Marks) -> str:
    """Return a bar of *width* columns, filled as far as *share* says."""
    full = min(width, max(0, int(share * width)))
    return marks.full * full + marks.empty * (width - full)


def curve(values: Sequence[int | None], width: int, marks: Marks) -> str:
    """Return the last *width* values as a row of marks; None is a blank."""
    last = values[-width:] if width > 0 else ()
    top = max((value for value in last if value is not None), default=0)
    drawn = "".join(" " if v is None else _level(v, top, marks) for v in last)
    return set_cell_size(drawn, max(0, width)) if len(drawn) > width else drawn


def _level(value: int, top: int, marks: Marks) -> str:
    if not value:
        return marks.levels[0]
    # What is not nothing is never drawn as nothing.
    steps = len(marks.levels) - 1
    return marks.levels[max(1, round(value * steps / top))]


def beside(left: Section, right: Section, width: int, marks: Marks) -> Section:
    """Return two sections as one; the left one is *width* wide."""
    pairs = zip_longest(left.rows, right.rows, fillvalue=Text(""))
    return Section(
        head=_joined(left.head, right.head, width, marks),
        rows=tuple(_joined(one, other, width, marks) for one, other in pairs),
        rank=min(left.rank, right.rank),
        share=max(left.share, right.share),
    )


def _joined(left: Text, right: Text, width: int, marks: Marks) -> Text:
    line = cut(left, width, marks).copy()
    line.append(" " * (width - line.cell_len + _APART) if right else "")
    return line.append_text(right)
