"""What a job of each kind asks for: its body, which is OpenAI's, read."""

from __future__ import annotations

from typing import assert_never

from duckservice.completion import AnyRequest
from duckservice.core.job import JobKind
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.gateway.wire.openai_embeddings import decode_embedding
from duckservice.gateway.wire.openai_images import decode_image_request


def request_of(kind: JobKind, body: bytes) -> AnyRequest:
    """Return what a job's *body* asks for.

    Raises:
        InvalidRequest: naming the field.
    """
    match kind:
        case "chat":
            return decode_chat(body).request
        case "embedding":
            return decode_embedding(body).request
        case "image":
            return decode_image_request(body)
        case _:
            assert_never(kind)
