"""Events as the points of the charts: two seconds each, for the last half an hour.

A point counts what came to its end in its two seconds: requests, and durable jobs. A run
of a job is a request too; its time counts, its end does not, for the job may go on. Its
percentiles are by nearest rank; where more than `SAMPLE_MAX` values came in two seconds,
over evenly chosen ones.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias, final

import attrs

POINT_SECONDS: Final = 2
HISTORY_SECONDS: Final = 1800
POINTS_MAX: Final = HISTORY_SECONDS // POINT_SECONDS
SAMPLE_MAX: Final = 512
_AHEAD_MAX: Final = 30
"""So many points may be ahead of our clock: the daemon's may differ a little."""

Json: TypeAlias = dict[str, Any]

_JOB_ENDS: Final = {
    "completed": "ok",
    "discarded": "failed",
    "expired": "failed",
    "cancelled": "cancelled",
}


@final
@attrs.define
class Sample:
    """Some of the values, evenly chosen: every n-th, where n grows when it is full."""

    values: array[float] = attrs.field(factory=lambda: array("d"))
    _every: int = 1
    _seen: int = 0

    def add(self, value: object) -> None:
        """Take a number; anything else is none."""
        if not isinstance(value, int | float):
            return
        if self._seen % self._every == 0:
            if len(self.values) == SAMPLE_MAX:
                self.values = self.values[::2]
                self._every *= 2
            if self._seen % self._every == 0:
                self.values.append(value)
        self._seen += 1

    def percentiles(self) -> Json | None:
        """Return ``p50`` and ``p95``; None without a value."""
        if not self.values:
            return None
        ordered = sorted(self.values)
        size = len(ordered)
        return {
            f"p{percent}": ordered[math.ceil(size * percent / 100) - 1]
            for percent in (50, 95)
        }


@attrs.define
class _Bucket:
    counts: dict[str, int] = attrs.field(
        factory=lambda: {"ok": 0, "failed": 0, "cancelled": 0}
    )
    duration: Sample = attrs.field(factory=Sample)
    first_byte: Sample = attrs.field(factory=Sample)
    cost: Decimal = Decimal(0)
    input_tokens: int = 0
    output_tokens: int = 0
    cache_hits: int = 0
    queued: Json | None = None
    in_flight: int | None = None
    _point: Json | None = None
    """What this is to the charts, until something changes: there are 900 of them."""

    def take(self, event: Mapping[str, Any]) -> None:
        self._point = None
        match event.get("type"):
            case "request.stop":
                self._stopped(event)
            case "request.exception" if not _is_run_of_job(event):
                self.counts["failed"] += 1
            case "attempt":
                self.first_byte.add(event.get("first_byte_ms"))
            case "cost":
                self._paid(event)
            case "job":
                end = _JOB_ENDS.get(str(event.get("state")))
                if end is not None:
                    self.counts[end] += 1
            case _:
                pass

    def _stopped(self, event: Mapping[str, Any]) -> None:
        cancelled = event.get("outcome") == "cancelled"
        if not _is_run_of_job(event):
            self.counts["cancelled" if cancelled else "ok"] += 1
        if cancelled:
            return
        self.cache_hits += event.get("cache") == "hit"
        self.duration.add(event.get("duration_ms"))

    def _paid(self, event: Mapping[str, Any]) -> None:
        self.input_tokens += event.get("input_tokens") or 0
        self.output_tokens += event.get("output_tokens") or 0
        try:
            self.cost += Decimal(event.get("cost_usd") or 0)
        except InvalidOperation:
            return

    def look(self, queued: Json | None, in_flight: int | None) -> None:
        self._point = None
        self.queued, self.in_flight = queued, in_flight

    def as_point(self, start: int) -> Json:
        if self._point is None:
            self._point = self._made(start)
        return self._point

    def _made(self, start: int) -> Json:
        return {
            "at": start,
            "seconds": POINT_SECONDS,
            **self.counts,
            "duration_ms": self.duration.percentiles(),
            "first_byte_ms": self.first_byte.percentiles(),
            "cost_usd": format(self.cost, "f"),
            "tokens": {"input": self.input_tokens, "output": self.output_tokens},
            "cache_hits": self.cache_hits,
            "queued": self.queued,
            "in_flight": self.in_flight,
        }


def _is_run_of_job(event: Mapping[str, Any]) -> bool:
    """Say whether that request is a run of a durable job, whose `job` events follow."""
    return str(event.get("request_id")).startswith(f"req_{event.get('job')}.")


def _index(at: float) -> int:
    return math.floor(at / POINT_SECONDS)


@final
class Points:
    """The points of the last half an hour; its clock is the caller's."""

    def __init__(self, now: float) -> None:
        self._buckets = dict[int, _Bucket]()
        self._closed = _index(now)
        """All points before this one are complete."""

    def take(self, event: Mapping[str, Any]) -> None:
        """Count an event of the daemon's; one that is too old is left out."""
        at = event.get("at")
        if isinstance(at, int | float):
            bucket = self._bucket(_index(at))
            if bucket is not None:
                bucket.take(event)

    def look(self, at: float, queued: Json | None, in_flight: int | None) -> None:
        """Note how much waited and was under way at that moment."""
        bucket = self._bucket(_index(at))
        if bucket is not None:
            bucket.look(queued, in_flight)

    def close(self, now: float) -> list[Json]:
        """Return the points that are complete since the last time, the oldest first."""
        end = _index(now)
        first = max(self._closed, end - POINTS_MAX)
        self._closed = max(self._closed, end)
        for index in [i for i in self._buckets if i < end - POINTS_MAX]:
            del self._buckets[index]
        return [self._point(index) for index in range(first, end)]

    def history(self) -> list[Json]:
        """Return all that are complete, without a gap, from the first with an event."""
        first = min(self._buckets, default=self._closed)
        first = max(first, self._closed - POINTS_MAX)
        return [self._point(index) for index in range(first, self._closed)]

    def _bucket(self, index: int) -> _Bucket | None:
        if not -POINTS_MAX <= index - self._closed <= _AHEAD_MAX:
            return None
        return self._buckets.setdefault(index, _Bucket())

    def _point(self, index: int) -> Json:
        bucket = self._buckets.get(index) or _Bucket()
        return bucket.as_point(index * POINT_SECONDS)
