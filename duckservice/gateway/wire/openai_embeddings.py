"""OpenAI's embeddings: the body read, the reply written."""

from __future__ import annotations

import sys
from array import array
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from duckservice.completion import EmbeddingRequest, Embeddings
from duckservice.gateway.wire.fields import (
    INTEGER_MAX,
    Fields,
    as_array,
    decode_object,
    extras,
    integer,
    is_array,
    refused,
    required_name,
    text,
    unknown,
    wrong,
)

INPUTS_MAX = 2048

_TOP = frozenset({"model", "input", "dimensions", "user", "encoding_format"})

_encode = msgspec.json.Encoder().encode


@attrs.frozen(kw_only=True)
class EmbeddingWire:
    """A request, and how its reply is to be written."""

    request: EmbeddingRequest
    base64: bool = False
    """Whether a vector is written as base64 of little-endian 32-bit floats."""


def decode_embedding(body: bytes) -> EmbeddingWire:
    """Read a body of ``/v1/embeddings``; raise only `InvalidRequest`."""
    fields = decode_object(body)
    encoding = text(fields, "encoding_format", "")
    if encoding not in {None, "float", "base64"}:
        raise unknown("encoding_format", encoding, "float, base64")
    request = EmbeddingRequest(
        model=required_name(fields, "model", ""),
        input=_inputs(fields),
        dimensions=integer(fields, "dimensions", "", least=1),
        user=text(fields, "user", ""),
        extra=extras(fields, _TOP),
    )
    return EmbeddingWire(request=request, base64=encoding == "base64")


def encode_embeddings(embeddings: Embeddings, *, base64: bool) -> bytes:
    """Write the body of a reply of ``/v1/embeddings``."""
    write = _base64 if base64 else _plain
    return _encode(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": write(vector)}
                for index, vector in enumerate(embeddings.vectors)
            ],
            "model": embeddings.model,
            "usage": {
                "prompt_tokens": embeddings.usage.input_tokens,
                "total_tokens": embeddings.usage.total_tokens,
            },
        }
    )


def _inputs(fields: Fields) -> tuple[str | tuple[int, ...], ...]:
    value = fields.get("input")
    if type(value) is str:
        return (value,)
    if value is None:
        raise refused("input", "is required: a string or an array")
    values = as_array(value, "input")
    if not values:
        raise refused("input", "must not be empty")
    if type(values[0]) is int:
        return (_tokens(values, "input"),)
    if len(values) > INPUTS_MAX:
        raise refused("input", f"must have at most {INPUTS_MAX} values")
    return tuple(
        [_input(value, f"input[{index}]") for index, value in enumerate(values)]
    )


def _input(value: Any, where: str) -> str | tuple[int, ...]:
    if type(value) is str:
        return value
    if is_array(value) and value:
        return _tokens(value, where)
    raise wrong(where, "a string, or an array of token ids", value)


def _tokens(values: list[Any], where: str) -> tuple[int, ...]:
    for index, value in enumerate(values):
        if type(value) is not int or not 0 <= value <= INTEGER_MAX:
            raise wrong(f"{where}[{index}]", "a token id", value)
    return tuple(values)


def _plain(vector: Sequence[float]) -> Sequence[float]:
    return vector


def _base64(vector: Sequence[float]) -> str:
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return b64encode(floats.tobytes()).decode()
