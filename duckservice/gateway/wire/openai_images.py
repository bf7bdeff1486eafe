"""OpenAI's pictures: the body read, the reply written."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from duckservice.completion import GeneratedImage, ImageRequest, Images, Usage
from duckservice.gateway.wire.fields import (
    Fields,
    decode_object,
    extras,
    flag,
    integer,
    refused,
    required_name,
    required_text,
    text,
    unknown,
)

_TOP = frozenset(
    {
        "model",
        "prompt",
        "n",
        "size",
        "quality",
        "response_format",
        "user",
        "stream",
        "partial_images",
    }
)

_encode = msgspec.json.Encoder().encode


def decode_image_request(body: bytes) -> ImageRequest:
    """Read a body of ``/v1/images/generations``; raise only `InvalidRequest`.

    ``stream`` and ``partial_images`` are refused where they ask for something.
    """
    fields = decode_object(body)
    _refuse_streaming(fields)
    return ImageRequest(
        model=required_name(fields, "model", ""),
        prompt=required_text(fields, "prompt", ""),
        n=integer(fields, "n", "", least=1),
        size=text(fields, "size", ""),
        quality=text(fields, "quality", ""),
        response_format=_response_format(fields),
        user=text(fields, "user", ""),
        extra=extras(fields, _TOP),
    )


def encode_images(images: Images, *, now: float = 0.0) -> bytes:
    """Write the body of a reply of ``/v1/images/generations``.

    *now*, in seconds since the epoch, is used where the provider did not say when it
    answered. Where it did not say what it used, there is no ``usage``.
    """
    body: dict[str, Any] = {
        "created": images.created or int(now),
        "data": [_picture(picture) for picture in images.images],
        **images.extra,
    }
    if images.usage.total_tokens:
        body["usage"] = _usage(images.usage)
    return _encode(body)


def _refuse_streaming(fields: Fields) -> None:
    why = "pictures come whole here; leave it out"
    if flag(fields, "stream", ""):
        raise refused("stream", why)
    if integer(fields, "partial_images", ""):
        raise refused("partial_images", why)


def _response_format(fields: Fields) -> Literal["url", "b64_json"] | None:
    word = text(fields, "response_format", "")
    match word:
        case None | "url" | "b64_json":
            return word
        case _:
            raise unknown("response_format", word, "url, b64_json")


def _picture(picture: GeneratedImage) -> dict[str, str]:
    fields = {
        "b64_json": picture.data,
        "url": picture.url,
        "revised_prompt": picture.revised_prompt,
        "mime_type": picture.media_type,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "text_tokens": usage.input_tokens,
            "image_tokens": 0,
            "cached_tokens": usage.cached_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {
            "text_tokens": usage.output_tokens - usage.image_tokens,
            "image_tokens": usage.image_tokens,
        },
        "total_tokens": usage.total_tokens,
    }
