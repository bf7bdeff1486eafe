"""What a store says when it cannot do what it is asked."""

from __future__ import annotations

from duckservice.errors import Conflict, Unavailable


class StoreUnavailable(Unavailable):
    """The store cannot do its work; nothing was changed, or nobody can tell."""

    def __init__(self, message: str, *, may_recover: bool) -> None:
        super().__init__(message, retryable=may_recover)
        self.may_recover = may_recover
        """Whether a later write may succeed (a full disk), or none will without
        somebody's help (a damaged file)."""


class StaleLease(Conflict):
    """The job is not in the hands of who holds this lease any more."""
