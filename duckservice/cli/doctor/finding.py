"""What one look of `duck doctor` has shown."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Verdict: TypeAlias = Literal["ok", "warning", "failed", "skipped"]


class Finding(NamedTuple):
    """What one look has shown."""

    subject: str
    """What was looked at."""
    verdict: Verdict
    detail: str
    """What was found."""
    advice: str = ""
    """What to do; empty where nothing is to be done."""
