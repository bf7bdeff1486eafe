"""A point counts what ended in its two seconds, each thing once."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from duckservice.dashboard.points import SAMPLE_MAX, Points, Sample

NOW = 1_000_000.0


def stop(at, outcome="ok", **more):
    its = {"type": "request.stop", "at": at, "outcome": outcome, "job": "job_1",
           "request_id": "req_1", "duration_ms": 10.0, "cache": None}  # fmt: skip
    return its | more


def failed(at, **more):
    return stop(at, "timeout", **more) | {"type": "request.exception"}


def cost(at, usd, tokens=(5, 1)):
    return {"type": "cost", "at": at, "cost_usd": usd, "input_tokens": tokens[0],
            "output_tokens": tokens[1]}  # fmt: skip


def job(at, state):
    return {"type": "job", "at": at, "job": "job_1", "state": state}


def attempt(at, first_byte):
    return {"type": "attempt", "at": at, "first_byte_ms": first_byte}


def points_of(*events):
    points = Points(NOW)
    for event in events:
        points.take(event)
    return points.close(NOW + 2)


def test_a_point_has_all_that_its_chart_needs() -> None:
    [point] = points_of(
        stop(NOW, cache="hit"),
        stop(NOW + 1.999, duration_ms=30.0),
        stop(NOW, "cancelled", duration_ms=1e9),
        failed(NOW),
        attempt(NOW, 3.5),
        attempt(NOW, None),
        cost(NOW, "0.1"),
        cost(NOW, "0.0000002", (7, None)),
        cost(NOW, None, (None, None)),
        {"type": "something new", "at": NOW},
    )
    assert point == {
        "at": 1_000_000,
        "seconds": 2,
        "ok": 2,
        "failed": 1,
        "cancelled": 1,
        "duration_ms": {"p50": 10.0, "p95": 30.0},
        "first_byte_ms": {"p50": 3.5, "p95": 3.5},
        "cost_usd": "0.1000002",
        "tokens": {"input": 12, "output": 1},
        "cache_hits": 1,
        "queued": None,
        "in_flight": None,
    }


@pytest.mark.parametrize(
    ("state", "count"),
    [("completed", "ok"), ("discarded", "failed"), ("expired", "failed"),
     ("cancelled", "cancelled"), ("retryable", None), ("executing", None)],
)  # fmt: skip
def test_a_job_counts_once_however_often_it_ran(state, count) -> None:
    run = {"job": "job_1", "request_id": "req_job_1.1"}
    [point] = points_of(
        failed(NOW, **run),
        stop(NOW, "cancelled", **run),
        stop(NOW, duration_ms=7.0, **run),
        job(NOW, state),
    )
    counts = {name: point[name] for name in ("ok", "failed", "cancelled")}
    assert counts == {"ok": 0, "failed": 0, "cancelled": 0} | (
        {count: 1} if count else {}
    )
    assert point["duration_ms"] == {"p50": 7.0, "p95": 7.0}


def test_points_follow_one_another_without_a_gap_or_a_repetition() -> None:
    points = Points(NOW)
    assert points.close(NOW + 1.9) == []
    seen = [
        point["at"] - NOW for now in (3, 3.5, 9, 9) for point in points.close(NOW + now)
    ]
    assert seen == [0, 2, 4, 6]


def test_the_history_begins_with_the_first_event_and_ends_with_the_last_point() -> None:
    points = Points(NOW)
    assert points.history() == []
    points.take(stop(NOW - 11))
    points.take(stop(NOW + 0.5))
    assert [point["at"] - NOW for point in points.history()] == [
        -12,
        -10,
        -8,
        -6,
        -4,
        -2,
    ]
    points.close(NOW + 2)
    assert [point["ok"] for point in points.history()] == [1, 0, 0, 0, 0, 0, 1]


def test_an_event_that_comes_late_is_in_the_history() -> None:
    points = Points(NOW)
    points.take(stop(NOW - 11))
    points.history()
    points.take(stop(NOW - 11))
    assert points.history()[0]["ok"] == 2


def test_half_an_hour_is_kept_and_no_more() -> None:
    points = Points(NOW)
    for second in range(4000):
        points.take(stop(NOW + second))
        points.close(NOW + second)
    history = points.history()
    assert len(history) == 900
    assert all(point["ok"] == 2 for point in history)
    points.take(stop(NOW))
    points.take(stop(NOW + 1e6))
    assert points.history() == history
    assert len(points._buckets) <= 901


def test_a_clock_that_jumps_ahead_floods_nobody() -> None:
    points = Points(NOW)
    assert len(points.close(NOW + 1e6)) == 900
    assert points.close(NOW) == []


def test_what_waits_and_runs_is_that_of_the_last_look() -> None:
    points = Points(NOW)
    depth = {"high": 1, "normal": 2, "low": 3}
    points.look(NOW, None, 1)
    points.look(NOW + 1, depth, 4)
    [point, *_] = points.close(NOW + 4)
    assert (point["queued"], point["in_flight"]) == (depth, 4)
    [_, later] = points.history()
    assert later["queued"] is None


@given(st.lists(st.decimals("0", "1e9", places=12), max_size=20))
def test_money_is_exact(amounts) -> None:
    [point] = points_of(*(cost(NOW, str(amount)) for amount in amounts))
    assert Decimal(point["cost_usd"]) == sum(amounts)
    assert "E" not in point["cost_usd"]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_percentiles_are_by_nearest_rank(values) -> None:
    sample = Sample()
    for value in values:
        sample.add(value)
    its = sample.percentiles()
    assert its is not None
    for percent in (50, 95):
        found = its[f"p{percent}"]
        # The smallest value that so many per cent do not exceed.
        enough = [
            v
            for v in values
            if sum(w <= v for w in values) * 100 >= percent * len(values)
        ]
        assert found == min(enough)


@pytest.mark.parametrize("count", [SAMPLE_MAX, SAMPLE_MAX + 1, 5000, 100_000])
def test_a_busy_point_keeps_few_values_from_all_of_its_time(count) -> None:
    sample = Sample()
    for value in range(count):
        sample.add(value)
    assert SAMPLE_MAX / 2 < len(sample.values) <= SAMPLE_MAX
    steps = {b - a for a, b in zip(sample.values, sample.values[1:], strict=False)}
    assert len(steps) == 1
    assert sample.values[-1] >= count - 2 * math.ceil(count / SAMPLE_MAX) - 1


@pytest.mark.parametrize("at", [None, "now", {}])
def test_an_event_without_a_time_is_left_out(at) -> None:
    assert points_of(stop(at))[0]["ok"] == 0
