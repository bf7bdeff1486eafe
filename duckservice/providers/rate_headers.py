"""What the headers of a response say of rate limits, as `RateHints`.

Which headers there are, `rate_header_names` and `rate_policy` know, and how a reset is
written, `rate_resets`. What cannot be read, is said twice, negative or beyond all
measure counts as not said: nothing raises.

Where a provider has several limits of one kind (a minute's, a day's), the one speaks
of which the least is left. A *limit* is always one of a minute: that of a shorter
window is multiplied, and of a longer or an unknown one only is told what is left, and
until when.

``retry-after`` is not read here, but with errors alone: many good answers carry it
while nearly all of a limit is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, assert_never

import attrs

from duckservice.core.rate_hints import RateHints
from duckservice.providers.rate_header_names import UNNAMED, Kind, Meaning, meaning_of
from duckservice.providers.rate_policy import policies, window_behind
from duckservice.providers.rate_resets import SentAt, seconds_until
from duckservice.providers.retry_after import parse_duration

COUNT_MAX: Final = 10**12
"""What is above means that there is no limit: nearly 2**63 was seen."""
_MINUTE: Final = 60.0

NOTHING_SAID: Final = RateHints()


def says_limits(headers: Mapping[str, str]) -> bool:
    """Say whether *headers* are worth a look; this costs next to nothing."""
    return "limit" in " ".join(headers)


def rate_hints(headers: Mapping[str, str], now_wall: float) -> RateHints:
    """Return what *headers* (names in lower case) say of rate limits.

    A time is held against the answer's own ``date``, so that our clock need not be
    right; without one against *now_wall*, seconds since the epoch.
    """
    now = SentAt(headers, now_wall)
    found: _Found = {}
    for name, value in headers.items():
        meaning = meaning_of(name)
        if meaning is not None:
            _note(found, meaning, value, now)
    _assume_minutes(found)
    for number, policy in enumerate(policies(headers)):
        found["requests", f"policy {number}"] = _Limit(
            window=policy.window,
            limit=_count(policy.quota),
            remaining=_count(policy.remaining),
            reset=seconds_until(policy.reset, now),
        )
    return _hints(found) if found else NOTHING_SAID


@attrs.define
class _Limit:
    """One of the provider's limits, so far as it was said."""

    window: float | None
    """Seconds; None is unknown."""
    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None

    @property
    def tightness(self) -> tuple[float, float]:
        """Sorts that one first of which the least is left, then the shortest."""
        return (
            math.inf if self.remaining is None else self.remaining,
            math.inf if self.window is None else self.window,
        )

    @property
    def limit_of_a_minute(self) -> int | None:
        """The limit of every minute, if it is one."""
        if not self.limit or self.window is None:
            return None  # who allows nothing at all means something else
        if not 1.0 <= self.window <= _MINUTE:
            return None
        return math.floor(self.limit * _MINUTE / self.window)


_Found: TypeAlias = dict[tuple[Kind, str], _Limit]


def _note(found: _Found, meaning: Meaning, value: str, now: SentAt) -> None:
    its = found.get((meaning.kind, meaning.scope))
    if its is None:
        its = found[meaning.kind, meaning.scope] = _Limit(meaning.window)
    match meaning.field:
        case "limit":
            value, window = window_behind(value)
            its.limit, its.window = _count(value), window or its.window
        case "remaining":
            its.remaining = _count(value)
        case "reset":
            its.reset = seconds_until(value, now)
        case "window":
            its.window = parse_duration(value.strip()) or its.window
        case _:
            assert_never(meaning.field)


def _assume_minutes(found: _Found) -> None:
    """Have what names no window be by the minute, where it is said in OpenAI's dialect.

    Together does not speak that: it does not name its requests, and its tokens are by
    the second. And what is full again only later is by the day, as Groq's requests.
    """
    if ("requests", UNNAMED) in found:
        return
    for (_, scope), limit in found.items():
        is_late = limit.reset is not None and limit.reset > _MINUTE + 1.0
        if limit.window is None and scope != UNNAMED and not is_late:
            limit.window = _MINUTE


def _hints(found: _Found) -> RateHints:
    for limit in found.values():
        if limit.reset is None and limit.window and limit.window < _MINUTE:
            limit.reset = limit.window  # by then at the latest
    by_kind: dict[Kind, list[_Limit]] = {}
    for (kind, _), limit in found.items():
        by_kind.setdefault(kind, []).append(limit)
    tightest = {kind: _tightest(limits) for kind, limits in by_kind.items()}
    requests = tightest.get("requests", _UNSAID)
    tokens = tightest.get("tokens", _UNSAID)
    input_tokens = tightest.get("input_tokens", _UNSAID)
    output_tokens = tightest.get("output_tokens", _UNSAID)
    return RateHints(
        requests_limit=requests.limit_of_a_minute,
        requests_remaining=requests.remaining,
        requests_reset=requests.reset,
        tokens_limit=tokens.limit_of_a_minute,
        tokens_remaining=tokens.remaining,
        tokens_reset=tokens.reset,
        input_tokens_limit=input_tokens.limit_of_a_minute,
        input_tokens_remaining=input_tokens.remaining,
        input_tokens_reset=input_tokens.reset,
        output_tokens_limit=output_tokens.limit_of_a_minute,
        output_tokens_remaining=output_tokens.remaining,
        output_tokens_reset=output_tokens.reset,
    )


_UNSAID: Final = _Limit(None)


def _tightest(limits: Sequence[_Limit]) -> _Limit:
    """Return that limit of one kind which binds first."""
    if len(limits) == 1:
        return limits[0]
    first, *others = sorted(limits, key=lambda limit: limit.tightness)
    if first.reset is None and first.remaining is not None:
        # Kong says the same limit twice, and only once when it is full again.
        same = first.limit, first.remaining
        for other in others:
            if (other.limit, other.remaining) == same:
                first.reset = first.reset or other.reset
    return first


def _count(value: str) -> int | None:
    whole = value.strip().removesuffix(".0")
    if len(whole) > _DIGITS_MAX or not (whole.isascii() and whole.isdigit()):
        return None
    count = int(whole)
    return count if count <= COUNT_MAX else None


_DIGITS_MAX: Final = 20
