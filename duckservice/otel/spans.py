"""Events to spans: one for each request, and below it one for each of its attempts.

    request.start        the trace is chosen, and whether it is kept
    attempt              a span, which has begun as long ago as it has taken
    request.stop         the span that all of them are below

Spans are made when they are over, with the times that they had. The ids of a trace and
of its first span follow from those of the request, so an attempt finds its place also
where the request's start was missed, and all runs of a durable job are in one trace.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from hashlib import blake2b
from typing import Final, final

import attrs
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace.status import Status, StatusCode

from duckservice.core.pricing import PICO_PER_USD
from duckservice.event_stream.hub import Entry
from duckservice.events import AttemptEnded, RequestEnded, RequestStarted
from duckservice.otel import names
from duckservice.otel.places import Attributes, Places
from duckservice.otel.texts import fit, fitting
from duckservice.otel.traceparent import parse_traceparent

OPEN_MAX: Final = 8192
"""So many requests are known at once; the ones begun longest ago are forgotten."""

REQUEST: Final = "duck.request"
JOB_RUN: Final = "duck.job_run"

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_FINE: Final = frozenset({"ok", "cancelled"})
_OK: Final = Status(StatusCode.UNSET)


@attrs.frozen
class _Place:
    """Where a request stands in which trace."""

    context: SpanContext
    parent: SpanContext | None
    """The client's span."""
    kind: SpanKind
    name: str

    @property
    def kept(self) -> bool:
        return self.context.trace_flags.sampled


@final
@attrs.define(eq=False)
class Spans:
    """Makes spans of events, one event at a time."""

    resource: Resource
    scope: InstrumentationScope
    _sampler: Sampler
    _places: Places
    _quotes: bool = False
    """Whether the events' errors may quote providers; then they are left out."""
    _open: OrderedDict[tuple[str, str], _Place] = attrs.field(
        factory=OrderedDict[tuple[str, str], _Place]
    )
    """By the ids of job and request."""

    def take(self, entry: Entry) -> ReadableSpan | None:
        """Return the span that has ended with this event, if one has that is kept."""
        match entry.event:
            case RequestStarted() as event:
                self._begin(event)
                return None
            case AttemptEnded() as event:
                return self._attempt(event, entry.at)
            case RequestEnded() as event:
                return self._request(event, entry.at)
            case _:
                return None

    def _begin(self, event: RequestStarted) -> _Place:
        parent = _context_of(event.traceparent)
        trace_id = _id(16, event.job) if parent is None else parent.trace_id
        kind = SpanKind.INTERNAL
        if not event.runs_job and event.submitter is not None:
            kind = SpanKind.SERVER  # it came over a socket
        name = JOB_RUN if event.runs_job else REQUEST
        around = (
            Context()
            if parent is None
            else set_span_in_context(NonRecordingSpan(parent), Context())
        )
        verdict = self._sampler.should_sample(around, trace_id, name, kind)
        place = _Place(
            context=SpanContext(
                trace_id,
                _id(8, event.job, event.request_id),
                is_remote=False,
                trace_flags=_SAMPLED
                if verdict.decision is Decision.RECORD_AND_SAMPLE
                else TraceFlags.get_default(),
            ),
            parent=parent,
            kind=kind,
            name=name,
        )
        self._open[event.job, event.request_id] = place
        if len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)
        return place

    def _place_of(self, event: AttemptEnded | RequestEnded) -> _Place:
        """Return the request's place; one is chosen where its start was missed."""
        known = self._open.get((event.job, event.request_id))
        if known is not None:
            return known
        return self._begin(
            RequestStarted(job=event.job, request_id=event.request_id, submitter=None)
        )

    def _request(self, event: RequestEnded, at: float) -> ReadableSpan | None:
        # It stays known for a while: an attempt that others wait for, too, outlives it.
        place = self._place_of(event)
        if not place.kept:
            return None
        return self._span(
            place.name,
            place.context,
            place.parent,
            place.kind,
            fitting(_of_request(event)),
            _status(event.outcome),
            at,
            event.duration,
        )

    def _attempt(self, event: AttemptEnded, at: float) -> ReadableSpan | None:
        place = self._place_of(event)
        if not place.kept:
            return None
        operation = event.operation or "chat"
        error = None if self._quotes else event.error
        return self._span(
            fit(f"{operation} {event.model}"),
            SpanContext(
                place.context.trace_id,
                random.getrandbits(64) or 1,
                is_remote=False,
                trace_flags=_SAMPLED,
            ),
            place.context,
            SpanKind.CLIENT,
            self._places.of(event.provider) | fitting(_of_attempt(event)),
            _status(event.outcome, error),
            at,
            event.duration,
        )

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
        status: Status,
        at: float,
        duration: float,
    ) -> ReadableSpan:
        return ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self.resource,
            attributes=attributes,
            kind=kind,
            status=status,
            start_time=int((at - duration) * 1e9),
            end_time=int(at * 1e9),
            instrumentation_scope=self.scope,
        )


def _of_request(event: RequestEnded) -> dict[str, str | int | float | bool | None]:
    return {
        "duck.job.id": event.job,
        "duck.request.id": event.request_id,
        "duck.operation": event.operation,
        "duck.model": event.model,
        "duck.priority": event.priority,
        "duck.outcome": event.outcome,
        "duck.provider": event.provider,
        "duck.served_model": event.served_model,
        "duck.attempts": event.attempts,
        "duck.queue.seconds": event.queued,
        "duck.cost.usd": None if event.cost is None else event.cost / PICO_PER_USD,
        "duck.cost.estimated": event.estimated or None,
        "duck.cache": event.cache,
        names.ERROR: None if event.outcome in _FINE else event.outcome,
    }


def _of_attempt(event: AttemptEnded) -> dict[str, str | int | float | bool | None]:
    streamed = event.pieces > 0
    used = event.input_tokens or event.output_tokens
    return {
        names.OPERATION: event.operation,
        names.REQUEST_MODEL: event.model,
        names.RESPONSE_MODEL: event.served_model,
        names.REQUEST_STREAM: streamed or None,
        names.FIRST_CHUNK: event.first_byte if streamed else None,
        names.INPUT_TOKENS: event.input_tokens if used else None,
        names.OUTPUT_TOKENS: event.output_tokens if used else None,
        names.ERROR: None if event.outcome in _FINE else event.outcome,
        names.STATUS_CODE: event.upstream_status,
        "duck.job.id": event.job,
        "duck.request.id": event.request_id,
        "duck.attempt": event.attempt,
        "duck.why": event.why,
        "duck.outcome": event.outcome,
        "duck.queue.seconds": event.queued,
        "duck.stream.pieces": event.pieces or None,
        "duck.cost.usd": None if event.cost_usd is None else float(event.cost_usd),
        "duck.cost.estimated": event.estimated or None,
    }


def _status(outcome: str, error: str | None = None) -> Status:
    if outcome in _FINE:
        return _OK
    return Status(StatusCode.ERROR, None if error is None else fit(error))


def _context_of(header: str) -> SpanContext | None:
    its = parse_traceparent(header) if header else None
    if its is None:
        return None
    flags = _SAMPLED if its.sampled else TraceFlags.get_default()
    return SpanContext(its.trace_id, its.span_id, is_remote=True, trace_flags=flags)


def _id(size: int, *texts: str) -> int:
    """Return an id of so many bytes that follows from *texts*, and is not 0."""
    data = "\0".join(texts).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=size).digest()) or 1
