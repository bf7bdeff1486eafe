"""What was spent and used: in total, by hour, by day, by provider and model.

Sums are exact integers. Hours and days are UTC, and counted by the wall clock that
the caller reads, so a clock that jumps books a request elsewhere, but loses none.
The newest 168 hours and 400 days with requests are kept apart; what is older
remains in the totals, and shows as ``earlier``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, assert_never

import attrs

from duckservice.completion import Usage

Timeframe: TypeAlias = Literal["all", "hour", "day", "week", "month"]
"""``hour``, ``day`` and ``month`` are the calendar's present ones, in UTC; ``week``
is today and the six days before."""
By: TypeAlias = Literal["provider", "model", "day", "hour", "total"]

HOURS_KEPT = 7 * 24
DAYS_KEPT = 400
MODELS_MAX = 500
"""So many pairs of provider and model are told apart."""
OTHER = "(other)"
"""Stands for all models beyond `MODELS_MAX`."""
EARLIER = "earlier"
"""Stands for all days or hours that are not kept apart any more."""

_HOUR = 3600
_DAY = 24 * _HOUR


@attrs.frozen(kw_only=True)
class Sum:
    """Some requests added up."""

    requests: int = 0
    failures: int = 0
    """Of the requests."""
    unpriced: int = 0
    """Of the requests: those whose cost is not known, and not in ``cost``."""
    estimated: int = 0
    """Of the requests: those whose tokens we have guessed, and so their cost."""
    cost: int = 0
    """Picodollars."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Sum) -> Sum:
        """Return both together."""
        return Sum(
            requests=self.requests + other.requests,
            failures=self.failures + other.failures,
            unpriced=self.unpriced + other.unpriced,
            estimated=self.estimated + other.estimated,
            cost=self.cost + other.cost,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )

    def __sub__(self, other: Sum) -> Sum:
        """Return what is left without *other*, which must be a part of this."""
        rest = {name: mine - its for name, mine, its in _pairs(self, other)}
        assert min(rest.values()) >= 0, "it was not a part"
        return Sum(**rest)

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@attrs.frozen
class Row:
    """One line of a summary."""

    key: str
    sum: Sum


@attrs.frozen(kw_only=True)
class Summary:
    """Some time's requests, split up; the rows add up to the total."""

    timeframe: Timeframe
    by: By
    since: int | None
    """When the time begins, in seconds since the epoch; None: ever."""
    rows: tuple[Row, ...]
    total: Sum


@attrs.frozen
class _Span:
    since: int | None
    now: float

    def has(self, begin: int) -> bool:
        # A day that has not begun yet comes from a clock that jumped ahead; it
        # is not a part of this month, say, though it is a part of all.
        return self.since is None or self.since <= begin <= self.now


Key: TypeAlias = tuple[str, str]
"""Provider and model."""
_Sums: TypeAlias = dict[Key, Sum]


class CostSums:
    """Adds up requests; nothing is ever half added."""

    def __init__(self) -> None:
        self._ever: _Sums = {}
        self._hours: dict[int, _Sums] = {}
        self._days: dict[int, _Sums] = {}
        self.loaded = False
        """Whether what a store remembers has been added."""

    def __repr__(self) -> str:
        total = _total(self._ever)
        return f"<CostSums {total.requests} requests, {total.cost} pUSD>"

    def add(
        self,
        now: float,
        provider: str,
        model: str,
        usage: Usage,
        cost: int | None,
        *,
        ok: bool = True,
    ) -> None:
        """Add one request that ended at *now*, in seconds since the epoch.

        *cost* is in picodollars; None says that it is not known, which is counted
        and never taken for nothing.
        """
        self.add_sum(int(now // _HOUR), provider, model, _one(usage, cost, ok=ok))

    def add_sum(self, hour: int, provider: str, model: str, one: Sum) -> None:
        """Add requests that ended in one *hour*, counted from the epoch."""
        day = hour * _HOUR // _DAY
        key = self._key(provider, model)
        for sums in (
            self._ever,
            self._hours.setdefault(hour, {}),
            self._days.setdefault(day, {}),
        ):
            sums[key] = sums[key] + one if key in sums else one
        _keep_newest(self._hours, HOURS_KEPT)
        _keep_newest(self._days, DAYS_KEPT)

    def summary(
        self, now: float, timeframe: Timeframe = "all", by: By = "total"
    ) -> Summary:
        """Return what was added in *timeframe* as seen at *now*, split *by*."""
        span = _Span(_since(now, timeframe), now)
        sums = self._sums(span, timeframe)
        total = _total(sums)
        if by == "day" and timeframe == "hour":
            # The day is cut: what its other hours had must not show.
            by_day = [(_name(int(now // _DAY), _DAY), total)] if total.requests else []
            rows = _grouped(by_day)
        else:
            rows = self._rows(sums, total, span, by)
        return Summary(
            timeframe=timeframe, by=by, since=span.since, rows=rows, total=total
        )

    def summary_since(self, now: float, since: float, by: By = "total") -> Summary:
        """Return what was added from *since* to *now*, split *by*.

        The whole hour of *since* is counted, or its whole day where hours are
        not kept apart any more.
        """
        fine = now - since < (HOURS_KEPT - 1) * _HOUR
        seconds, periods = (_HOUR, self._hours) if fine else (_DAY, self._days)
        span = _Span(int(since // seconds) * seconds, now)
        sums = _merged(s for n, s in periods.items() if span.has(n * seconds))
        total = _total(sums)
        rows = self._rows(sums, total, span, by)
        return Summary(timeframe="all", by=by, since=span.since, rows=rows, total=total)

    def ever(self) -> Mapping[Key, Sum]:
        """Return all that was ever added, by provider and model, as of now."""
        return dict(self._ever)

    def state(self) -> dict[str, Any]:
        """Return everything as plain values, for `restore`."""
        return {
            "version": 1,
            "ever": _plain(self._ever),
            "hours": [[hour, _plain(sums)] for hour, sums in self._hours.items()],
            "days": [[day, _plain(sums)] for day, sums in self._days.items()],
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> CostSums:
        """Return the sums that `state` gave as plain values.

        Raises:
            ValueError: they are of another version.
        """
        if state.get("version") != 1:
            msg = f"unknown version of cost sums: {state.get('version')!r}"
            raise ValueError(msg)
        sums = cls()
        sums._ever = _unplain(state["ever"])
        sums._hours = {hour: _unplain(plain) for hour, plain in state["hours"]}
        sums._days = {day: _unplain(plain) for day, plain in state["days"]}
        return sums

    def _key(self, provider: str, model: str) -> Key:
        key = (provider, model)
        if key in self._ever or len(self._ever) < MODELS_MAX:
            return key
        return (provider, OTHER)

    def _sums(self, span: _Span, timeframe: Timeframe) -> _Sums:
        if timeframe == "all":
            return self._ever
        if timeframe == "hour":
            return _merged(s for n, s in self._hours.items() if span.has(n * _HOUR))
        return _merged(s for n, s in self._days.items() if span.has(n * _DAY))

    def _rows(self, sums: _Sums, total: Sum, span: _Span, by: By) -> tuple[Row, ...]:
        match by:
            case "total":
                return (Row("total", total),)
            case "provider":
                return _grouped((provider, s) for (provider, _), s in sums.items())
            case "model":
                return _grouped((model, s) for (_, model), s in sums.items())
            case "day":
                return _by_time(self._days, _DAY, span, total)
            case "hour":
                return _by_time(self._hours, _HOUR, span, total)
            case _:
                assert_never(by)


def _one(usage: Usage, cost: int | None, *, ok: bool) -> Sum:
    assert cost is None or cost >= 0, "nobody is paid for a request"
    return Sum(
        requests=1,
        failures=0 if ok else 1,
        unpriced=1 if cost is None else 0,
        estimated=1 if usage.estimated else 0,
        cost=cost or 0,
        # A provider's own figures: what cannot be is counted as nothing.
        input_tokens=max(0, usage.input_tokens),
        output_tokens=max(0, usage.output_tokens),
        cached_tokens=max(0, usage.cached_tokens),
        cache_write_tokens=max(0, usage.cache_write_tokens),
        reasoning_tokens=max(0, usage.reasoning_tokens),
    )


def _keep_newest(periods: dict[int, _Sums], most: int) -> None:
    # By number and not by age: a clock that jumps ahead must not wipe out the
    # days before.
    while len(periods) > most:
        del periods[min(periods)]


def _since(now: float, timeframe: Timeframe) -> int | None:
    at = datetime.fromtimestamp(now, UTC)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    match timeframe:
        case "all":
            return None
        case "hour":
            begin = at.replace(minute=0, second=0, microsecond=0)
        case "day":
            begin = midnight
        case "week":
            begin = midnight - timedelta(days=6)
        case "month":
            begin = midnight.replace(day=1)
        case _:
            assert_never(timeframe)
    return int(begin.timestamp())


def _by_time(
    periods: dict[int, _Sums], seconds: int, span: _Span, total: Sum
) -> tuple[Row, ...]:
    inside = sorted(n for n in periods if span.has(n * seconds))
    rows = [Row(_name(n, seconds), _total(periods[n])) for n in inside]
    earlier = total
    for row in rows:
        earlier -= row.sum
    return (Row(EARLIER, earlier), *rows) if earlier.requests else tuple(rows)


def _name(period: int, seconds: int) -> str:
    begin = datetime.fromtimestamp(period * seconds, UTC)
    return f"{begin:%Y-%m-%d}" if seconds == _DAY else f"{begin:%Y-%m-%dT%H:00Z}"


def _grouped(items: Iterable[tuple[str, Sum]]) -> tuple[Row, ...]:
    groups: dict[str, Sum] = {}
    for name, one in items:
        groups[name] = groups.get(name, Sum()) + one
    rows = (Row(name, group) for name, group in groups.items())
    return tuple(sorted(rows, key=lambda row: (-row.sum.cost, row.key)))


def _merged(many: Iterable[_Sums]) -> _Sums:
    merged: _Sums = {}
    for sums in many:
        for key, one in sums.items():
            merged[key] = merged.get(key, Sum()) + one
    return merged


def _total(sums: _Sums) -> Sum:
    return sum(sums.values(), start=Sum())


def _pairs(mine: Sum, its: Sum) -> Iterable[tuple[str, int, int]]:
    theirs = attrs.asdict(its)
    return ((name, value, theirs[name]) for name, value in attrs.asdict(mine).items())


def _plain(sums: _Sums) -> list[list[Any]]:
    return [[*key, attrs.asdict(one)] for key, one in sums.items()]


def _unplain(plain: Iterable[Iterable[Any]]) -> _Sums:
    return {(provider, model): Sum(**one) for provider, model, one in plain}
