"""Real provider traffic, where it is present, as records for tests to replay.

The folder is ``shared/recordings`` beside the project, or ``$DUCK_RECORDINGS``.
"""

from __future__ import annotations

import base64
import functools
import gzip
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

FOLDER = Path(
    os.environ.get(
        "DUCK_RECORDINGS",
        Path(__file__).parents[2] / "shared" / "recordings",
    )
)

needs_recordings = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}"
)


@attrs.frozen(kw_only=True, repr=False)
class Record:
    """One HTTP exchange; the README of the recordings names the fields."""

    id: str
    provider: str
    api: str
    operation: str
    base_operation: str
    """What was asked for; ``operation`` is ``error`` where that failed."""
    streaming: bool
    request: dict[str, Any]
    response: dict[str, Any]
    expected: dict[str, Any] | None
    provenance: str

    def __repr__(self) -> str:
        return f"<{self.provider} {self.operation} {self.id}>"


@functools.cache
def load(provider: str) -> tuple[Record, ...]:
    """Return all records of *provider*, the name of a file in the folder."""
    return tuple(read(FOLDER / f"{provider}.jsonl.gz"))


def read(file: Path) -> Iterator[Record]:
    """Yield the records in *file*."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield _record(json.loads(line))


def _record(fields: dict[str, Any]) -> Record:
    return Record(
        id=fields["id"],
        provider=fields["provider"],
        api=fields["api"],
        operation=fields["operation"],
        base_operation=fields.get("base_operation", fields["operation"]),
        streaming=fields["streaming"],
        request=fields["request"],
        response=fields["response"],
        expected=fields.get("expected"),
        provenance=fields["provenance"],
    )


def response_parts(record: Record) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers (lower-case names) and body of the answer."""
    response = record.response
    headers = {k.lower(): v for k, v in (response.get("headers") or {}).items()}
    if "body_base64" in response:
        body = base64.b64decode(response["body_base64"])
    elif "body_text" in response:
        body = response["body_text"].encode()
    else:
        body = json.dumps(response.get("body"), ensure_ascii=False).encode()
    return response["status"], headers, body


def sse_bytes(record: Record) -> bytes:
    """Return the bytes of a streamed answer."""
    assert "body_text" in record.response
    return response_parts(record)[2]


def cut(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """Cut *data* into pieces of 1 to some hundred bytes, as a network might."""
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 7, 60, 400))
        yield data[at : at + size]
        at += size
