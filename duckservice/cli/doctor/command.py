"""`duck doctor`: what was looked at, what was found, and what to do about it.

Nothing is changed, nothing is sent to a provider, and no key is shown. Without a
daemon, what it would find here is looked at; with one, it is asked as well.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

from duckservice.cli import styles
from duckservice.cli.doctor.finding import Finding
from duckservice.cli.exits import FAILED, NO_DAEMON, OK
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session
from duckservice.cli.text import plural


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is looked at only when asked for."""
    parser.add_argument(
        "--deep",
        action="store_true",
        help="read all of the store, if no daemon has it (slow where it is large)",
    )
    parser.add_argument(
        "--network",
        action="store_true",
        help="look up each provider's host and connect to it; no request is sent",
    )


def run(session: Session) -> int:
    """Print what was found; the exit code says whether anything failed."""
    # Here, since every other command starts without it.
    from duckservice.cli.doctor.looks import findings as look

    findings = list(look(session))
    if session.options.json:
        session.out.json([finding._asdict() for finding in findings])
    else:
        _show(session, findings)
    failed = {f.subject for f in findings if f.verdict == "failed"}
    if failed == {"daemon"}:
        return NO_DAEMON
    return FAILED if failed else OK


def _show(session: Session, findings: Sequence[Finding]) -> None:
    picture = table("SUBJECT", "VERDICT", "DETAIL", wraps="DETAIL")
    picture.show_header = False
    for subject, verdict, detail, advice in findings:
        said = cell(detail)
        if advice:
            said.append("\n-> ").append(cell(advice))
        picture.add_row(cell(subject, "bold"), cell(verdict, styles.of(verdict)), said)
    session.out.show(picture)
    session.out.data("")
    session.out.data(_summary(findings))


def _summary(findings: Sequence[Finding]) -> str:
    counted = Counter(finding.verdict for finding in findings)
    told = [
        f"{counted['ok']} ok",
        plural(counted["warning"], "warning"),
        f"{counted['failed']} failed",
    ]
    if counted["skipped"]:
        told.append(f"{counted['skipped']} skipped")
    return ", ".join(told)
