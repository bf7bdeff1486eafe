"""What the readers of JSON bodies and of the configuration must keep to."""

from __future__ import annotations

import json
from typing import Final

import msgspec

from duckservice.config import ConfigError
from duckservice.config_toml.load import parse_text
from duckservice.errors import DuckError, InvalidRequest
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.fields import DEPTH_MAX, decode_object, is_deeper_than
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.gateway.wire.openai_embeddings import decode_embedding
from duckservice.gateway.wire.openai_images import decode_image_request
from duckservice.gateway.wire.openai_responses import decode_responses

DECODERS: Final = (
    decode_chat,
    decode_messages,
    decode_responses,
    decode_embedding,
    decode_image_request,
)

SECRET: Final = "sk-a-secret-of-the-environment-5d1f"


def bodies(given: bytes) -> None:
    """A body is JSON that can be written again, or refused with a typed error.

    The first byte chooses the endpoint that reads it then.
    """
    decode, body = DECODERS[given[0] % len(DECODERS) if given else 0], given[1:]
    try:
        fields = decode_object(body)
    except InvalidRequest as refusal:
        str(refusal).encode()
        fields = None
    if fields is not None:
        assert not is_deeper_than(fields, DEPTH_MAX)
        msgspec.json.encode(fields)
        json.dumps(fields, allow_nan=False).encode()
    try:
        decode(body)
    except DuckError as refusal:
        str(refusal).encode()
    else:
        assert fields is not None


def toml(given: bytes) -> None:
    """A configuration is understood, or refused with complaints that quote no secret."""
    try:
        text = given.decode("utf-8-sig")
    except UnicodeDecodeError:
        return
    environ = {"KEY": SECRET}
    try:
        config = parse_text(text, file="f.toml", environ=environ, private=True)
    except ConfigError as refusal:
        said = str(refusal)
    else:
        said = repr(config)
    assert SECRET not in said
