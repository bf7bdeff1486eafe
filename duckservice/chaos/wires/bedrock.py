"""Bedrock's Converse: a stream is AWS's binary event stream."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from typing import Final

from duckservice.chaos.wire import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Complaint,
    Json,
    Refusal,
    Streamed,
    Wire,
)

_USAGE: Final = {
    "inputTokens": INPUT_TOKENS,
    "outputTokens": OUTPUT_TOKENS,
    "totalTokens": INPUT_TOKENS + OUTPUT_TOKENS,
}
_TEXT_HEADER: Final = 7
_FRAME_BYTES: Final = 16
"""Of a message besides its headers and payload: two lengths, two checksums."""


def _whole(text: str) -> Json:
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": "end_turn",
        "usage": _USAGE,
        "metrics": {"latencyMs": 1},
    }


def _stream(words: Sequence[str]) -> Streamed:
    return Streamed(
        begin=_event("messageStart", {"role": "assistant"}),
        words=tuple(map(_delta, words)),
        end=_event("contentBlockStop", {"contentBlockIndex": 0})
        + _event("messageStop", {"stopReason": "end_turn"})
        + _event("metadata", {"usage": _USAGE, "metrics": {"latencyMs": 1}}),
    )


def _delta(word: str) -> bytes:
    return _event(
        "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}}
    )


def _event(kind: str, value: Json) -> bytes:
    return _message({":message-type": "event", ":event-type": kind}, value)


def _message(headers: dict[str, str], value: Json) -> bytes:
    head = b"".join(
        _text_header(*header)
        for header in (headers | {":content-type": "application/json"}).items()
    )
    payload = json.dumps(value).encode()
    lengths = struct.pack(">II", _FRAME_BYTES + len(head) + len(payload), len(head))
    checked = lengths + _checksum(lengths) + head + payload
    return checked + _checksum(checked)


def _text_header(name: str, value: str) -> bytes:
    size = struct.pack(">BH", _TEXT_HEADER, len(value))
    return bytes([len(name)]) + name.encode() + size + value.encode()


def _checksum(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def _refuse(complaint: Complaint, key: str) -> Refusal:
    status, kind, message = {
        "rate": (429, "ThrottlingException", "Too many requests, please wait."),
        "quota": (
            400,
            "ServiceQuotaExceededException",
            "Your account has reached its quota.",
        ),
        "server": (500, "InternalServerException", "Internal server error."),
        "overloaded": (503, "ServiceUnavailableException", "Bedrock is overloaded."),
        "key": (
            403,
            "UnrecognizedClientException",
            f"The security token {key} is invalid.",
        ),
        "context": (400, "ValidationException", "Input is too long for the model."),
        "filter": (400, "ValidationException", "The prompt was flagged by moderation."),
    }[complaint]
    headers = {"x-amzn-errortype": kind}
    return Refusal(status=status, body={"message": message}, headers=headers)


def _is_stream(target: str, _body: Json) -> bool:
    return target.endswith("/converse-stream")


WIRE: Final = Wire(
    name="bedrock",
    whole=_whole,
    stream=_stream,
    media="application/vnd.amazon.eventstream",
    refuse=_refuse,
    failed_stream=_message(
        {
            ":message-type": "exception",
            ":exception-type": "internalServerException",
        },
        {"message": "Internal server error."},
    ),
    failed_whole={"message": "Internal server error."},
    is_stream=_is_stream,
)
