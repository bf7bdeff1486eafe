"""One row of the job table, as a value."""

from __future__ import annotations

import attrs

from duckservice.core.job import Job


@attrs.define(eq=False)
class Row:
    """One job, with what the store alone knows of it."""

    seq: int
    job: Job
    lane: int | None = None
    """Where it waits, while it is available."""
    lease_until: float | None = None
    claims: int = 0
    attempts: int = 0
    """So many records there are."""
    last_delta: int = 0
    has_deltas: int = 0
    """Whether there are any now: 1 or 0."""

    def copy(self) -> Row:
        """Return another that can be changed apart from this one."""
        return Row(
            self.seq,
            self.job,
            self.lane,
            self.lease_until,
            self.claims,
            self.attempts,
            self.last_delta,
            self.has_deltas,
        )
