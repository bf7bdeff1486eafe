"""Pictures in OpenAI's format: its ``/images/generations``, and who speaks it.

    {"model", "prompt", "n", "size", "quality", "response_format", "user", ...}
    {"created", "data": [{"b64_json" | "url", "revised_prompt"}], "usage"?}

What the client wrote in this format goes on as it is, and the provider judges it:
its models differ (dall-e-2 has no ``quality``), and new ones have new words. Two
things are known here. OpenAI's GPT image models always answer with base64 and refuse
``response_format``: asked for base64 anyway it is left out, asked for a URL it is
refused by name. And a variant may lack fields altogether.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import GeneratedImage, ImageRequest, Images, Usage
from duckservice.errors import InvalidRequest
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.openai_variant import billed_in_ticks
from duckservice.providers.reading import (
    UNREADABLE,
    Malformed,
    mapping_or_empty,
    number_or,
    text_or,
    token_count,
    usage_of,
)
from duckservice.providers.remote import ImagesDialect
from duckservice.providers.translation import to_json

PATH: Final = "/images/generations"

IMAGES_MAX: Final = 100
"""Of one answer; nobody gives more than 10."""


@attrs.frozen(kw_only=True)
class ImageVariant:
    """In what a provider differs from OpenAI, as data."""

    lacking: frozenset[str] = frozenset()
    """Fields that it does not know, refused before anything is sent."""
    n_max: int | None = 10
    """How many pictures one request may ask for; None: it will say itself."""
    base64_only: re.Pattern[str] | None = None
    """Models that give base64 only, and know no ``response_format``."""
    billed: Callable[[Mapping[str, Any]], int | None] | None = None
    """From an answer's usage to the picodollars that it says are charged; None:
    its word is not asked for."""


OPENAI: Final = ImageVariant(
    base64_only=re.compile(r"(?:gpt|chatgpt)-image(?![a-z0-9]).*")
)

AZURE: Final = ImageVariant()
"""A deployment's name says nothing about its model, so Azure is left to judge."""

XAI: Final = ImageVariant(
    lacking=frozenset({"size", "quality", "style"}), billed=billed_in_ticks
)
"""It takes ``aspect_ratio`` and ``resolution`` in their place."""

COMPATIBLE: Final = ImageVariant(n_max=None)
"""Servers that only speak the format: local ones, and most others."""


def openai_images(
    *,
    provider: str,
    errors: Classifier,
    variant: ImageVariant = OPENAI,
    path: Callable[[ImageRequest], str] | None = None,
) -> ImagesDialect:
    """Return the dialect; *path* where it depends on the model (Azure's deployments)."""
    return OpenAIImages(
        provider=provider,
        errors=errors,
        variant=variant,
        path_of=_same_path if path is None else path,
    )


def _same_path(_: ImageRequest) -> str:
    return PATH


@final
@attrs.frozen(kw_only=True)
class OpenAIImages:
    """How pictures are asked for."""

    provider: str
    errors: Classifier = attrs.field(repr=False)
    variant: ImageVariant = OPENAI
    path_of: Callable[[ImageRequest], str] = attrs.field(default=_same_path, repr=False)

    def path(self, request: ImageRequest) -> str:
        """Return where a request for pictures is sent."""
        return self.path_of(request)

    def check(self, request: ImageRequest) -> None:
        """Raise `InvalidRequest`, naming the field, for what would not be understood."""
        most = self.variant.n_max
        if most is not None and not 1 <= _pictures(request) <= most:
            raise self._refusal("n", f"must be from 1 to {most}")
        said = _options(request).keys() | request.extra.keys()
        for field in sorted(said & self.variant.lacking):
            raise self._refusal(field, "this provider does not know it")
        for field in ("stream", "partial_images"):
            if request.extra.get(field):
                raise self._refusal(field, "pictures are not streamed")
        if request.response_format == "url" and self._is_base64_only(request):
            raise self._refusal(
                "response_format", "this model gives b64_json, and no URL"
            )

    def encode(self, request: ImageRequest) -> bytes:
        """Return the body of a request."""
        options = _options(request)
        if self._is_base64_only(request):
            options.pop("response_format", None)
        body = {"model": request.model, "prompt": request.prompt, **options}
        return to_json({**body, **request.extra}, self.provider)

    def decode(self, body: bytes) -> Images:
        """Return the pictures in an answer's body.

        Their usage is marked as estimated, and 0, where the server says neither the
        tokens nor the price: nobody can know then what they have cost.
        """
        try:
            answer = _body.decode(body)
            if answer.error:
                raise self.errors.in_band({"error": answer.error})
            return _read(answer, self.variant)
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error

    def _is_base64_only(self, request: ImageRequest) -> bool:
        models = self.variant.base64_only
        return models is not None and models.fullmatch(request.model) is not None

    def _refusal(self, field: str, reason: str) -> InvalidRequest:
        return InvalidRequest(f"{field}: {reason}", provider=self.provider, param=field)


def _pictures(request: ImageRequest) -> int:
    return 1 if request.n is None else request.n


def _options(request: ImageRequest) -> dict[str, Any]:
    options: dict[str, Any] = {
        "n": request.n,
        "size": request.size,
        "quality": request.quality,
        "response_format": request.response_format,
        "user": request.user,
    }
    return {name: value for name, value in options.items() if value is not None}


class _Picture(msgspec.Struct, gc=False):
    b64_json: str | None = None
    url: str | None = None
    revised_prompt: Any = None
    mime_type: Any = None


class _Body(msgspec.Struct, gc=False):
    created: Any = None
    model: Any = None
    data: list[_Picture] | None = None
    usage: Any = None
    background: Any = None
    output_format: Any = None
    quality: Any = None
    size: Any = None
    error: Any = None


_body: Final = msgspec.json.Decoder(_Body)

_ABOUT: Final = ("background", "output_format", "quality", "size")
"""What OpenAI says of the pictures, in the words of the request."""


def _read(answer: _Body, variant: ImageVariant) -> Images:
    pictures = answer.data or []
    if not 1 <= len(pictures) <= IMAGES_MAX:
        raise Malformed(f"{len(pictures)} pictures")
    form = text_or(answer.output_format, "")
    return Images(
        model=text_or(answer.model, ""),
        images=tuple(_picture(picture, form) for picture in pictures),
        usage=_usage(mapping_or_empty(answer.usage), variant),
        created=number_or(answer.created, 0),
        extra={
            name: said
            for name in _ABOUT
            if isinstance(said := getattr(answer, name), str)
        },
    )


def _picture(picture: _Picture, form: str) -> GeneratedImage:
    if not picture.b64_json and not picture.url:
        raise Malformed("a picture without b64_json and without url")
    media_type = text_or(picture.mime_type, f"image/{form}" if form else "")
    return GeneratedImage(
        data=picture.b64_json or None,
        url=picture.url or None,
        media_type=media_type or None,
        revised_prompt=text_or(picture.revised_prompt, "") or None,
    )


def _usage(said: dict[str, Any], variant: ImageVariant) -> Usage:
    # Nothing is no price that anybody says: servers fill in what they do not know.
    billed = (variant.billed(said) if variant.billed else None) or None
    inner = mapping_or_empty(said.get("input_tokens_details"))
    outer = mapping_or_empty(said.get("output_tokens_details"))
    usage = usage_of(
        input_tokens=said.get("input_tokens"),
        output_tokens=said.get("output_tokens"),
        cached=inner.get("cached_tokens"),
    )
    # Answers of gpt-image-1 do not say what their output is: it is all pictures.
    drawn = token_count(outer.get("image_tokens", usage.output_tokens))
    return attrs.evolve(
        usage,
        image_tokens=min(drawn, usage.output_tokens),
        billed=billed,
        estimated=not (usage.total_tokens or billed),
    )
