"""A collector on loopback that takes OTLP over HTTP, and decodes what it was sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import attrs
import trio
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from duckservice.config import Config, TelemetryConfig
from duckservice.events import Event
from duckservice.providers.base import Provider
from duckservice.running import RunningService, open_running
from duckservice.tree import Seams
from tests.service.conftest import mock_config
from tests.upstream import Action, Request, Upstream, answer, open_upstream

OFTEN = 0.05
"""Seconds between two exports."""

ERROR = Status.STATUS_CODE_ERROR


@attrs.frozen
class GotSpan:
    """A span as a collector sees it."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    """Empty: it has none."""
    start: float
    end: float
    attributes: dict[str, Any]
    error: bool
    message: str


@attrs.frozen
class GotPoint:
    """What has been counted with the same attributes."""

    attributes: dict[str, Any]
    count: int
    sum: float
    bounds: tuple[float, ...]
    unit: str


@attrs.define
class Collector:
    """What has come in."""

    upstream: Upstream

    @property
    def endpoint(self) -> str:
        return self.upstream.base_url

    def requests(self, path: str) -> list[Request]:
        return [its for its in self.upstream.requests if its.line.split()[1] == path]

    def resources(self) -> list[dict[str, Any]]:
        found = []
        for request in self.requests("/v1/traces"):
            message = ExportTraceServiceRequest.FromString(request.body)
            found += [_plain(its.resource.attributes) for its in message.resource_spans]
        return found

    def spans(self) -> list[GotSpan]:
        found = []
        for request in self.requests("/v1/traces"):
            message = ExportTraceServiceRequest.FromString(request.body)
            for resource in message.resource_spans:
                for scope in resource.scope_spans:
                    assert scope.scope.name == "duckservice"
                    found += [_span(span) for span in scope.spans]
        return found

    def points(self, metric: str) -> list[GotPoint]:
        """Return what the newest batch says of a metric."""
        found = []
        for request in self.requests("/v1/metrics")[-1:]:
            message = ExportMetricsServiceRequest.FromString(request.body)
            for resource in message.resource_metrics:
                for scope in resource.scope_metrics:
                    for its in scope.metrics:
                        if its.name == metric:
                            points = its.histogram.data_points
                            found += [_point(point, its.unit) for point in points]
        return found

    def attempts(self) -> list[GotSpan]:
        return sorted(
            (its for its in self.spans() if its.kind == "CLIENT"),
            key=lambda its: its.start,
        )

    def roots(self) -> list[GotSpan]:
        return [its for its in self.spans() if its.kind != "CLIENT"]

    async def wait_until(self, condition: Callable[[], object]) -> None:
        await self.upstream.wait_until(condition)


def _span(span: Span) -> GotSpan:
    return GotSpan(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        attributes=_plain(span.attributes),
        error=span.status.code == ERROR,
        message=span.status.message,
    )


def _point(point: HistogramDataPoint, unit: str) -> GotPoint:
    its = _plain(point.attributes)
    return GotPoint(its, point.count, point.sum, tuple(point.explicit_bounds), unit)


def _plain(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs
    }


@asynccontextmanager
async def collecting(
    *script: Sequence[Action], limit: float = 20.0
) -> AsyncGenerator[Collector]:
    """Run a collector; *script* says how it answers, else it takes everything."""
    takes = [answer(b"", b"content-type: application/x-protobuf")]
    async with open_upstream(script or [takes], limit=limit) as upstream:
        yield Collector(upstream)


def telling(endpoint: str, *names: str, config: Config | None = None, **more) -> Config:
    """Return a config that has telemetry sent to *endpoint*."""
    its = {"otlp_endpoint": endpoint, "export_interval": OFTEN, **more}
    return attrs.evolve(
        config or mock_config(*(names or ("a",))), telemetry=TelemetryConfig(**its)
    )


@asynccontextmanager
async def running(
    config: Config, **providers: Provider
) -> AsyncGenerator[tuple[RunningService, list[Event]]]:
    """Run a service on the real clocks, as a collector's answers take real time."""
    events = list[Event]()
    seams = Seams(random=Random(1), emit=events.append)
    async with open_running(config, providers=providers, seams=seams) as service:
        yield service, events


async def until(condition: Callable[[], object]) -> None:
    """Wait until *condition* holds of what no event tells; it must come to that."""
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - as above
            await trio.sleep(0.005)
