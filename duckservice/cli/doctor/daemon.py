"""What `duck doctor` asks a running daemon: is it well, and what does it wait for?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from duckservice.cli.doctor import parts as doctor_parts
from duckservice.cli.doctor.finding import Finding
from duckservice.cli.exits import NO_DAEMON, NOT_PERMITTED, TRY_AGAIN, Exit
from duckservice.cli.session import Session
from duckservice.cli.text import elapsed


@attrs.frozen(kw_only=True)
class Asked:
    """What a daemon has said of itself; or why none has."""

    daemon: Finding
    answers: bool = False
    """Somebody serves the socket, be it well or not."""
    status: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


def ask(session: Session) -> Asked:
    """Ask whether a daemon answers, of which version, and how it is."""
    from importlib.metadata import version

    try:
        running = str(session.get("/v1/version")["version"])
        status: Mapping[str, Any] = session.get("/v1/status")
    except Exit as end:
        told, _, advice = end.message.partition("\n")
        finding = Finding(
            "daemon", "failed", told, advice or _ADVICE.get(end.status, "")
        )
        return Asked(daemon=finding, answers=end.status != NO_DAEMON)
    except (KeyError, TypeError):
        detail = "what answers at the socket is not duckd"
        return Asked(
            daemon=Finding("daemon", "failed", detail, "who made it? see `ss -xlp`"),
            answers=True,
        )
    ours = version("duckservice")
    told = f"process {status.get('pid')}, version {running}"
    if running != ours:
        finding = Finding(
            "daemon",
            "warning",
            f"answers, and runs {running}; this is {ours}",
            "restart duckd, or use the duck that was installed with it",
        )
    else:
        up = elapsed(status.get("uptime_s", 0.0))
        finding = Finding("daemon", "ok", f"answers: {told}, up {up}")
    return Asked(daemon=finding, answers=True, status=status)


_ADVICE: Final = {
    NO_DAEMON: "start one with: duckd",
    TRY_AGAIN: "it may hang, or be stopped: kill -USR1 it, and its log shows what all"
    " tasks do; if it stays so, kill it and start it anew",
    NOT_PERMITTED: "ask who runs duckd to let you in (service.access)",
}


def findings(session: Session, asked: Asked) -> Iterator[Finding]:
    """Judge what the daemon says of itself, as far as this user may know."""
    yield asked.daemon
    if not asked.status:
        return
    yield _ready(session)
    yield _state(asked.status)
    try:
        tree = session.get("/v1/tree")
    except Exit as end:
        if end.status == NOT_PERMITTED:
            detail = "submitter: may make requests, and see its own jobs; the rest of"
            yield Finding("role", "skipped", f"{detail} what is asked is for admins")
            return
        tree = None
    yield Finding("role", "ok", "admin: may do everything")
    if tree is not None:
        yield doctor_parts.of_tree(tree)
    for subject, target, judge in _QUESTIONS:
        yield from _answered(session, subject, target, judge)
    yield doctor_parts.of_last_hour(session)


def _answered(
    session: Session,
    subject: str,
    target: str,
    judge: Callable[[Any], Iterator[Finding]],
) -> Iterator[Finding]:
    try:
        answer = session.get(target)
    except Exit as end:
        yield Finding(subject, "skipped", f"the daemon does not say: {end.message}")
        return
    yield from judge(answer)


_QUESTIONS: Final = (
    ("providers", "/v1/providers", doctor_parts.of_providers),
    ("budgets", "/v1/budgets", doctor_parts.of_budgets),
)


def _ready(session: Session) -> Finding:
    try:
        session.get("/readyz")
    except Exit as end:
        if end.status != TRY_AGAIN:
            return Finding(
                "ready", "skipped", f"the daemon does not say: {end.message}"
            )
        advice = "`duck tree` shows which part does not answer, and the log says why"
        return Finding("ready", "failed", end.message, advice)
    return Finding("ready", "ok", "all parts answer, and the store accepts")


def _state(status: Mapping[str, Any]) -> Finding:
    state = str(status.get("state", "unknown"))
    if state != "running":
        detail = f"it is {state}, and takes nothing new"
        return Finding("state of service", "warning", detail, "start duckd again")
    queue: Mapping[str, Any] = status.get("queue", {})
    told = f"{queue.get('waiting', 0)} wait, {queue.get('running', 0)} run"
    if queue.get("paused"):
        detail = f"{told}; the queue is paused"
        return Finding("state of service", "warning", detail, "duck queue resume")
    return Finding("state of service", "ok", told)
