"""`duck show`: one job, why it waits, and what was done for it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from duckservice.cli import styles
from duckservice.cli.exits import OK
from duckservice.cli.job_calls import Job, get, target
from duckservice.cli.jobs import waits_for
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session
from duckservice.cli.text import count, elapsed, money

if TYPE_CHECKING:
    from rich.table import Table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the job."""
    parser.add_argument("job", metavar="JOB")


def run(session: Session) -> int:
    """Print the job and its attempts."""
    job = get(session, session.options.job)
    attempts = session.get(target(job["id"], "/attempts"))["attempts"]
    if session.options.json:
        session.out.json(job | {"attempts": attempts})
        return OK
    pictures: list[Any] = [_summary(job)]
    if attempts:
        pictures += ["", _attempts(attempts)]
    if any(its.get("why") for its in attempts):
        pictures += ["", _reasons(attempts)]
    if job["errors"]:
        pictures += ["", _errors(job)]
    session.out.show(*pictures)
    return OK


def _summary(job: Job) -> Table:
    summary = table("", "", wraps="")
    summary.show_header = False
    for name, text in _lines(job, time.time()):
        style = styles.of(job["state"]) if name == "state" else ""
        summary.add_row(cell(name, "bold"), cell(text, style))
    return summary


def _lines(job: Job, now: float) -> Iterator[tuple[str, str]]:
    yield "job", job["id"]
    yield "state", job["state"]
    if job["wait_reason"]:
        yield "waits for", waits_for(job, now)
    served = job["served_model"]
    model = job["model"]
    yield "model", f"{model} ({served})" if served not in {None, model} else model
    if job["provider"]:
        yield "provider", job["provider"]
    yield "priority", job["priority"]
    yield "attempts", f"{job['attempt']} of {job['max_attempts']}"
    if job["tags"]:
        yield "tags", ", ".join(f"{key}={tag}" for key, tag in job["tags"].items())
    if job["batch"]:
        yield "batch", f"{job['batch']}, line {job['line']}"
    for name in ("created_at", "not_before", "deadline", "started_at", "finished_at"):
        if job[name] is not None:
            yield name.removesuffix("_at").replace("_", " "), _moment(job[name], now)
    if usage := job["usage"]:
        tokens = (usage["prompt_tokens"], usage.get("completion_tokens", 0))
        yield "tokens", f"{count(tokens[0])} in, {count(tokens[1])} out"
    yield "cost", _cost(job)
    if job["maybe_billed"]:
        yield "note", "a request was broken off; its provider may have billed it"
    if job["poisoned"]:
        yield "note", "it took its processor down, and is not run again"


def _moment(moment: float, now: float) -> str:
    local = datetime.fromtimestamp(moment).astimezone()
    away = (
        f"in {elapsed(moment - now)}"
        if moment > now
        else f"{elapsed(now - moment)} ago"
    )
    return f"{local:%Y-%m-%d %H:%M:%S %z} ({away})"


def _cost(job: Job) -> str:
    guess = "about " if job["cost_estimated"] else "up to "
    about = guess if job["maybe_billed"] else ""
    about = about if job["cost_known"] else "at least "
    limit = job["max_cost_usd"]
    up_to = "" if limit is None else f", of at most {money(limit)}"
    return f"{about}{money(job['cost_usd'])}{up_to}"


def _attempts(attempts: list[dict[str, Any]]) -> Table:
    result = table(
        *("ATTEMPT", "PROVIDER", "MODEL", "OUTCOME", "TOOK", "COST"),
        numbers=("ATTEMPT", "TOOK", "COST"),
    )
    for its in attempts:
        ended = its["ended_at"]
        result.add_row(
            cell(its["number"]),
            cell(its["provider"]),
            cell(its["model"]),
            cell(its["outcome"] or its["state"]),
            cell("-" if ended is None else elapsed(ended - its["began_at"])),
            cell(_cost_of(its)),
        )
    return result


def _reasons(attempts: list[dict[str, Any]]) -> Table:
    """Return why each attempt went where it did; apart, for it may be long."""
    result = table(
        *("ATTEMPT", "WHY THIS PROVIDER"),
        numbers=("ATTEMPT",),
        wraps="WHY THIS PROVIDER",
    )
    for its in attempts:
        if its.get("why"):
            result.add_row(cell(its["number"]), cell(its["why"]))
    return result


def _cost_of(attempt: dict[str, Any]) -> str:
    if attempt["state"] == "lost":
        # Nobody knows; the job's cost has all that was reserved for it.
        return f"up to {money(attempt['reserved_usd'])}"
    cost = attempt["cost_usd"]
    return "-" if cost is None else money(cost)


def _errors(job: Job) -> Table:
    result = table("ATTEMPT", "CODE", "ERROR", numbers=("ATTEMPT",), wraps="ERROR")
    for error in job["errors"]:
        result.add_row(
            cell(error["attempt"]), cell(error["code"]), cell(error["message"])
        )
    return result
