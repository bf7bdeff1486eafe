"""What `duck doctor` looks at of systemd: whether it runs duckd, and how that went."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from duckservice.cli.doctor.finding import Finding

Ask: TypeAlias = Callable[[Sequence[str]], str]

_ASKED: Final = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "MainPID",
)
_SECONDS: Final = 5.0


def systemd(pid: int | None, *, ask: Ask | None = None) -> Finding:
    """Judge the unit ``duckd.service``, the user's own or the machine's.

    *pid* is the process that answers, if any does.
    """
    if ask is None:
        if not Path("/run/systemd/system").is_dir() or not shutil.which("systemctl"):
            return Finding("systemd", "skipped", "this machine does not run systemd")
        ask = _systemctl
    found = {scope: _unit(ask, scope) for scope in ("--user", "--system")}
    loaded = {s: its for s, its in found.items() if its.get("LoadState") == "loaded"}
    if not loaded:
        return Finding("systemd", "ok", "has no unit duckd.service")
    # The one whose process answers, else the first.
    scope = next(
        (s for s, its in loaded.items() if its.get("MainPID") == str(pid)),
        next(iter(loaded)),
    )
    return of_unit(scope, loaded[scope], pid)


def of_unit(scope: str, its: Mapping[str, str], pid: int | None) -> Finding:
    """Judge what systemd says of a unit."""
    state = its.get("ActiveState", "unknown")
    restarts = its.get("NRestarts", "0")
    told = f"duckd.service ({scope[2:]}) is {state} ({its.get('SubState', '?')})"
    journal = f"journalctl {scope} -u duckd -n 50"
    if state == "failed":
        why = its.get("Result", "unknown")
        return Finding("systemd", "failed", f"{told}: {why}", f"read {journal}")
    if restarts != "0":
        told = f"{told}, and was restarted {restarts} times"
        return Finding("systemd", "warning", told, f"read why: {journal}")
    if state == "active" and pid is not None and its.get("MainPID") != str(pid):
        told = f"{told}, and another process, {pid}, answers here"
        return Finding("systemd", "warning", told, "is $DUCK_SOCKET the one you mean?")
    return Finding("systemd", "ok", told)


def _unit(ask: Ask, scope: str) -> Mapping[str, str]:
    answer = ask(["systemctl", scope, "show", "duckd.service", "-p", ",".join(_ASKED)])
    parted = (line.partition("=") for line in answer.splitlines())
    return {name: value for name, _, value in parted}


def _systemctl(argv: Sequence[str]) -> str:
    try:
        ended = subprocess.run(  # noqa: S603 - systemctl, with words of ours
            argv, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout
