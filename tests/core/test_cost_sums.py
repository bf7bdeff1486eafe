from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from duckservice.completion import Usage
from duckservice.core import cost_sums
from duckservice.core.cost_sums import CostSums, Sum

REACHED: Counter[str] = Counter()
TIMEFRAMES = ("all", "hour", "day", "week", "month")
BY = ("provider", "model", "day", "hour", "total")
COUNTS = st.integers(0, 10**9)


@attrs.frozen
class Added:
    at: datetime
    provider: str
    model: str
    sum: Sum


def added_up(some) -> Sum:
    total = Sum()
    for one in some:
        values = attrs.asdict(one.sum).items()
        total = Sum(**{k: v + getattr(total, k) for k, v in values})
    return total


class CostMachine(RuleBasedStateMachine):
    """The model keeps every request, and adds up anew each time it is asked."""

    @initialize(
        at=st.sampled_from(
            [
                datetime(2025, 12, 31, 23, 59, 30, tzinfo=UTC),
                datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC),
                datetime(2025, 3, 1, 0, 0, 0, tzinfo=UTC),
            ]
        )
    )
    def start(self, at):
        self.now = at
        self.sums = CostSums()
        self.log: list[Added] = []

    @rule(seconds=st.sampled_from([0, 1, 1800, 3600, 7200]))
    def time_passes(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule(days=st.integers(1, 40))
    def days_pass(self, days):
        self.now += timedelta(days=days)

    @rule(hours=st.integers(-24, 24))
    def the_wall_clock_jumps(self, hours):
        self.now += timedelta(hours=hours)

    @rule(unit=st.sampled_from(["hour", "day"]), early=st.booleans())
    def wait_for_the_next_period(self, unit, early):
        begin = self.now.replace(minute=0, second=0, microsecond=0)
        if unit == "day":
            begin = begin.replace(hour=0) + timedelta(days=1)
        else:
            begin += timedelta(hours=1)
        self.now = begin - timedelta(milliseconds=1) if early else begin
        self.add("p", "m", Usage(input_tokens=1), 1, ok=True)

    @rule(
        provider=st.sampled_from("pq"),
        model=st.sampled_from("mn"),
        usage=st.builds(
            Usage,
            input_tokens=COUNTS,
            output_tokens=COUNTS,
            cached_tokens=COUNTS,
            estimated=st.booleans(),
        ),
        cost=st.one_of(st.none(), st.integers(0, 10**18)),
        ok=st.booleans(),
    )
    def add(self, provider, model, usage, cost, ok):
        self.sums.add(self.now.timestamp(), provider, model, usage, cost, ok=ok)
        REACHED["unpriced"] += cost is None
        REACHED["estimated"] += usage.estimated
        self.log.append(
            Added(
                self.now,
                provider,
                model,
                Sum(
                    requests=1,
                    failures=int(not ok),
                    unpriced=int(cost is None),
                    estimated=int(usage.estimated),
                    cost=cost or 0,
                    input_tokens=usage.input_tokens,
                    output_tokens=usage.output_tokens,
                    cached_tokens=usage.cached_tokens,
                ),
            )
        )

    @rule()
    def it_is_saved_and_restored(self):
        text = json.dumps(self.sums.state())
        self.sums = CostSums.restore(json.loads(text))
        assert self.sums.state() == json.loads(text)

    def inside(self, timeframe: str) -> list[Added]:
        """Return what belongs to the time, whole days counted as such."""

        def has(at: datetime) -> bool:
            day, today = at.date(), self.now.date()
            match timeframe:
                case "hour":
                    return (day, at.hour) == (today, self.now.hour)
                case "day":
                    return day == today
                case "week":
                    return today - timedelta(days=6) <= day <= today
                case "month":
                    return (day.year, day.month) == (
                        today.year,
                        today.month,
                    ) and day <= today
                case _:
                    return True

        return [one for one in self.log if has(one.at)]

    @invariant()
    def every_summary_is_exact(self):
        for timeframe in TIMEFRAMES:
            inside = self.inside(timeframe)
            total = added_up(inside)
            for by in BY:
                got = self.sums.summary(self.now.timestamp(), timeframe, by)
                assert got.total == total
                rows = {row.key: row.sum for row in got.rows}
                assert added_up(got.rows) == total
                assert len(rows) == len(got.rows)
                self.check_rows(by, rows, inside)

    def check_rows(self, by: str, rows: dict[str, Sum], inside: list[Added]) -> None:
        name = {
            "provider": lambda one: one.provider,
            "model": lambda one: one.model,
            "day": lambda one: one.at.strftime("%Y-%m-%d"),
            "hour": lambda one: one.at.strftime("%Y-%m-%dT%H:00Z"),
            "total": lambda _: "total",
        }[by]
        expected: dict[str, list[Added]] = {}
        for one in inside:
            expected.setdefault(name(one), []).append(one)
        for key, some in expected.items():
            # An hour that the clock has not reached again yet is not shown apart.
            if (
                by in {"provider", "model", "total"}
                or max(o.at for o in some) <= self.now
            ):
                assert rows[key] == added_up(some), (by, key)


def test_every_summary_is_the_exact_sum_of_what_was_added():
    REACHED.clear()
    run_state_machine_as_test(
        CostMachine,
        settings=settings(max_examples=40, stateful_step_count=25, deadline=None),
    )
    assert REACHED["unpriced"], REACHED
    assert REACHED["estimated"], REACHED


NOON = datetime(2025, 11, 20, 12, tzinfo=UTC).timestamp()
ONE = Usage(input_tokens=10, output_tokens=5)


def test_a_request_without_a_price_is_counted_and_not_taken_for_free():
    sums = CostSums()
    sums.add(NOON, "p", "strange-model", ONE, None)
    sums.add(NOON, "p", "known-model", ONE, 0)
    total = sums.summary(NOON).total
    assert (total.requests, total.unpriced, total.cost) == (2, 1, 0)


def test_a_million_small_costs_add_up_without_drift():
    sums = CostSums()
    for _ in range(1000):
        sums.add(NOON, "p", "m", ONE, 10**11 + 1)
    assert sums.summary(NOON).total.cost == 10**14 + 1000
    assert sums.summary(NOON).total.total_tokens == 15_000


def test_old_hours_and_days_go_into_the_totals_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(cost_sums, "HOURS_KEPT", 3)
    monkeypatch.setattr(cost_sums, "DAYS_KEPT", 2)
    sums = CostSums()
    for hour in range(24 * 4):
        sums.add(NOON + hour * 3600, "p", "m", ONE, 1)
    now = NOON + 95 * 3600
    for by, kept in (("hour", 3), ("day", 2)):
        got = sums.summary(now, "all", by)
        assert got.rows[0].key == "earlier"
        assert got.rows[-1].key.startswith("2025-11-24")
        assert [row.sum.cost for row in got.rows[1:]] == {
            "hour": [1, 1, 1],
            "day": [24, 12],
        }[by]
        assert len(got.rows) == kept + 1
        assert sum(row.sum.cost for row in got.rows) == got.total.cost == 96
    assert len(sums.state()["hours"]) == 3
    assert len(sums.state()["days"]) == 2


def test_a_week_of_hours_and_400_days_are_kept():
    sums = CostSums()
    for hour in range(500 * 24):
        sums.add(NOON + hour * 3600, "p", "m", Usage(), 1)
    now = NOON + (500 * 24 - 1) * 3600
    assert len(sums.summary(now, "all", "hour").rows) == 7 * 24 + 1
    assert len(sums.summary(now, "all", "day").rows) == 400 + 1
    assert len(sums.summary(now, "week", "hour").rows) <= 7 * 24
    assert "earlier" not in {r.key for r in sums.summary(now, "week", "hour").rows}


def test_a_clock_that_jumps_far_ahead_wipes_out_nothing():
    sums = CostSums()
    sums.add(NOON, "p", "m", ONE, 1)
    sums.add(NOON + 10 * 365 * 86400, "p", "m", ONE, 2)
    assert sums.summary(NOON, "day").total.cost == 1
    assert sums.summary(NOON, "month").total.cost == 1
    assert sums.summary(NOON, "all").total.cost == 3


def test_a_clock_that_goes_back_into_the_first_hour_of_a_day_breaks_no_summary():
    midnight = datetime(2025, 11, 20, tzinfo=UTC).timestamp()
    sums = CostSums()
    sums.add(midnight + 13 * 3600, "p", "m", ONE, 5)
    for by in BY:
        assert sums.summary(midnight, "hour", by).total == Sum()
    sums.add(midnight, "p", "m", ONE, 1)
    assert [r.sum.cost for r in sums.summary(midnight, "hour", "day").rows] == [1]


def test_made_up_model_names_fill_no_memory(monkeypatch):
    monkeypatch.setattr(cost_sums, "MODELS_MAX", 5)
    sums = CostSums()
    for number in range(100):
        sums.add(NOON, "p", f"made-up-{number}", ONE, 1)
    rows = {row.key: row.sum.cost for row in sums.summary(NOON, "all", "model").rows}
    assert len(rows) == 6
    assert rows["(other)"] == 95
    sums.add(NOON, "p", "made-up-3", ONE, 1)
    assert sums.summary(NOON, "day", "total").total.cost == 101


def test_nothing_is_half_added():
    sums = CostSums()
    sums.add(NOON, "p", "m", ONE, 1)
    before = json.dumps(sums.state())
    for now, cost in ((NOON, -1), (float("nan"), 1), (float("inf"), 1)):
        with pytest.raises((AssertionError, ValueError, OverflowError)):
            sums.add(now, "p", "m", ONE, cost)
    assert json.dumps(sums.state()) == before


def test_impossible_counts_of_a_provider_lower_no_sum():
    sums = CostSums()
    negative = Usage(
        input_tokens=-1,
        output_tokens=-1,
        cached_tokens=-1,
        cache_write_tokens=-1,
        reasoning_tokens=-1,
    )
    sums.add(NOON, "p", "m", negative, 0)
    assert sums.summary(NOON).total == Sum(requests=1)


def test_all_kinds_of_tokens_are_added():
    sums = CostSums()
    usage = Usage(
        input_tokens=1,
        output_tokens=2,
        cached_tokens=3,
        cache_write_tokens=4,
        reasoning_tokens=5,
    )
    for _ in range(2):
        sums.add(NOON, "p", "m", usage, 7)
    assert sums.summary(NOON).total == Sum(
        requests=2,
        cost=14,
        input_tokens=2,
        output_tokens=4,
        cached_tokens=6,
        cache_write_tokens=8,
        reasoning_tokens=10,
    )


def test_the_dearest_come_first():
    sums = CostSums()
    for provider, cost in (("b", 1), ("a", 1), ("c", 9)):
        sums.add(NOON, provider, "m", ONE, cost)
    keys = [row.key for row in sums.summary(NOON, "day", "provider").rows]
    assert keys == ["c", "a", "b"]


def test_a_summary_says_when_its_time_begins():
    sums = CostSums()
    begins = [sums.summary(NOON + 1234, frame).since for frame in TIMEFRAMES]
    at = datetime.fromtimestamp
    assert begins[0] is None
    assert [at(s, UTC).isoformat()[:16] for s in begins[1:]] == [
        "2025-11-20T12:00",
        "2025-11-20T00:00",
        "2025-11-14T00:00",
        "2025-11-01T00:00",
    ]


def test_a_state_of_another_version_is_refused():
    with pytest.raises(ValueError, match="unknown version"):
        CostSums.restore({"version": 2})


def test_it_says_what_it_holds():
    sums = CostSums()
    sums.add(NOON, "p", "m", ONE, 12)
    assert repr(sums) == "<CostSums 1 requests, 12 pUSD>"


def test_what_is_not_a_part_cannot_be_subtracted():
    with pytest.raises(AssertionError):
        Sum(requests=1) - Sum(requests=2)
