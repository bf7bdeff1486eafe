"""Every metric with its labels and its help: what /metrics shows, in this order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import attrs

from duckservice.metrics.histogram import Histogram

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Sample: TypeAlias = tuple[tuple[str, ...], float | Histogram]
"""The values of the labels, and the value."""
Samples: TypeAlias = Mapping[str, Sequence[Sample]]
"""By metric; one that is not there could not be read this time."""


@attrs.frozen
class Metric:
    """One metric."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _metric(name: str, kind: Kind, labels: str, text: str) -> Metric:
    return Metric(f"duck_{name}", kind, tuple(labels.split()), text)


_PROVIDER: Final = "provider model"

METRICS: Final = (
    _metric("build_info", "gauge", "version", "Always 1; which version runs."),
    _metric("uptime_seconds", "gauge", "", "Seconds since the service was started."),
    _metric(
        "draining", "gauge", "", "1 while nothing new is taken, before the end; else 0."
    ),
    _metric("requests_in_flight", "gauge", "", "Requests under way."),
    _metric(
        "requests_finished_total",
        "counter",
        "operation outcome",
        "Requests that are over: ok, cancelled, or the code of the error.",
    ),
    _metric("jobs", "gauge", "state", "Durable jobs in the store, by state."),
    _metric(
        "jobs_finished_total",
        "counter",
        "outcome model",
        "Durable jobs that came to a final state; model unknown: it expired waiting.",
    ),
    _metric(
        "job_wait_seconds",
        "histogram",
        "priority",
        "How long durable jobs waited, from their due time to each claim.",
    ),
    _metric("queue_waiting", "gauge", "priority", "Requests that wait for a turn."),
    _metric("queue_running", "gauge", "provider", "Requests that have a turn."),
    _metric("queue_paused", "gauge", "", "1 while the queue is paused, else 0."),
    _metric(
        "provider_attempts_total",
        "counter",
        "provider outcome",
        "Requests to providers that are over: ok, cancelled, or the code of the error.",
    ),
    _metric(
        "provider_request_duration_seconds",
        "histogram",
        f"{_PROVIDER} operation",
        "From the permission to the end of the reply, however it ended.",
    ),
    _metric(
        "provider_time_to_first_chunk_seconds",
        "histogram",
        _PROVIDER,
        "From the permission to the first of the reply.",
    ),
    _metric(
        "tokens_total",
        "counter",
        f"{_PROVIDER} type",
        "Tokens; cached, cache_write and reasoning are parts of input and output.",
    ),
    _metric("cost_usd_total", "counter", _PROVIDER, "What was spent, in USD."),
    _metric("budget_limit_usd", "gauge", "budget", "The limit of the budget, in USD."),
    _metric(
        "budget_remaining_usd",
        "gauge",
        "budget",
        "What is neither spent nor reserved in the present window, in USD.",
    ),
    _metric(
        "budget_reserved_usd",
        "gauge",
        "budget",
        "What requests under way may cost at most, in USD.",
    ),
    _metric(
        "breaker_state",
        "gauge",
        "provider",
        "0 closed, 1 half open, 2 open, 3 disabled; the worst, where models have theirs.",
    ),
    _metric(
        "breaker_transitions_total",
        "counter",
        "provider to",
        "Moves of circuit breakers, by the state that they went to.",
    ),
    _metric(
        "limiter_available",
        "gauge",
        "provider kind",
        "What the rate limit has left: requests, tokens; absent where unlimited.",
    ),
    _metric(
        "limiter_wait_seconds",
        "histogram",
        "provider",
        "How long attempts waited for a turn and for the rate limit together.",
    ),
    _metric(
        "actor_restarts_total",
        "counter",
        "actor reason",
        "Restarts; the reason is the exception's type, or sibling: another one ended.",
    ),
    _metric("actor_mailbox_depth", "gauge", "actor", "Messages that wait."),
    _metric("store_up", "gauge", "", "1 while the store can do its work, else 0."),
    _metric("store_used_bytes", "gauge", "", "Bytes that hold something, on the disk."),
    _metric(
        "store_commit_seconds",
        "histogram",
        "",
        "From the beginning of a transaction until it was on the disk.",
    ),
    _metric("store_batch_size", "histogram", "", "Writes that shared a commit."),
    _metric(
        "cache_requests_total",
        "counter",
        "result",
        "Requests that the cache was asked for: hit, miss, coalesced.",
    ),
    _metric(
        "loop_lag_seconds",
        "histogram",
        "",
        "How late the event loop was, once a second while somebody scrapes.",
    ),
    _metric("events_total", "counter", "", "Events for /v1/events since the start."),
    _metric("event_readers", "gauge", "", "Who follows /v1/events."),
    _metric(
        "telemetry_spans_total",
        "counter",
        "result",
        "Spans for an OpenTelemetry collector: sent, lost; absent where there is none.",
    ),
)


def docs_table() -> str:
    """Return the table of docs/metrics.md."""
    rows = ["| metric | kind | labels | |", "| --- | --- | --- | --- |"]
    for its in METRICS:
        labels = ", ".join(f"`{label}`" for label in its.labels)
        rows.append(f"| `{its.name}` | {its.kind} | {labels} | {its.help} |")
    return "\n".join(rows)
