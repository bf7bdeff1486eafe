"""The idle connections of a transport: last in, first out, bounded, and none too old."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar, final

C = TypeVar("C")


@final
class IdleConnections(Generic[C]):
    """Keeps what is idle, sans I/O: whatever it returns as given up, close.

    Last in, first out costs the same with a thousand connections as with one,
    and lets those that are too many grow old and go.
    """

    __slots__ = ("_by_origin", "_connections_max", "_expiry", "_size")

    def __init__(self, *, connections_max: int, expiry: float) -> None:
        self._connections_max = connections_max
        self._expiry = expiry
        self._by_origin: dict[Hashable, deque[tuple[float, C]]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, origin: Hashable, connection: C, now: float) -> C | None:
        """Keep *connection*; return the one to close if that makes too many."""
        stack = self._by_origin.setdefault(origin, deque())
        stack.append((now + self._expiry, connection))
        self._size += 1
        if self._size > self._connections_max:
            return self._pop_oldest(stack)
        return None

    def take(self, origin: Hashable) -> C | None:
        """Return the connection to *origin* that was used last, if there is one."""
        stack = self._by_origin.get(origin)
        if not stack:
            return None
        self._size -= 1
        return stack.pop()[1]

    def take_expired(self, now: float) -> list[C]:
        """Return those to close, because they were idle for too long."""
        expired: list[C] = []
        for stack in self._by_origin.values():
            while stack and stack[0][0] <= now:
                expired.append(self._pop_oldest(stack))
        return expired

    def take_all(self) -> list[C]:
        """Return all of them, to close."""
        return self.take_expired(float("inf"))

    def _pop_oldest(self, stack: deque[tuple[float, C]]) -> C:
        self._size -= 1
        return stack.popleft()[1]
