"""A cache of bounded size and age: what was used longest ago leaves first; pure.

An entry leaves for one of three reasons: its time is up, another is put in its place,
or there is no room. Whoever calls says what time it is, on a clock of its own.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Generic, TypeVar, final

import attrs
from attrs.validators import ge, gt

V = TypeVar("V")

_SLACK = 64
"""So many notes of entries that are gone already are no reason to tidy up."""


@attrs.frozen(kw_only=True)
class CacheLimits:
    """What a cache may hold, and for how long."""

    ttl: float = attrs.field(validator=gt(0))
    """Seconds."""
    max_entries: int = attrs.field(validator=ge(1))
    max_bytes: int = attrs.field(validator=ge(1))
    """Of all values together."""


@attrs.frozen(kw_only=True)
class CacheSize:
    """How much a cache holds."""

    entries: int
    bytes: int


@attrs.frozen
class _Entry(Generic[V]):
    value: V
    size: int
    expires_at: float
    number: int


@final
@attrs.define(eq=False)
class ResponseCache(Generic[V]):
    """Values by key. The limits hold after every call."""

    limits: CacheLimits
    _entries: OrderedDict[bytes, _Entry[V]] = attrs.field(
        factory=OrderedDict[bytes, _Entry[V]]
    )
    """The one that was used last is the last."""
    _expiries: list[tuple[float, int, bytes]] = attrs.field(
        factory=list[tuple[float, int, bytes]]
    )
    """A heap; some of its entries may have been replaced or evicted."""
    _bytes: int = 0
    _numbers: int = 0

    def get(self, key: bytes, now: float) -> V | None:
        """Return what is kept under *key*, which counts as a use of it."""
        self._expire(now)
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(
        self, key: bytes, value: V, size: int, now: float, ttl: float | None = None
    ) -> bool:
        """Keep *value*, in the place of what was there; say whether there is room.

        What is larger than the whole cache is not kept, and evicts nothing else.
        *ttl* is what is left of its time, if that is less than the usual.
        """
        self.remove(key)
        self._expire(now)
        lives = self.limits.ttl if ttl is None else min(ttl, self.limits.ttl)
        if size > self.limits.max_bytes or lives <= 0:
            return False
        self._numbers += 1
        self._entries[key] = _Entry(value, size, now + lives, self._numbers)
        self._bytes += size
        heapq.heappush(self._expiries, (now + lives, self._numbers, key))
        while self._is_over():
            self.remove(next(iter(self._entries)))
        self._tidy()
        return True

    def remove(self, key: bytes) -> None:
        """Forget what is kept under *key*, if anything is."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size

    def size(self, now: float) -> CacheSize:
        """Return how much is kept."""
        self._expire(now)
        return CacheSize(entries=len(self._entries), bytes=self._bytes)

    def _is_over(self) -> bool:
        limits = self.limits
        return len(self._entries) > limits.max_entries or self._bytes > limits.max_bytes

    def _expire(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            _, number, key = heapq.heappop(self._expiries)
            entry = self._entries.get(key)
            if entry is not None and entry.number == number:
                self.remove(key)

    def _tidy(self) -> None:
        """Forget the notes of what is gone: a key that is refreshed leaves one each."""
        if len(self._expiries) > 2 * len(self._entries) + _SLACK:
            self._expiries = [
                (entry.expires_at, entry.number, key)
                for key, entry in self._entries.items()
            ]
            heapq.heapify(self._expiries)
