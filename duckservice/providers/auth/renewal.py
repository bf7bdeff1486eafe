"""What expires, kept and renewed in time, and fetched by one for all who wait.

    fresh      it is used
    ageing     one renews it, the others go on with the old one
    expired    one fetches a new one, the others wait for it

A failure is that of all who waited for the fetch. A renewal that fails while the old
one still holds is nobody's failure, and is tried again later.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar, final

import trio

from duckservice.errors import DuckError

T = TypeVar("T")

RETRY: Final = 10.0
"""Seconds between two tries to renew what still holds."""
REFUSAL_HOLDS: Final = 5.0
"""Seconds for which a refusal that waiting does not cure is not asked for again."""


@final
class Renewal(Generic[T]):
    """Decides when something is fetched, and by whom. Who asks keeps it.

    *fresh* returns what needs no renewal, *valid* what still holds, each None
    without it. *fetch* gets, keeps and returns a new one, or raises `DuckError`.
    """

    def __init__(
        self,
        *,
        fresh: Callable[[], T | None],
        valid: Callable[[], T | None],
        fetch: Callable[[], Awaitable[T]],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._fresh = fresh
        self._valid = valid
        self._fetch = fetch
        self._clock = clock
        self._lock = trio.Lock()
        self._fetches = 0
        """How many have come to an end."""
        self._failure: DuckError | None = None
        """That of the last fetch."""
        self._not_before = -math.inf
        """When to ask again."""

    async def get(self) -> T:
        """Return what holds; it may wait for it. Raises what the fetch raises."""
        if (its := self._fresh()) is not None:
            return its
        busy = self._lock.locked() or self._clock() < self._not_before
        if busy and (its := self._valid()) is not None:
            return its
        before = self._fetches
        async with self._lock:
            if self._fetches != before or self._clock() < self._not_before:
                if (its := self._valid()) is not None:
                    return its
                if self._failure is not None:
                    # One error in many tasks would collect all their tracebacks.
                    raise copy.copy(self._failure)
            return await self._fetched()

    async def _fetched(self) -> T:
        try:
            new = await self._fetch()
        except DuckError as error:
            now = self._clock()
            self._fetches += 1
            self._failure = error
            if (its := self._valid()) is not None:
                self._not_before = now + RETRY
                return its
            self._not_before = now if error.retryable else now + REFUSAL_HOLDS
            raise
        self._fetches += 1
        self._failure = None
        # What is to be renewed as soon as it comes was not renewed.
        late = self._fresh() is None
        self._not_before = self._clock() + RETRY if late else -math.inf
        return new
