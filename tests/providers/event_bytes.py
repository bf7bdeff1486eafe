"""Messages of AWS's binary event stream, built by the book, for tests to cut up."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping


def string(name: str, value: str) -> bytes:
    """Return a header that is text."""
    return header(name, 7, struct.pack(">H", len(value.encode())) + value.encode())


def header(name: str, kind: int, value: bytes) -> bytes:
    return bytes([len(name.encode())]) + name.encode() + bytes([kind]) + value


def framed(headers: bytes, payload: bytes) -> bytes:
    """Return a whole message with right lengths and checksums."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    body = prelude + headers + payload
    return body + struct.pack(">I", zlib.crc32(body))


def message(headers: Mapping[str, str], payload: bytes = b"") -> bytes:
    return framed(b"".join(string(k, v) for k, v in headers.items()), payload)


def event(kind: str, value: object) -> bytes:
    return message(
        {
            ":event-type": kind,
            ":content-type": "application/json",
            ":message-type": "event",
        },
        json.dumps(value).encode(),
    )


def exception(kind: str, value: object) -> bytes:
    return message(
        {
            ":exception-type": kind,
            ":content-type": "application/json",
            ":message-type": "exception",
        },
        json.dumps(value).encode(),
    )
