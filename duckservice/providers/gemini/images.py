"""Pictures: Imagen's ``:predict``, and Gemini's image models through ``generateContent``.

Google asks for a shape and gives the pixels that the model has for it: a size is
taken for its shape, and refused if the model has none like it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import (
    GeneratedImage,
    ImagePart,
    ImageRequest,
    Images,
    Usage,
)
from duckservice.errors import ContentFiltered, InvalidRequest
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini import answer
from duckservice.providers.gemini.models import draws_with_predict, model_path
from duckservice.providers.reading import UNREADABLE, Malformed
from duckservice.providers.translation import to_json

SAMPLES_MAX: Final = 4
"""Imagen's own limit."""

SHAPE_TOLERANCE: Final = 0.02
"""OpenAI's 1792x1024 is nearly 16:9, and meant so."""

_PIXELS: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")

_IMAGEN_SHAPES: Final = ("1:1", "3:4", "4:3", "9:16", "16:9")
_GEMINI_SHAPES: Final = (*_IMAGEN_SHAPES, "2:3", "3:2", "4:5", "5:4", "21:9")

_SAYS_NOTHING: Final[Mapping[str, tuple[str, ...]]] = {
    "background": ("auto",),
    "moderation": ("auto",),
    "output_format": ("png",),
    "style": (),
}


@final
@attrs.frozen(kw_only=True)
class GoogleImages:
    """How pictures are asked for; *place* says where a model is found."""

    provider: str
    errors: Classifier = attrs.field(repr=False)
    place: Callable[[str, str], str] = model_path

    def path(self, request: ImageRequest) -> str:
        """Return where a request for pictures is sent."""
        method = "predict" if draws_with_predict(request.model) else "generateContent"
        return f"/{self.place(request.model, self.provider)}:{method}"

    def check(self, request: ImageRequest) -> None:
        """Raise `InvalidRequest`, naming the field, for what cannot be translated."""
        imagen = draws_with_predict(request.model)
        most = SAMPLES_MAX if imagen else 1
        if (request.n or 1) > most:
            raise self._refusal("n", f"this model gives at most {most}")
        if request.size is not None and _shape(request) is None:
            shapes = ", ".join(_shapes(imagen=imagen))
            raise self._refusal("size", f"this model has the shapes {shapes}")
        if request.response_format == "url":
            raise self._refusal("response_format", "Google gives pictures as b64_json")
        if request.quality not in (None, "auto"):
            raise self._refusal("quality", "Google cannot be told")
        for field, value in request.extra.items():
            if value is not None and value not in _SAYS_NOTHING.get(field, ()):
                raise self._refusal(field, "cannot be translated to Google's format")

    def encode(self, request: ImageRequest) -> bytes:
        """Return the body of a request."""
        shape = _shape(request)
        aspect = {"aspectRatio": shape} if shape else {}
        body: dict[str, Any]
        if draws_with_predict(request.model):
            parameters = {
                "sampleCount": request.n or 1,
                "includeRaiReason": True,
                **aspect,
            }
            body = {"instances": [{"prompt": request.prompt}], "parameters": parameters}
        else:
            options: dict[str, Any] = {"responseModalities": ["TEXT", "IMAGE"]}
            if aspect:
                options["imageConfig"] = aspect
            turn = {"role": "user", "parts": [{"text": request.prompt}]}
            body = {"contents": [turn], "generationConfig": options}
        return to_json(body, self.provider)

    def decode(self, body: bytes) -> Images:
        """Return the pictures in an answer's body.

        Raises `ContentFiltered` where none is left. What an Imagen has used is not
        said, so it is marked as estimated, and 0.
        """
        try:
            head = _head(body)
            if head.error:
                raise self.errors.in_band({"error": head.error})
            if head.candidates or head.promptFeedback:
                return self._of_candidates(body)
            if head.predictions is None:
                raise Malformed("JSON without predictions")
            return self._of_predictions(head.predictions)
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error

    def _of_candidates(self, body: bytes) -> Images:
        completion = answer.decode(body, self.errors)
        pictures = [
            GeneratedImage(data=part.data, media_type=part.media_type)
            for choice in completion.choices
            for part in choice.parts
            if isinstance(part, ImagePart)
        ]
        if not pictures:
            reason = completion.choices[0].native_finish_reason
            raise self._filtered(f"no picture, but {reason or 'text'}")
        return Images(
            model=completion.model, images=tuple(pictures), usage=completion.usage
        )

    def _of_predictions(self, predictions: list[_Prediction]) -> Images:
        pictures = [
            GeneratedImage(
                data=its.bytesBase64Encoded,
                url=its.gcsUri,
                media_type=its.mimeType,
                revised_prompt=its.prompt,
            )
            for its in predictions
            if its.bytesBase64Encoded or its.gcsUri
        ]
        if not pictures:
            reasons = {its.raiFilteredReason for its in predictions}
            said = " ".join(sorted(reason for reason in reasons if reason))
            raise self._filtered(said or "all pictures were filtered out")
        return Images(model="", images=tuple(pictures), usage=Usage(estimated=True))

    def _filtered(self, reason: str) -> ContentFiltered:
        error = ContentFiltered(f"{self.provider}: {reason}", provider=self.provider)
        error.quotes_provider = True
        return error

    def _refusal(self, field: str, reason: str) -> InvalidRequest:
        return InvalidRequest(f"{field}: {reason}", provider=self.provider, param=field)


def _shapes(*, imagen: bool) -> tuple[str, ...]:
    return _IMAGEN_SHAPES if imagen else _GEMINI_SHAPES


def _shape(request: ImageRequest) -> str | None:
    """Return the shape that is meant; "" where the model is to decide, None: no such."""
    if request.size in (None, "auto"):
        return ""
    pixels = _PIXELS.fullmatch(request.size or "")
    if pixels is None:
        return None
    wanted = int(pixels[1]) / int(pixels[2])
    for shape in _shapes(imagen=draws_with_predict(request.model)):
        across, _, down = shape.partition(":")
        if abs(wanted * int(down) / int(across) - 1) < SHAPE_TOLERANCE:
            return shape
    return None


class _Prediction(msgspec.Struct, gc=False):
    bytesBase64Encoded: str | None = None  # noqa: N815 - the wire's names
    gcsUri: str | None = None  # noqa: N815
    mimeType: str | None = None  # noqa: N815
    prompt: str | None = None
    raiFilteredReason: str | None = None  # noqa: N815


class _Head(msgspec.Struct, gc=False):
    predictions: list[_Prediction] | None = None
    candidates: msgspec.Raw = msgspec.Raw()
    promptFeedback: msgspec.Raw = msgspec.Raw()  # noqa: N815
    error: Any = None


_head: Final = msgspec.json.Decoder(_Head).decode
