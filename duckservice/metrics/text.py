"""Samples as the text that Prometheus reads; imports prometheus-client, so import late."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric as Family,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from duckservice.metrics.histogram import Histogram
from duckservice.metrics.table import METRICS, Metric, Sample, Samples

_OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0"


def render(samples: Samples, accept: str) -> tuple[bytes, str]:
    """Return *samples* and their content type, in the format that *accept* prefers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(samples))
    # The library takes a part of the header into its answer: it gets our words only.
    wants_open = "application/openmetrics-text" in accept
    encode, content_type = choose_encoder(_OPEN_METRICS if wants_open else "")
    return encode(registry), content_type


class _Snapshot(Collector):
    """What was read once, for one answer."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Family]:
        for its in METRICS:
            if its.name in self._samples:
                yield _family(its, self._samples[its.name])


def _family(its: Metric, samples: Iterable[Sample]) -> Family:
    if its.kind == "histogram":
        return _histograms(its, samples)
    # The library adds the `_total` of a counter.
    make = CounterMetricFamily if its.kind == "counter" else GaugeMetricFamily
    family = make(its.name.removesuffix("_total"), its.help, labels=its.labels)
    for labels, value in samples:
        assert not isinstance(value, Histogram), "the table says that it is a number"
        family.add_metric(labels, value)
    return family


def _histograms(its: Metric, samples: Iterable[Sample]) -> Family:
    family = HistogramMetricFamily(its.name, its.help, labels=its.labels)
    for labels, value in samples:
        assert isinstance(value, Histogram), "the table says so"
        buckets = [
            ("+Inf" if le == inf else repr(le), float(n)) for le, n in value.cumulated()
        ]
        family.add_metric(labels, buckets, value.sum)
    return family
