"""Claude behind Vertex AI: Anthropic's format, with its version in the body.

Its model is named by the path, except where tokens are counted.
"""

from __future__ import annotations

from typing import Final

import msgspec

VERSION: Final = "vertex-2023-10-16"
"""What stands in for the header ``anthropic-version``."""

COUNTER: Final = "publishers/anthropic/models/count-tokens:rawPredict"

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode
_VERSION: Final = msgspec.Raw(_encode(VERSION))


def method(*, stream: bool) -> str:
    """Return what a chat asks of a model."""
    return "streamRawPredict" if stream else "rawPredict"


def rewrapped(body: bytes, *, with_model: bool = False) -> bytes:
    """Return Anthropic's *body* as Vertex wants it, the rest of it untouched."""
    fields = _members.decode(body)
    if not with_model:
        fields.pop("model", None)
    fields["anthropic_version"] = _VERSION
    return _encode(fields)
