"""Pictures, documents and sounds as Gemini's ``inlineData`` and ``fileData``.

What comes as base64 goes on as it is. A URL is fetched by Google, which must be told
what is behind it; nobody here looks, so its name must say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from duckservice.completion import ImagePart, OpaquePart
from duckservice.providers.gemini.signatures import signature_in
from duckservice.providers.reading import mapping_or_empty, text_or

_PICTURES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "bmp": "image/bmp",
}
_SOUNDS: Final = {"wav": "audio/wav", "mp3": "audio/mp3"}


def picture(image: ImagePart) -> dict[str, Any] | None:
    """Return the part that *image* is; None: nothing says of what type its URL is."""
    if image.url is None:
        return _inline(image.media_type or "", image.data or "")
    media_type = image.media_type or _type_of_name(image.url)
    return None if media_type is None else _file(media_type, image.url)


def blob(part: OpaquePart) -> dict[str, Any] | None:
    """Return the part that a client's document or sound is; None: it has no words here."""
    value = part.value
    match value.get("type"):
        case "file" | "input_file":
            return _openai_file(mapping_or_empty(value.get("file")) or value)
        case "input_audio":
            audio = mapping_or_empty(value.get("input_audio"))
            media_type = _SOUNDS.get(text_or(audio.get("format"), ""))
            data = text_or(audio.get("data"), "")
            return _inline(media_type, data) if media_type and data else None
        case "document" if value.keys() <= {"type", "source", "title"}:
            return _anthropic_source(mapping_or_empty(value.get("source")))
        case _:
            return None


def own_pictures(extra: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the pictures that the model itself has made, as a client sends them back.

    None if it wrote something else under that name.
    """
    found: list[dict[str, Any]] = []
    images = extra.get("images")
    for image in images if isinstance(images, list) else ():  # pyright: ignore[reportUnknownVariableType]  # any JSON
        fields = mapping_or_empty(image)
        url = text_or(mapping_or_empty(fields.get("image_url")).get("url"), "")
        head, comma, data = url.partition(";base64,")
        if not comma or not head.startswith("data:"):
            return None
        part = _inline(head.removeprefix("data:"), data)
        if (signature := signature_in(fields)) is not None:
            part["thoughtSignature"] = signature
        found.append(part)
    return found if found or not images else None


def _openai_file(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    head, comma, data = text_or(fields.get("file_data"), "").partition(";base64,")
    media_type = head.removeprefix("data:")
    if not comma or media_type == head:
        return None
    return _inline(media_type, data)


def _anthropic_source(source: Mapping[str, Any]) -> dict[str, Any] | None:
    match source:
        case {"type": "base64", "media_type": str(media_type), "data": str(data)}:
            return _inline(media_type, data)
        case {"type": "text", "data": str(text)}:
            return {"text": text}
        case {"type": "url", "url": str(url)}:
            return _file("application/pdf", url)  # the only type that it may be
        case _:
            return None


def _inline(media_type: str, data: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": media_type, "data": data}}


def _file(media_type: str, url: str) -> dict[str, Any]:
    return {"fileData": {"mimeType": media_type, "fileUri": url}}


def _type_of_name(url: str) -> str | None:
    try:
        name = urlsplit(url).path
    except ValueError:
        return None
    return _PICTURES.get(name.rpartition(".")[2].lower())
