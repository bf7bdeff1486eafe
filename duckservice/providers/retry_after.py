"""How long a provider asks us to wait, from the headers of its error."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_NUMBER: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{0,16})?", re.ASCII)
_DURATION: Final = re.compile(
    r"(?:(?P<d>[0-9]{1,9})d)?(?:(?P<h>[0-9]{1,9})h)?(?:(?P<m>[0-9]{1,9})m(?!s))?"
    r"(?:(?P<s>[0-9]{1,9}(?:\.[0-9]{0,16})?)s)?"
    r"(?:(?P<ms>[0-9]{1,9}(?:\.[0-9]{0,16})?)ms)?",
    re.ASCII,
)
_SECONDS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def retry_after(headers: Mapping[str, str], now_wall: float) -> float | None:
    """Return the seconds that *headers* (lower-case names) ask to wait, if they do.

    ``retry-after-ms`` wins over ``retry-after``, being the finer one. A date is
    held against *now_wall*, seconds since the epoch; one in the past means 0.
    What is negative, NaN, infinite or unreadable counts as not said. There is
    no upper bound here: a day occurs, and what to make of it is the caller's
    decision. Successful answers may carry the header too: ask only on errors.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _NUMBER.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    seconds = parse_duration(value)
    return _until(value, now_wall) if seconds is None else seconds


def parse_duration(text: str) -> float | None:
    """Return the seconds that *text* means, e.g. ``1.5``, ``17ms``, ``2m59.56s``.

    A bare number is seconds. None for anything else, a sign included.
    """
    if _NUMBER.fullmatch(text):
        return float(text)
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return None
    return math.fsum(
        float(amount) * _SECONDS[unit]
        for unit, amount in found.groupdict().items()
        if amount is not None
    )


def _until(date: str, now_wall: float) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - now_wall)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
