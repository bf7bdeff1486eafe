"""What `duck top` remembers of the events that it was told: rates, and what was of note."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias, final

import attrs

Fields: TypeAlias = dict[str, Any]

TYPES: Final = (
    "request.stop",
    "request.exception",
    "cost",
    "breaker",
    "restart",
    "budget",
    "job",
    "store",
    "queue.pause",
    "queue.resume",
    "message",
    "cache",
)
"""What is asked for; `gap` comes by itself."""
KEPT: Final = 240
"""Seconds of throughput that are remembered: the widest picture of it."""
MINUTE: Final = 60.0
SOON: Final = 10.0
"""Requests a second are taken over so many seconds: fewer jump, more lag behind."""
_ENDED_MAX: Final = 100_000
_NOTES_MAX: Final = 50
_QUIET_RESTARTS: Final = frozenset({"normal", "shutdown"})
_JOBS_OF_NOTE: Final = frozenset({"discarded", "expired", "cancelled", "retryable"})
_SAME: Final = (
    *("type", "actor", "provider", "model", "budget", "share"),
    *("outcome", "what", "now", "state", "reason"),
)


class _Ended(NamedTuple):
    at: float
    ok: bool
    took_ms: float


class _Spent(NamedTuple):
    at: float
    tokens: int
    usd: Decimal


@attrs.frozen(kw_only=True)
class Rates:
    """How much goes through, by what was told lately."""

    requests_per_s: float
    failures_per_s: float
    failed: float | None
    """The share of the requests of the last minute; None without any."""
    p50_ms: float | None
    p95_ms: float | None
    tokens_per_minute: int
    usd_per_minute: str


@attrs.frozen(kw_only=True)
class Note:
    """An event that is of note; equal ones are one."""

    event: Fields
    """The last of them."""
    times: int = 1


@final
@attrs.define
class History:
    """Takes events in the order in which they were told."""

    _ended: deque[_Ended] = attrs.field(
        factory=lambda: deque[_Ended](maxlen=_ENDED_MAX)
    )
    _spent: deque[_Spent] = attrs.field(
        factory=lambda: deque[_Spent](maxlen=_ENDED_MAX)
    )
    _notes: dict[tuple[object, ...], Note] = attrs.field(
        factory=dict[tuple[object, ...], Note]
    )
    _first: float | None = None
    """When the first event that is known has happened."""

    def take(self, its: Fields) -> None:
        """Remember one event."""
        at = float(its["at"])
        self._first = at if self._first is None else min(self._first, at)
        match its["type"]:
            case "request.stop" | "request.exception" as word:
                took = float(its.get("duration_ms") or 0.0)
                self._ended.append(_Ended(at, word == "request.stop", took))
            case "cost":
                tokens = (its.get("input_tokens") or 0) + (
                    its.get("output_tokens") or 0
                )
                usd = Decimal(its.get("cost_usd") or 0)
                self._spent.append(_Spent(at, tokens, usd))
            case _:
                pass
        if _is_of_note(its):
            self._note(its)

    def _note(self, its: Fields) -> None:
        key = tuple(its.get(name) for name in _SAME)
        before = self._notes.pop(key, None)
        self._notes[key] = Note(event=its, times=before.times + 1 if before else 1)
        if len(self._notes) > _NOTES_MAX:
            del self._notes[next(iter(self._notes))]

    def notes(self) -> tuple[Note, ...]:
        """Return what was of note, the newest first."""
        return tuple(reversed(self._notes.values()))

    def rates(self, now: float) -> Rates:
        """Return how much has gone through lately."""
        self._forget(now - KEPT)
        minute = [its for its in self._ended if its.at > now - MINUTE]
        soon = [its for its in minute if its.at > now - SOON]
        took = sorted(its.took_ms for its in minute if its.ok)
        spent = [its for its in self._spent if its.at > now - MINUTE]
        failed = sum(not its.ok for its in minute)
        return Rates(
            requests_per_s=round(len(soon) / SOON, 3),
            failures_per_s=round(sum(not its.ok for its in soon) / SOON, 3),
            failed=round(failed / len(minute), 4) if minute else None,
            p50_ms=_quantile(took, 0.5),
            p95_ms=_quantile(took, 0.95),
            tokens_per_minute=sum(its.tokens for its in spent),
            usd_per_minute=str(sum((its.usd for its in spent), Decimal(0))),
        )

    def throughput(self, now: float) -> tuple[int | None, ...]:
        """Return how many requests have ended in each of the last seconds.

        The last is the one that has just passed, as the present one is not over. None:
        nobody has told of that second.
        """
        last = math.floor(now)
        counts = dict.fromkeys(range(last - KEPT, last), 0)
        for its in self._ended:
            if (second := math.floor(its.at)) in counts:
                counts[second] += 1
        first = math.inf if self._first is None else math.floor(self._first)
        return tuple(None if at < first else n for at, n in counts.items())

    def _forget(self, until: float) -> None:
        for line in (self._ended, self._spent):
            while line and line[0].at < until:
                line.popleft()


def _is_of_note(its: Fields) -> bool:
    match its["type"]:
        case "cost" | "request.stop" | "request.start" | "attempt":
            return False
        case "job":
            return its.get("state") in _JOBS_OF_NOTE
        case "restart":
            if its.get("what") == "started":
                return (its.get("incarnation") or 0) > 1
            return its.get("what") not in _QUIET_RESTARTS
        case _:
            return True


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the nearest rank of *ordered*; None of nothing."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
