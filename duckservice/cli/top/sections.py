"""The parts of `duck top` under its first lines: queue, budgets, jobs and so on; pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from rich.text import Text

from duckservice.cli import styles
from duckservice.cli.event_line import style_of, text_of
from duckservice.cli.text import count, elapsed, money, plural
from duckservice.cli.top.frame import Frame, Wait
from duckservice.cli.top.grid import (
    Cell,
    Column,
    Marks,
    Section,
    bar,
    beside,
    cut,
    grid,
)
from duckservice.cli.top.providers import alarm, providers, short_money

_FEW_BAR: Final = 20
_SIDE_BY_SIDE: Final = 150
"""Columns from which on there is room for two parts beside each other."""
_PASSING: Final = frozenset(
    {"job", "attempts", "duration_ms", "queue_ms", "operation", "priority", "cost_usd"}
    | {"since"}
)
"""What is of one event only, and would push aside what is of note."""


def sections(frame: Frame, width: int, marks: Marks, sort: str) -> list[Section]:
    """Return the parts that have something to show, from top to bottom."""
    its = providers(frame, width, marks, sort)
    notes = _notes(frame, width, marks)
    if width < _SIDE_BY_SIDE:
        parts = [
            _queue(frame, width, marks),
            its,
            _budgets(frame, width, marks),
            _jobs(frame, width, marks),
            _actors(frame, width, marks),
            notes,
        ]
        return [part for part in parts if part is not None]
    half = width // 2 - 2
    pairs = (
        (_queue(frame, half, marks), _budgets(frame, half, marks)),
        (_jobs(frame, half, marks), _actors(frame, half, marks)),
    )
    first, second = (_pair(*pair, half, marks) for pair in pairs)
    parts = [first, its, second, notes]
    return [part for part in parts if part is not None]


def _pair(
    left: Section | None, right: Section | None, width: int, marks: Marks
) -> Section | None:
    if left is None or right is None:
        return left or right
    return beside(left, right, width, marks)


def _queue(frame: Frame, width: int, marks: Marks) -> Section:
    its = frame.queue
    head = Text("QUEUE  ", style="bold")
    depth = ", ".join(f"{count(n)} {level}" for level, n in its.depth.items())
    head.append(f"{count(its.waiting)} waiting", "yellow" if its.waiting else "")
    head.append(f" ({depth})  {count(its.running)} running", "not bold")
    if its.waiting:
        head.append(f"  longest {elapsed(its.oldest_wait_s)}", "not bold")
    rows = [cut(Text(Cell(_wait(wait)).text), width, marks) for wait in frame.waits]
    return Section(head=cut(head, width, marks), rows=tuple(rows), rank=1)


def _wait(its: Wait) -> str:
    verb = "waits" if its.number == 1 else "wait"
    why = _until(its.why, its.seconds)
    return f"  {plural(its.number, its.what)} {verb} for {why}"


def _budgets(frame: Frame, width: int, marks: Marks) -> Section | None:
    columns = (
        Column("BUDGET", grows=True),
        Column("", drop=3),
        Column("USED", right=True),
        Column("SPENT", right=True, drop=1),
        Column("LIMIT", right=True),
        Column("PER", drop=2),
        Column("RENEWS IN", right=True),
    )
    rows = [
        (
            Cell(its.name),
            Cell(bar(its.used / 100, _FEW_BAR, marks), alarm(its.used)),
            Cell(f"{its.used}%", alarm(its.used)),
            Cell(short_money(its.usd_gone)),
            Cell(money(its.usd_limit)),
            Cell(its.window),
            Cell("never" if its.seconds is None else elapsed(its.seconds)),
        )
        for its in sorted(frame.budgets, key=lambda its: -its.used)
    ]
    if not rows:
        return None
    head, lines = grid(columns, rows, width, marks)
    return Section(head=head, rows=lines, rank=4)


def _jobs(frame: Frame, width: int, marks: Marks) -> Section | None:
    columns = (
        Column("JOB"),
        Column("STATE"),
        Column("PRIORITY", drop=3),
        Column("MODEL", drop=2, grows=True),
        Column("AGE", right=True),
        Column("TRY", right=True, drop=4),
        Column("WAITS FOR", drop=1, grows=True),
    )
    rows = [
        (
            Cell(its.id),
            Cell(its.state, styles.of(its.state)),
            Cell(its.priority),
            Cell(its.model),
            Cell(elapsed(its.age_s)),
            Cell(count(its.attempt)),
            Cell(_until(its.waits_for, its.seconds)),
        )
        for its in frame.jobs
    ]
    if not frame.job_counts:
        return None
    counts = ", ".join(f"{count(n)} {state}" for state, n in frame.job_counts.items())
    if not rows:
        head = cut(
            Text("JOBS  ", style="bold").append(counts, "not bold"), width, marks
        )
        return Section(head=head, rows=(), rank=5)
    head, lines = grid(columns, rows, width, marks)
    return Section(head=head, rows=lines, rank=3)


def _until(text: str, seconds: float | None) -> str:
    return text if seconds is None else f"{text}, {elapsed(seconds)}"


def _actors(frame: Frame, width: int, marks: Marks) -> Section | None:
    if not frame.actors:
        return None
    columns = (
        Column("ACTOR", grows=True),
        Column("STATE"),
        Column("RESTARTS", right=True),
        Column("INBOX", right=True),
        Column("LAST CRASH", drop=1, grows=True),
    )
    rows = [
        (
            Cell(its.path),
            Cell(its.state, styles.of(its.state)),
            Cell(count(its.restarts), "yellow" if its.restarts else "dim"),
            Cell(count(its.inbox), "yellow" if its.inbox else "dim"),
            Cell(its.last_crash, "dim"),
        )
        for its in frame.actors
    ]
    head, lines = grid(columns, rows, width, marks)
    return Section(head=head, rows=lines, rank=5)


def _notes(frame: Frame, width: int, marks: Marks) -> Section | None:
    if not frame.notes:
        return None
    return Section(
        head=cut(Text("EVENTS", style="bold"), width, marks),
        rows=tuple(_note_lines(frame, width, marks)),
        rank=2,
        share=2,
    )


def _note_lines(frame: Frame, width: int, marks: Marks) -> Iterator[Text]:
    most = max(len(count(note.times)) for note in frame.notes)
    for note in frame.notes:
        its = note.event
        at = datetime.fromtimestamp(its["at"]).astimezone()
        times = f"{count(note.times)}x" if note.times > 1 else ""
        line = Text(f"{at:%H:%M:%S} {times:>{most + 1}} ", style="dim")
        without = _PASSING if its["type"] != "job" else _PASSING - {"job"}
        what = f"{its['type']}  {text_of(its, without)}"
        line.append(Cell(what).text, f"not dim {style_of(its)}")
        yield cut(line, width, marks)
