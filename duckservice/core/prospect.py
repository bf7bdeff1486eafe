"""Whether a job may be begun now: room at a provider, or a reason to wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import attrs


@attrs.frozen
class MayRun:
    """Its request would go to this provider, and there is room."""

    provider: str
    room: int
    """So many jobs may be begun there now."""


@attrs.frozen
class MustWait:
    """No job of this kind may be begun now."""

    reason: str
    """The API's word, such as ``rate_limited:openai``."""
    at: float | None
    """When that will be different, on trio's clock, where known."""
    passed_over: bool = False
    """Whether requests would be sent to another provider meanwhile."""


Prospect: TypeAlias = MayRun | MustWait

Tag: TypeAlias = tuple[str, str]


@attrs.frozen(kw_only=True)
class EmptyBudgets:
    """What the budgets hold back now."""

    all_jobs: MustWait | None = None
    tags: Mapping[Tag, MustWait] = attrs.field(factory=dict[Tag, MustWait])
    """Jobs with any of these tags wait."""

    def holds(self, tags: Mapping[str, str]) -> MustWait | None:
        """Return why a job with *tags* must wait, if it must."""
        if self.all_jobs is not None:
            return self.all_jobs
        held = [
            why for (key, value), why in self.tags.items() if tags.get(key) == value
        ]
        return max(held, key=lambda why: why.at or 0.0, default=None)
