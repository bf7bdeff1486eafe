"""The pictures of the mock provider: one square of one colour, as PNG."""

from __future__ import annotations

import hashlib
import struct
import zlib
from base64 import b64encode
from typing import Final

SIDE: Final = 8
"""In pixels."""


def png(text: str) -> str:
    """Return a PNG in base64, in a colour that depends on nothing but *text*."""
    colour = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=3).digest()
    rows = (b"\0" + colour * SIDE) * SIDE  # each begins with its filter: none
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)  # 8 bits, red green blue
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)
    return b64encode(data).decode()


def _chunk(name: bytes, data: bytes) -> bytes:
    return (
        struct.pack(">I", len(data))
        + name
        + data
        + struct.pack(">I", zlib.crc32(name + data))
    )
