"""Equal requests that are under way become one call, which a task of its own carries.

So it does not matter which of those who wait for it leaves, or is slow to read. It
ends when it is over, or when nobody waits for it any more.

    find, or start -> aboard -> opened -> items, as they come -> the end
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Hashable
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Generic, TypeVar, final

import attrs
import trio

from duckservice.cache.flight import Flight
from duckservice.calls.call import PRIORITIES, Priority
from duckservice.errors import (
    BudgetExceeded,
    Cancelled,
    DeadlineExceeded,
    DuckError,
    InternalError,
    Unavailable,
)

T = TypeVar("T")

FAILURES_MAX: Final = 2
"""Who has waited in vain for so many calls that failed makes no further one."""


@attrs.frozen
class Seat(Generic[T]):
    """A place among those who wait for a call; the first of its reply is here."""

    flight: Flight[T]
    leads: bool
    """Whether it was made for this one: its report and its cost are this one's."""


@final
@attrs.define(eq=False)
class Flights:
    """The calls that are under way, by what is asked for."""

    _by_key: dict[Hashable, Flight[Any]] = attrs.field(
        factory=dict[Hashable, Flight[Any]]
    )
    _nursery: trio.Nursery | None = None

    @property
    def ready(self) -> bool:
        """Whether calls can be started."""
        return self._nursery is not None

    def __len__(self) -> int:
        return len(self._by_key)

    async def run(self) -> None:
        """Carry calls until cancelled; the body of a child of the tree."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                # Before those whose calls end with it look for another.
                self._nursery = None

    @asynccontextmanager
    async def joined(
        self,
        what: tuple[Hashable, ...],
        priority: Priority,
        carry: Callable[[Flight[T]], Awaitable[None]],
    ) -> AsyncGenerator[Seat[T]]:
        """Wait for the first of a reply: of a call under way, or of one of our own.

        Who has only waited makes a call when the other's was in vain. One of all
        who have waited makes it, and the others wait for that one: so there is no
        herd, and with `FAILURES_MAX` no chain of calls that fail.
        """
        failures = 0
        while True:
            flight = self._under_way(what, priority)
            if leads := flight is None:
                flight = await self._start((*what, priority), carry)
            with self._aboard(flight):
                error = await flight.opened()
                if error is None:
                    yield Seat(flight, leads)
                    return
            if leads:
                raise error
            failures += not _is_the_leaders_own(error)
            if not _is_worth_another(error) or failures >= FAILURES_MAX:
                raise for_another(error)

    def _under_way(
        self, what: tuple[Hashable, ...], priority: Priority
    ) -> Flight[Any] | None:
        """Return a call for the same that is at least as urgent."""
        for level in PRIORITIES[: PRIORITIES.index(priority) + 1]:
            flight = self._by_key.get((*what, level))
            if flight is not None:
                return flight
        return None

    async def _start(
        self, key: Hashable, carry: Callable[[Flight[T]], Awaitable[None]]
    ) -> Flight[T]:
        """Have a task of its own *carry* a call; whoever looks for it finds it.

        There is no checkpoint before it is found. While there is no place for such
        a task, whoever asks carries the call alone, and nobody finds it.
        """
        flight = Flight[T](key)
        if self._nursery is None:
            await carry(flight)
            flight.end()
        else:
            self._by_key[key] = flight
            self._nursery.start_soon(self._carry, flight, carry)
        return flight

    @contextmanager
    def _aboard(self, flight: Flight[Any]) -> Generator[None]:
        """Wait for *flight*, for the length of a block; the last to leave ends it."""
        flight.aboard += 1
        try:
            yield
        finally:
            flight.aboard -= 1
            if not flight.aboard and not flight.ended:
                # At once, so that nobody joins a call that is about to be cancelled.
                self._forget(flight)
                flight.scope.cancel(reason="nobody waits for it")

    async def _carry(
        self, flight: Flight[T], carry: Callable[[Flight[T]], Awaitable[None]]
    ) -> None:
        try:
            with flight.scope:
                await carry(flight)
                flight.end()
        # Whatever it is, it belongs to those who wait, and to nobody else's call.
        except Exception as error:  # noqa: BLE001
            flight.end(error)
        finally:
            self._forget(flight)
            flight.end(Unavailable("the call was interrupted by a restart"))

    def _forget(self, flight: Flight[Any]) -> None:
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]


def _is_the_leaders_own(error: Exception) -> bool:
    """Say whether it is the fault of who made the call: its limit, its budget."""
    return isinstance(error, BudgetExceeded | DeadlineExceeded | Cancelled)


def _is_worth_another(error: Exception) -> bool:
    if not isinstance(error, DuckError):
        return False
    return error.retryable or _is_the_leaders_own(error)


def for_another(error: Exception) -> Exception:
    """Return what *error*, of a call, is for those who have only waited for it.

    A copy, as each request writes its own id into its error.
    """
    if not isinstance(error, DuckError):
        # Whoever made the call raises it, and the log has it there.
        return InternalError("an internal error, in a call that others waited for too")
    kind = type(error)
    twin = kind.__new__(kind, *error.args)
    twin.__dict__.update(error.__dict__)
    twin.__cause__ = error
    return twin
