"""When a limit is full again, in all the ways in which providers write it.

7.66                        seconds
6m0s, 120ms, 1h2m3.5s       a duration
2026-10-14T01:47:00Z        a time, as RFC 3339 has it
1792000000, 1792000000000   one since the epoch, in seconds or milliseconds
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import attrs

from duckservice.providers.retry_after import parse_duration

RESET_MAX: Final = 86_400.0
"""Seconds; what is further away counts as not said."""
_SKEW_MAX: Final = 2 * 86_400.0
_CHARACTERS_MAX: Final = 40


def seconds_until(value: str, now_wall: Callable[[], float]) -> float | None:
    """Return the seconds until *value*, never negative; None: it cannot be read.

    *now_wall* is asked only where *value* is a time.
    """
    value = value.strip()
    if len(value) > _CHARACTERS_MAX:
        return None
    seconds = _duration(value)
    if seconds is None:
        moment = _moment(value)
    elif seconds > 1e11:  # milliseconds since the epoch
        moment = seconds / 1000
    elif seconds > 1e9:
        moment = seconds
    else:
        return seconds if seconds <= RESET_MAX else None
    wait = None if moment is None else max(0.0, moment - now_wall())
    return None if wait is None or wait > RESET_MAX else wait


def sent_at(headers: Mapping[str, str], now_wall: float) -> float:
    """Return when an answer was sent, by its sender's clock; else *now_wall*.

    A ``date`` that is days away from our own is a mistake, and not believed.
    """
    date = headers.get("date")
    if date is None:
        return now_wall
    try:
        moment = parsedate_to_datetime(date)
        sent = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return now_wall
    return sent if abs(sent - now_wall) <= _SKEW_MAX else now_wall


@attrs.define
class SentAt:
    """The clock of an answer. Most need none, and to read a date is dear."""

    headers: Mapping[str, str]
    now_wall: float
    _at: float | None = None

    def __call__(self) -> float:
        """Return what `sent_at` does."""
        if self._at is None:
            self._at = sent_at(self.headers, self.now_wall)
        return self._at


def _moment(value: str) -> float | None:
    """Return the seconds since the epoch that an RFC 3339 time means."""
    try:
        moment = datetime.fromisoformat(value)
        return moment.timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


# The same few come again and again: "0s", "6ms".
_duration: Final = functools.lru_cache(maxsize=256)(parse_duration)
