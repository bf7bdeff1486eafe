"""`duck jobs` (`duck ls`): the jobs, the newest first."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from duckservice.cli import styles
from duckservice.cli.exits import OK
from duckservice.cli.job_calls import Job
from duckservice.cli.narrow import fitted_table
from duckservice.cli.output import cell
from duckservice.cli.session import Session
from duckservice.cli.text import elapsed, money

if TYPE_CHECKING:
    from rich.table import Table

_STATES = (
    "suspended",
    "scheduled",
    "available",
    "executing",
    "retryable",
    "completed",
    "discarded",
    "cancelled",
    "expired",
)

_COLUMNS: tuple[str, ...] = (
    "JOB",
    "STATE",
    "PRIORITY",
    "MODEL",
    "AGE",
    "ATTEMPT",
    "COST",
    "WAITS FOR",
)
_DISPENSABLE = ("PRIORITY", "ATTEMPT", "MODEL")
"""What a narrow terminal does without, in this order; `duck show` has it all."""
_NARROW = 70
_NARROWER = ("COST", "WAITS FOR")
"""With fewer columns than that, there is no room for these either."""
_WHOLE = ("JOB", "STATE", "AGE", "COST")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the filters, and `ls`, which many type behind `duck jobs`."""
    add = parser.add_argument
    add("ls", nargs="?", choices=("ls",), help=argparse.SUPPRESS)
    add("--state", action="append", choices=_STATES, help="may be given several times")
    add("-m", "--model")
    add("-t", "--tag", action="append", metavar="KEY=VALUE", help="all of them")
    add("--batch", metavar="ID")
    add("--since", metavar="WHEN", help="24h, a date, or seconds since the epoch")
    add("-n", "--limit", type=int, default=50, help="so many at most (default: 50)")
    add("--cursor", help="where the list goes on, as the last page has said")


def run(session: Session) -> int:
    """Print a page of jobs."""
    options = session.options
    query: dict[str, Any] = {
        "state": options.state,
        "model": options.model,
        "tag": options.tag,
        "batch": options.batch,
        "since": options.since,
        "limit": options.limit,
        "cursor": options.cursor,
    }
    given = {name: value for name, value in query.items() if value is not None}
    page = session.get(f"/v1/jobs?{urlencode(given, doseq=True)}")
    if options.json:
        session.out.json(page)
        return OK
    if page["jobs"]:
        session.out.show(_table(page["jobs"], session.out.console().width))
    else:
        session.out.note("there is no such job" if len(given) > 1 else "no jobs yet")
    if page["cursor"]:
        session.out.note(f"there are more: --cursor {page['cursor']}")
    return OK


def _table(jobs: list[Job], width: int) -> Table:
    now = time.time()
    # Half an id is good for nothing.
    return fitted_table(
        _COLUMNS,
        [_row(job, now) for job in jobs],
        width,
        dispensable=(*_DISPENSABLE, *(_NARROWER if width < _NARROW else ())),
        whole=[name for name in _WHOLE if width >= _NARROW or name not in _NARROWER],
        numbers=("AGE", "ATTEMPT", "COST"),
    )


def _row(job: Job, now: float) -> list[Any]:
    state = job["state"]
    return [
        cell(job["id"]),
        cell(state, styles.of(state)),
        cell(job["priority"]),
        cell(job["model"]),
        cell(elapsed(max(0.0, now - job["created_at"]))),
        cell(f"{job['attempt']}/{job['max_attempts']}"),
        cell(money(job["cost_usd"])),
        cell(waits_for(job, now)),
    ]


def waits_for(job: Job, now: float) -> str:
    """Return what a job waits for, and how long still where that is known."""
    reason = job["wait_reason"]
    if reason is None:
        return ""
    until = job["wait_until"]
    return f"{reason}, {elapsed(until - now)}" if until and until > now else reason
