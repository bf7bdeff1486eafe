"""What one look of `duck doctor` has shown."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Verdict: TypeAlias = Literal["ok", "warning", "failed"]


class Finding(NamedTuple):
    """What one look has shown."""

    subject: str
    verdict: Verdict
    detail: str
