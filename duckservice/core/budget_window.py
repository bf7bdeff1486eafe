"""The windows in which budgets begin anew: hours, days and months of UTC; pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, TypeAlias, assert_never

Window: TypeAlias = Literal["hour", "day", "month", "total"]

_HOUR = 3600
_DAY = 24 * _HOUR


def begin_of(window: Window, now: float) -> int:
    """Return when the window around *now* begins, in seconds since the epoch."""
    match window:
        case "hour":
            return int(now // _HOUR) * _HOUR
        case "day":
            return int(now // _DAY) * _DAY
        case "month":
            return _month(now, 0)
        case "total":
            return 0
        case _:
            assert_never(window)


def end_of(window: Window, now: float) -> int | None:
    """Return when the window around *now* ends; None: never."""
    match window:
        case "hour":
            return begin_of(window, now) + _HOUR
        case "day":
            return begin_of(window, now) + _DAY
        case "month":
            return _month(now, 1)
        case "total":
            return None
        case _:
            assert_never(window)


def _month(now: float, ahead: int) -> int:
    at = datetime.fromtimestamp(now, UTC)
    years, month = divmod(at.month - 1 + ahead, 12)
    return int(datetime(at.year + years, month + 1, 1, tzinfo=UTC).timestamp())
