"""The SDK's part: what batches of spans and metrics are encoded with, and sent by.

Everything here blocks, and is called in a thread. A request to the collector has the
SDK's own limit (10 seconds, or ``OTEL_EXPORTER_OTLP_TIMEOUT``), tries again within it,
follows no redirect and heeds no proxy and no ``.netrc``.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from typing import Any, Final, Self, final

import attrs
import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from duckservice import __version__
from duckservice.config import TelemetryConfig
from duckservice.otel import names
from duckservice.otel.histograms import Histograms
from duckservice.otel.places import Places
from duckservice.otel.spans import Spans
from duckservice.otel.texts import fit

# Python would print the SDK's warnings where nobody has set up logging, as in a program
# that embeds the service: one for each attempt to send.
logging.getLogger("opentelemetry").addHandler(logging.NullHandler())

REASON_UNKNOWN: Final = "the batch could not be encoded"


class Redirected(requests.RequestException):
    """The collector has answered with a redirect, which is not followed."""


@final
class _Resource(Resource):
    """A resource whose hash is known: the SDK's writes JSON for each span's."""

    _hash: int | None = None

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = super().__hash__()
        return self._hash


@final
class _Session(requests.Session):
    """Remembers why the last request failed: the SDK tells that to its log alone."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.failure = REASON_UNKNOWN

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, as requests' own does."""
        kwargs.update(allow_redirects=False, stream=True)
        try:
            response = super().request(*args, **kwargs)
        except requests.RequestException as error:
            # Not its text: what that quotes is for the collector to choose.
            self.failure = type(error).__name__
            raise
        if response.headers.get("content-length") != "0":
            # It says nothing that we need, and may be of any size or never end. The
            # connection is given up with it; who takes a batch mostly answers nothing.
            response.close()
            response._content = b""  # noqa: SLF001 # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage] # there is no public way not to read it
        self.failure = f"status {response.status_code}"
        if response.is_redirect or 300 <= response.status_code < 400:
            raise Redirected(self.failure)  # the SDK would take it for a success
        return response


@final
class _MetricExporter(OTLPMetricExporter):
    """Remembers whether the last batch was taken: the reader does not tell."""

    taken: bool = True

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float | None = 10_000,
        **_: Any,
    ) -> MetricExportResult:
        """Send *metrics_data*."""
        self.taken = False
        result = super().export(metrics_data, timeout_millis)  # pyright: ignore[reportUnknownMemberType] # the SDK leaves its **kwargs untyped
        self.taken = result is MetricExportResult.SUCCESS
        return result


@final
@attrs.define(eq=False)
class Pipe:
    """From events to the collector, as far as the SDK does it."""

    spans: Spans
    histograms: Histograms
    _span_session: _Session
    _span_exporter: OTLPSpanExporter
    _metric_session: _Session
    _metric_exporter: _MetricExporter
    _metric_reader: PeriodicExportingMetricReader
    _meters: MeterProvider

    @classmethod
    def of(
        cls,
        config: TelemetryConfig,
        places: Places,
        *,
        quotes: bool,
        instance: str,
    ) -> Self:
        """Make it; nothing is sent yet.

        *quotes* says whether the events' errors may quote providers, and *instance* who
        we are among all of our name.
        """
        resource = _resource(config, instance)
        headers = {name: its.reveal() for name, its in config.headers.items()}
        span_session, metric_session = _Session(), _Session()
        metric_exporter = _MetricExporter(
            endpoint=f"{config.otlp_endpoint}/v1/metrics",
            headers=headers,
            session=metric_session,
        )
        # Its thread is not wanted: it collects when it is told to.
        reader = PeriodicExportingMetricReader(
            metric_exporter, export_interval_millis=math.inf
        )
        meters = MeterProvider(
            [reader],
            resource=resource,
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        meter = meters.get_meter(names.SCOPE, __version__)
        sampler = None
        if config.sample_ratio is not None:
            sampler = ParentBasedTraceIdRatio(config.sample_ratio)
        # Only for its sampler, which is the environment's where we have none.
        tracers = TracerProvider(sampler, resource, shutdown_on_exit=False)
        spans = Spans(
            resource,
            InstrumentationScope(names.SCOPE, __version__),
            tracers.sampler,
            places,
            quotes,
        )
        span_exporter = OTLPSpanExporter(
            endpoint=f"{config.otlp_endpoint}/v1/traces",
            headers=headers,
            session=span_session,
        )
        return cls(
            spans,
            Histograms.of(meter, places),
            span_session,
            span_exporter,
            metric_session,
            metric_exporter,
            reader,
            meters,
        )

    def send_spans(self, batch: Sequence[ReadableSpan]) -> str:
        """Send *batch*; return why it was not taken, or nothing if it was."""
        self._span_session.failure = REASON_UNKNOWN
        result = self._span_exporter.export(batch)
        taken = result is SpanExportResult.SUCCESS
        return "" if taken else self._span_session.failure

    def send_metrics(self) -> str:
        """Send all metrics; return why they were not taken, or nothing if they were."""
        self._metric_session.failure = REASON_UNKNOWN
        self._metric_exporter.taken = True  # there may be nothing to be sent
        self._metric_reader.collect()
        return "" if self._metric_exporter.taken else self._metric_session.failure

    def close(self) -> None:
        """Send nothing more; what is being sent gives up as soon as it can."""
        self._span_exporter.shutdown()  # type: ignore[no-untyped-call] # the SDK's
        self._meters.shutdown()


def _resource(config: TelemetryConfig, instance: str) -> Resource:
    """Return who we are, as the config says, else the environment, else by our name."""
    found = Resource.create(
        {
            "service.version": __version__,
            "service.instance.id": instance,
        }
    )
    name = str(found.attributes.get("service.name", ""))
    if config.service_name:
        name = config.service_name
    elif not os.environ.get("OTEL_SERVICE_NAME") and name.startswith("unknown_service"):
        name = names.SERVICE
    return _Resource({**found.attributes, "service.name": fit(name)}, found.schema_url)
