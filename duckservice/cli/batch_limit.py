"""What `--max-tokens` puts into the chats of a batch that set no limit of their own."""

from __future__ import annotations

from typing import Final

import msgspec

from duckservice.batches.lines import LINE_BYTES_MAX, BadLine, BatchLine, RawLine
from duckservice.completion import ChatRequest
from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.fields import decode_object, is_object

_LIMITS: Final = ("max_tokens", "max_completion_tokens")

_encode = msgspec.json.Encoder().encode


def limited(line: RawLine, max_tokens: int | None) -> RawLine:
    """Return *line* of a file of chats, with a limit; as it is, if it has one.

    So is what cannot be read: who reads it says why.
    """
    if max_tokens is None or line.data is None:
        return line
    try:
        fields = decode_object(line.data)
    except InvalidRequest:
        return line
    wrapped = "body" in fields or "url" in fields
    body: object = fields.get("body") if wrapped else fields
    if not is_object(body) or any(body.get(name) is not None for name in _LIMITS):
        return line
    more = {**body, "max_tokens": max_tokens}
    data = _encode({**fields, "body": more} if wrapped else more)
    return RawLine(line.number, data if len(data) <= LINE_BYTES_MAX else None)


def bounded(line: BatchLine) -> BatchLine | BadLine:
    """Return *line*, as a bad one if its reply may have any length, and any cost."""
    request = line.request
    if not isinstance(request, ChatRequest) or request.max_tokens is not None:
        return line
    return BadLine(
        number=line.number,
        message="its cost has no bound without max_tokens, as --max-cost needs it:"
        " give --max-tokens N",
        param="max_tokens",
    )
