"""What happens, and what has happened in sum, in the document: events and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from duckservice.event_stream.words import WORDS
from duckservice.gateway.app.openapi.insight import AREA
from duckservice.gateway.app.openapi.operations import Operation
from duckservice.gateway.app.openapi.parts import (
    Json,
    answer,
    array,
    in_query,
    parameter,
    since,
    string,
    word,
)

_EVENTS: Final = (
    "Each event's `event` is its type, and its `data` an object with `type`, `at`"
    " (seconds since the epoch) and what belongs to that type, on one line. A `gap`"
    " says how many events were `missed`. The stream ends when the daemon drains:"
    " come back with `Last-Event-ID`."
)

OPERATIONS: Final = (
    Operation(
        method="get",
        path="/v1/events",
        name="followEvents",
        area=AREA,
        summary="Follow what happens",
        about=_EVENTS,
        parameters=[
            in_query(
                "types",
                "Only these; several times, or with commas.",
                array(word(*WORDS)),
            ),
            in_query("since", "Begin there.", since()),
            parameter(
                "header",
                "Last-Event-ID",
                string(pattern="^[0-9a-f]{1,16}-[0-9]{1,16}$"),
                "The id of the last event that you have: the stream goes on after it.",
            ),
        ],
        answers={
            200: answer("Server-sent events.", None, "Duck-Last-Event-Id", sse={})
        },
        admin=True,
    ),
    Operation(
        method="get",
        path="/metrics",
        name="getMetrics",
        area=AREA,
        summary="Show all metrics, for Prometheus",
        answers={
            200: answer(
                "In Prometheus' format, or OpenMetrics where it is asked for.",
                plain=string(),
                openmetrics=string(),
            )
        },
        admin=True,
    ),
)

SCHEMAS: Final[Mapping[str, Json]] = {}
