"""OpenTelemetry: what happens in the service, as traces and metrics for a collector.

    event hub ◀── exporter ──▶ spans ──┐
     (a reader's place in it) └▶ histograms ──▶ sender ──▶ a thread ──▶ OTLP over HTTP

The exporter is one reader of the event hub among others. A request neither waits for
it nor knows of it, and where no endpoint is configured, nothing of this is imported.

`settings`, `names` and `traceparent` are plain Python; the other files need the extra
``otel``, and are imported by `exporter.telemetry_child` once telemetry is on.
"""
