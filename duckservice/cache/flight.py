"""One call that several wait for: what has come of it so far, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Self, TypeVar, final

import attrs
import trio

from duckservice.calls.call import CallReport

T = TypeVar("T")


@final
@attrs.define(eq=False)
class Flight(Generic[T]):
    """One call: what has come of it so far, for as many as want to read it."""

    key: Hashable
    report: CallReport | None = None
    """Known from the moment when the first of the reply is here."""
    items: list[T] = attrs.field(factory=list[T])
    error: Exception | None = None
    ended: bool = False
    aboard: int = 0
    """So many wait for it."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def open(self, report: CallReport) -> None:
        """Tell those who wait that there is a reply."""
        self.report = report
        self._changed.unpark_all()

    def add(self, item: T) -> None:
        """Give them the next of it."""
        self.items.append(item)
        self._changed.unpark_all()

    def end(self, error: Exception | None = None) -> None:
        """Say that nothing more comes; a second time, nothing happens."""
        if not self.ended:
            self.ended, self.error = True, error
            self._changed.unpark_all()

    async def opened(self) -> Exception | None:
        """Wait for the first of the reply; return the error if there is none."""
        while self.report is None and not self.ended:
            await self._changed.park()
        return self.error if self.report is None else None

    async def item(self, number: int) -> T | None:
        """Return that item when it is here, None if there are no more."""
        while number >= len(self.items) and not self.ended:
            await self._changed.park()
        return self.items[number] if number < len(self.items) else None


@final
@attrs.define(eq=False)
class Reader(Generic[T]):
    """The items of a flight, from the first on, for one of those who wait for it."""

    _flight: Flight[T]
    _fail: Callable[[Exception], Exception]
    """What becomes of the error that ends the flight, for this reader."""
    _next: int = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self._flight.item(self._next)
        if item is not None:
            self._next += 1
            return item
        error = self._flight.error
        if error is not None:
            raise self._fail(error)
        raise StopAsyncIteration
