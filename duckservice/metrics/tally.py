"""What metrics are counted from events, as they happen: plain counts, no Prometheus.

All names that become labels come through `Labels`: a client can name a million
models, but not make a million time series.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias, cast, final

import attrs

import supervisors
from duckservice.core.job import FINAL
from duckservice.event_stream.words import ActorEvent, actor_event
from duckservice.events import (
    AttemptEnded,
    BreakerMoved,
    Event,
    JobMoved,
    RequestEnded,
    RequestStarted,
)
from duckservice.metrics.histogram import SECONDS, WAITS, Histogram
from duckservice.redaction import holds_secret

LABELS_MAX: Final = 200
"""So many models are told apart."""
LABEL_CHARS_MAX: Final = 100
OTHER: Final = "other"
UNKNOWN: Final = "unknown"
OPERATIONS_KEPT: Final = 4096
ENDED_KEPT: Final = 1000
DYNAMIC: Final = frozenset({"dispatcher/jobs", "batches/runs"})
"""The supervisors whose children come and go, and are named for jobs and batches."""

Counts: TypeAlias = dict[tuple[str, ...], int]
Histograms: TypeAlias = dict[tuple[str, ...], Histogram]

_FINAL: Final = frozenset(state.value for state in FINAL)
_ENDS: Final = frozenset({"crashed", "killed", "normal", "shutdown", "start_failed"})


@final
@attrs.define(eq=False)
class Labels:
    """The names that were seen first, and one for all others."""

    _seen: dict[str, str] = attrs.field(factory=dict[str, str])

    def of(self, name: str) -> str:
        """Return *name*, or what stands for it."""
        known = self._seen.get(name)
        if known is not None:
            return known
        if not name:
            return UNKNOWN
        full = len(self._seen) >= LABELS_MAX
        if full or len(name) > LABEL_CHARS_MAX or holds_secret(name):
            return OTHER
        label = self._seen[name] = name.encode("utf-8", "backslashreplace").decode()
        return label


def _histograms(bounds: tuple[float, ...]) -> Callable[[], Histograms]:
    return lambda: defaultdict(partial(Histogram, bounds))


def _counts() -> Counts:
    return defaultdict(int)


@final
@attrs.define(eq=False)
class Tally:
    """Counts since the start of the process; see docs/metrics.md for each."""

    models: Labels = attrs.field(factory=Labels)
    requests: Counts = attrs.field(factory=_counts)
    """By operation and outcome."""
    jobs: Counts = attrs.field(factory=_counts)
    """By outcome and model."""
    waits: Histograms = attrs.field(factory=_histograms(WAITS))
    """By priority."""
    attempts: Counts = attrs.field(factory=_counts)
    """By provider and outcome."""
    durations: Histograms = attrs.field(factory=_histograms(SECONDS))
    """By provider, model and operation."""
    first_chunks: Histograms = attrs.field(factory=_histograms(SECONDS))
    """By provider and model."""
    limiter_waits: Histograms = attrs.field(factory=_histograms(SECONDS))
    """By provider."""
    breaker_moves: Counts = attrs.field(factory=_counts)
    """By provider and the phase that it went to."""
    restarts: Counts = attrs.field(factory=_counts)
    """By actor and reason."""
    _operations: OrderedDict[str, str] = attrs.field(factory=OrderedDict[str, str])
    """Of the newest requests, by job: an attempt does not say what it was for."""
    _ended: OrderedDict[str, str] = attrs.field(factory=OrderedDict[str, str])
    """How actors ended that have not been started again (yet)."""

    def add(self, event: Event) -> None:
        """Count *event*; called for each one, and fast."""
        count = _COUNT.get(event.__class__)
        if count is not None:
            count(self, event)

    def copy(self) -> Tally:
        """Return one that stays as this one is now."""
        twin = Tally()
        for field in attrs.fields(Tally):
            value = getattr(self, field.name)
            if field.name in _HISTOGRAMS:
                value = {labels: its.copy() for labels, its in value.items()}
            elif field.name in _COUNTS:
                value = dict(value)
            setattr(twin, field.name, value)
        return twin

    def _started(self, event: RequestStarted) -> None:
        if event.operation:
            self._operations[event.job] = event.operation
            if len(self._operations) > OPERATIONS_KEPT:
                self._operations.popitem(last=False)

    def _request(self, event: RequestEnded) -> None:
        self.requests[event.operation or UNKNOWN, event.outcome] += 1

    def _attempt(self, event: AttemptEnded) -> None:
        provider, model = event.provider, self.models.of(event.model)
        operation = self._operations.get(event.job, UNKNOWN)
        self.attempts[provider, event.outcome] += 1
        self.durations[provider, model, operation].add(event.duration)
        if event.first_byte is not None:
            self.first_chunks[provider, model].add(event.first_byte)
        self.limiter_waits[provider,].add(event.queued)

    def _job(self, event: JobMoved) -> None:
        if event.waited is not None:
            self.waits[event.priority,].add(event.waited)
        if event.state in _FINAL:
            self.jobs[event.state, self.models.of(event.model)] += 1

    def _breaker(self, event: BreakerMoved) -> None:
        self.breaker_moves[event.provider, event.now] += 1

    def _actor(self, event: supervisors.Event) -> None:
        its = actor_event(event)
        if its is None:
            return
        if its.what in _ENDS:
            self._ended[its.actor] = its.reason or its.what
            if len(self._ended) > ENDED_KEPT:
                self._ended.popitem(last=False)
        elif its.what == "started":
            self._restarted(its)

    def _restarted(self, its: ActorEvent) -> None:
        # Restarted without an end of its own: because another one had ended.
        reason = self._ended.pop(its.actor, "sibling")
        self.restarts[actor_label(its.actor), reason] += 1


def actor_label(path: str) -> str:
    """Return the path of an actor, without the ids of jobs and batches."""
    parent, _, _ = path.rpartition("/")
    return f"{parent}/*" if parent in DYNAMIC else path or "root"


_COUNT: Final = cast(
    "dict[type, Callable[[Tally, Any], None]]",
    {
        RequestStarted: Tally._started,  # noqa: SLF001 - of this very class
        RequestEnded: Tally._request,  # noqa: SLF001 - as above
        AttemptEnded: Tally._attempt,  # noqa: SLF001 - as above
        JobMoved: Tally._job,  # noqa: SLF001 - as above
        BreakerMoved: Tally._breaker,  # noqa: SLF001 - as above
        supervisors.ChildStarted: Tally._actor,  # noqa: SLF001 - as above
        supervisors.ChildTerminated: Tally._actor,  # noqa: SLF001 - as above
        supervisors.StartError: Tally._actor,  # noqa: SLF001 - as above
    },
)
_HISTOGRAMS: Final = frozenset({"waits", "durations", "first_chunks", "limiter_waits"})
_COUNTS: Final = frozenset(
    {"requests", "jobs", "attempts", "breaker_moves", "restarts"}
)
