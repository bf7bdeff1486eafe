"""How much the store may hold: what is too large, or too much, is never stored.

The room is measured every few seconds; what is taken in between is counted as it
comes, so that no burst of submissions gets past the limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import attrs

from duckservice.config import StoreConfig
from duckservice.core.job import Submission
from duckservice.errors import RequestTooLarge, Unavailable

RETRY_AFTER = 5.0
"""Seconds after which there may be room again: so often it is measured."""


@final
@attrs.define(eq=False)
class StoreRoom:
    """The limits of the store, and how much of it is used."""

    limits: StoreConfig = attrs.field(factory=StoreConfig)
    used: int | None = None
    """Bytes, the last time that it was measured; None: nothing is on a disk."""
    _taken: int = 0
    """Bytes of requests that were let in since."""

    @property
    def full(self) -> bool:
        """Whether new jobs are refused."""
        return (
            self.used is not None and self.used + self._taken >= self.limits.max_bytes
        )

    def measured(self, used: int | None) -> None:
        """Take note of how much is used."""
        self.used, self._taken = used, 0

    def check(self, submission: Submission) -> None:
        """Refuse one that is too large by itself.

        Raises:
            RequestTooLarge: the message names the limit.
        """
        self.check_size(len(submission.request))

    def check_size(self, size: int) -> None:
        """Refuse a request of so many bytes if no job may have one.

        Raises:
            RequestTooLarge: the message names the limit.
        """
        most = self.limits.max_request
        if size > most:
            msg = (
                f"the request has {size} bytes, and a job's may have {most} at most"
                " (store.max_request)"
            )
            raise RequestTooLarge(msg, param="request")

    def take(self, submissions: Iterable[Submission]) -> None:
        """Let some in.

        Raises:
            Unavailable: there is no room for more.
        """
        if self.full:
            msg = (
                f"the store is full: it holds {self.limits.max_bytes} bytes or more,"
                " which is its limit (store.max_bytes); jobs that are over leave it"
                " by store.retention"
            )
            raise Unavailable(msg, retry_after=RETRY_AFTER, retryable=True)
        self._taken += sum(len(each.request) for each in submissions)
