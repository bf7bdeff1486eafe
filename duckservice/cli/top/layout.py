"""A frame of `duck top` as lines of a width and a height; pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import attrs
from rich.text import Text

from duckservice.cli import styles
from duckservice.cli.text import count, elapsed
from duckservice.cli.top.fit import fit
from duckservice.cli.top.frame import Frame
from duckservice.cli.top.grid import Cell, Marks, curve, cut, ends
from duckservice.cli.top.providers import short_money, short_time
from duckservice.cli.top.sections import sections

SILENT_FROM = 2.0
"""Seconds from which on an answer is missed."""
_BLANKS_FROM = 30
"""Lines from which on there is a blank one between the parts."""


@attrs.frozen(kw_only=True)
class View:
    """How a frame is to be shown."""

    width: int
    height: int | None
    """None: as many lines as there are."""
    marks: Marks
    sort: str = "name"
    paused: bool = False
    interval: float = 1.0
    keys: bool = False
    """Whether there is somebody who could press one."""
    silent_s: float = 0.0
    """Seconds since the daemon was asked what it has not answered yet."""


def lines(frame: Frame, view: View) -> list[Text]:
    """Return the lines of *frame*, none longer than the width, no more than the height."""
    top = list(_top(frame, view))
    foot = [_foot(view)] if view.keys else []
    height = view.height
    if height is None:
        return [*top, Text(""), *_rest(frame, view, None), *foot]
    if height >= _BLANKS_FROM:
        top.append(Text(""))
    if height <= len(top) + len(foot):
        return [*top, *foot][:height]
    room = height - len(top) - len(foot)
    rest = _rest(frame, view, room)
    filler = [Text("")] * (room - len(rest)) if foot else []
    return [*top, *rest, *filler, *foot]


def _rest(frame: Frame, view: View, height: int | None) -> list[Text]:
    parts = sections(frame, view.width, view.marks, view.sort)
    return fit(parts, height, view.width, view.marks)


def _top(frame: Frame, view: View) -> Iterator[Text]:
    width, marks = view.width, view.marks
    at = f"{datetime.fromtimestamp(frame.at).astimezone():%H:%M:%S}"
    yield ends(_daemon(frame), Text(at, style="dim"), width, marks)
    if frame.lost:
        yield cut(
            _styled(f"lost, trying again: {frame.lost}", "bold red"), width, marks
        )
    elif view.silent_s >= SILENT_FROM:
        silent = f"no answer for {elapsed(view.silent_s)}: what is shown is from before"
        yield cut(Text(silent, style="bold red"), width, marks)
    yield cut(_rates(frame), width, marks)
    yield cut(_short_money(frame), width, marks)
    yield _throughput(frame, width, marks)


def _daemon(frame: Frame) -> Text:
    its = frame.daemon
    state = "lost" if frame.lost else its.state
    line = Text()
    line.append_text(_styled(f"duckd {its.version}", "bold"))
    line.append("  ").append_text(_styled(state, styles.of(state) or "red"))
    line.append(f"  up {elapsed(its.uptime_s)}")
    if frame.queue.paused:
        line.append("  queue paused", "yellow")
    if its.store:
        text = f"store {its.store}" if its.store_ok else its.store
        line.append("  ").append_text(_styled(text, "" if its.store_ok else "red"))
    return line.append(f"  pid {its.pid}", "dim")


def _rates(frame: Frame) -> Text:
    rates = frame.rates
    line = Text()
    line.append(f"{rates.requests_per_s:,.1f} req/s", "bold")
    line.append(f"  {frame.daemon.in_flight:,} in flight")
    line.append(f"  p50 {short_time(rates.p50_ms)}  p95 {short_time(rates.p95_ms)}")
    bad = rates.failed is not None and rates.failed > 0
    share = "-" if rates.failed is None else f"{rates.failed:.1%}"
    line.append(
        f"  {rates.failures_per_s:,.1f} failed/s ({share})", "red" if bad else ""
    )
    done = f"{count(frame.daemon.requests)} done, {count(frame.daemon.failed)} failed"
    return line.append(f"  {done}", "dim")


def _short_money(frame: Frame) -> Text:
    line = Text(f"{frame.rates.tokens_per_minute:,} tok/min")
    line.append(f"  {short_money(frame.daemon.usd_today)} today", "bold")
    line.append(f"  {short_money(frame.daemon.usd_last_hour)} in the last hour")
    return line.append(f"  {short_money(frame.rates.usd_per_minute)}/min", "dim")


def _throughput(frame: Frame, width: int, marks: Marks) -> Text:
    values = frame.throughput[-max(0, width - 22) :]
    most = max((value for value in values if value is not None), default=0)
    line = Text("req/s ")
    line.append(curve(values, len(values), marks), "cyan")
    return cut(line.append(f" max {most:,}", "dim"), width, marks)


def _styled(text: str, style: str) -> Text:
    return Text(Cell(text).text, style=style)


def _foot(view: View) -> Text:
    state = "paused" if view.paused else f"every {elapsed(view.interval)}"
    left = Text("q quit  p pause  s sort: ", style="dim").append(view.sort, "bold")
    right = Text(state, style="yellow" if view.paused else "dim")
    return ends(left, right, view.width, view.marks)
