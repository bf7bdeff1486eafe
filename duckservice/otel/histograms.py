"""Events to the histograms that OpenTelemetry's conventions ask of a GenAI client.

They are of requests to providers, each by itself: an attempt that failed counts with
its ``error.type``, and the one that stood in for it counts as well.
"""

from __future__ import annotations

from typing import Self, final

import attrs
from opentelemetry.metrics import Histogram, Meter

from duckservice.events import AttemptEnded
from duckservice.metrics.tally import Labels
from duckservice.otel import names
from duckservice.otel.places import Places


@final
@attrs.define(eq=False)
class Histograms:
    """Counts attempts."""

    _places: Places
    _duration: Histogram
    _tokens: Histogram
    _first_chunk: Histogram
    _per_chunk: Histogram
    _models: Labels = attrs.field(factory=Labels)
    """A client can name a million models, but not make a million time series."""
    _served: Labels = attrs.field(factory=Labels)

    @classmethod
    def of(cls, meter: Meter, places: Places) -> Self:
        """Make them; *places* is what is known of each provider."""

        def seconds(name: str, about: str) -> Histogram:
            return meter.create_histogram(
                name,
                unit="s",
                description=about,
                explicit_bucket_boundaries_advisory=names.SECONDS_BOUNDS,
            )

        return cls(
            places,
            seconds(names.DURATION_METRIC, "Duration of a request to a provider."),
            meter.create_histogram(
                names.TOKENS_METRIC,
                unit="{token}",
                description="Tokens that a request has used, as its provider says.",
                explicit_bucket_boundaries_advisory=names.TOKENS_BOUNDS,
            ),
            seconds(names.FIRST_CHUNK_METRIC, "Time to the first of a streamed reply."),
            seconds(
                names.PER_CHUNK_METRIC,
                "Time between two pieces of a streamed reply: the mean of each reply.",
            ),
        )

    def take(self, event: AttemptEnded) -> None:
        """Count an attempt."""
        its = self._places.of(event.provider) | {
            names.OPERATION: event.operation or "chat",
            names.REQUEST_MODEL: self._models.of(event.model),
        }
        if event.served_model:
            its[names.RESPONSE_MODEL] = self._served.of(event.served_model)
        used = {"input": event.input_tokens, "output": event.output_tokens}
        # What is only our own guess is no usage.
        for kind, count in () if event.estimated else used.items():
            if count:
                self._tokens.record(count, {**its, names.TOKEN_TYPE: kind})
        if event.outcome not in {"ok", "cancelled"}:
            its[names.ERROR] = event.outcome
        self._duration.record(event.duration, its)
        if event.pieces and event.first_byte is not None:
            self._first_chunk.record(event.first_byte, its)
            if event.pieces > 1:
                rest = max(0.0, event.duration - event.first_byte)
                self._per_chunk.record(rest / (event.pieces - 1), its)
