"""The part of the Store protocol that concerns the store as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

from duckservice.store.commits import Commits


@attrs.frozen(kw_only=True)
class Retention:
    """How long things are kept, in seconds; what is not over is always kept.

    A job with an idempotency key is kept for `KEY_KEPT` in any case.
    """

    completed: float = 7 * 86400.0
    discarded: float = 30 * 86400.0
    cancelled: float = 7 * 86400.0
    expired: float = 7 * 86400.0
    deltas: float = 86400.0
    """Of the streams of jobs that are over."""
    ledger: float = 400 * 86400.0


KEY_KEPT = 7 * 86400.0
"""An idempotency key is remembered for at least so long (seconds)."""


@attrs.frozen(kw_only=True)
class Pruned:
    """What was deleted."""

    jobs: int = 0
    streams: int = 0
    """Of jobs that are kept."""
    entries: int = 0
    files: int = 0
    more: bool = False
    """Whether the limit has left something over."""


@attrs.frozen(kw_only=True)
class StoreStatistics:
    """How full the store is."""

    jobs: int
    unfinished: int
    bytes: int | None
    """On disk; None where nothing is."""
    used: int | None = None
    """Of those, the ones that hold something: what was deleted leaves room for others,
    and makes no file smaller."""
    free: int | None = None
    """Bytes that are left on the disk."""
    path: str | None = None
    """The file that all is in."""
    commits: Commits | None = None
    """Since it was opened; None where nothing is on a disk."""


@attrs.frozen(kw_only=True)
class Health:
    """Whether the store can do its work."""

    ok: bool
    detail: str
    """In words for whoever runs the daemon."""
    may_recover: bool = True
    """Where it cannot: whether it may by itself, once the disk is."""


class Upkeep(Protocol):
    """What concerns the store as a whole."""

    async def set_flag(self, name: str, value: str | None) -> None:
        """Keep a small word under a name, such as ``paused``; None: forget it.

        It is news for `wait_for_work`.
        """
        ...

    async def flags(self) -> Mapping[str, str]:
        """Return all flags that are set."""
        ...

    async def prune(
        self, retention: Retention, now: float, *, limit: int = 1000
    ) -> Pruned:
        """Delete what is old: at most *limit* of each kind, so that nobody waits long.

        Attempts, results and streams go with their jobs; ledger entries do not.
        """
        ...

    async def statistics(self) -> StoreStatistics:
        """Return how full the store is."""
        ...

    async def check(self) -> Health:
        """Try out whether the store can write and read; never raises for its state."""
        ...

    async def aclose(self) -> None:
        """Close the store; whoever waits in it gets `StoreUnavailable`."""
        ...
