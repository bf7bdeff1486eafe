"""A provider's performance as JSON has it: times in milliseconds."""

from __future__ import annotations

from typing import Any, TypeAlias

import trio

from duckservice.core.performance import SAMPLES_MAX, WINDOW, PerformanceMonitor
from duckservice.core.performance_figures import Counts, Spread, Statistics

Json: TypeAlias = dict[str, Any]


async def performance_fields(monitor: PerformanceMonitor) -> Json:
    """Return the figures of a provider, and of each of its models.

    Others have their turn in between: a thousand attempts take a while to sort.
    """
    whole = _fields(monitor.statistics(trio.current_time()))
    by_model: Json = {}
    for model in monitor.models():
        await trio.lowlevel.checkpoint()
        by_model[model] = _fields(monitor.statistics(trio.current_time(), model))
    return {"performance": whole, "by_model": by_model}


def _fields(its: Statistics) -> Json:
    outlook = its.outlook
    return {
        "window_s": WINDOW,
        **_counts(its.window),
        "sample_full": its.window.requests >= SAMPLES_MAX < its.ever.requests,
        **_times("latency_ms", its.latency),
        **_times("time_to_first_token_ms", its.first_token),
        "tokens_per_second": _rounded(its.tokens_per_second, 1),
        "recent_latency_ms": _milliseconds(outlook.latency_ewma),
        "recent_time_to_first_token_ms": _milliseconds(outlook.ttft_ewma),
        "recent_age_s": _rounded(outlook.age, 3),
        "since_start": _counts(its.ever),
    }


def _counts(its: Counts) -> Json:
    return {
        "requests": its.requests,
        "successes": its.successes,
        "failures": its.failed,
        "success_rate": _rounded(its.success_rate, 4),
        "failures_by_code": dict(its.failures),
        "not_counted": dict(its.not_counted),
    }


def _times(name: str, its: Spread | None) -> Json:
    return {
        f"average_{name}": None if its is None else _milliseconds(its.average),
        f"p50_{name}": None if its is None else _milliseconds(its.p50),
        f"p90_{name}": None if its is None else _milliseconds(its.p90),
        f"p99_{name}": None if its is None else _milliseconds(its.p99),
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
