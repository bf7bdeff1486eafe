"""Pictures that a chat has made, for clients whose format has no place in a text for them.

In a reply they stand under ``images``, in OpenRouter's words, or are parts of it:

    {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}

Responses have an item for a picture. Messages have no words for one: there it is an
error, for a reply without it would be another reply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from duckservice.completion import NOTHING, ImagePart
from duckservice.errors import Unprocessable
from duckservice.gateway.wire.fields import is_array, is_object
from duckservice.gateway.wire.responses_items import Item, item_id

IMAGES: Final = "images"

OURS: Final = "ig_duck_"
"""Begins the ids of pictures that were written here; OpenAI's begin with ``ig_``."""

_GOOGLES: Final = "extra_content"
"""What must go back to Gemini with a picture that it has made."""


def pictures_of(extra: Mapping[str, Any]) -> Iterator[ImagePart]:
    """Yield the pictures of a reply whose fields beside its text are *extra*."""
    found: Any = extra.get(IMAGES)
    for image in found if is_array(found) else ():
        if is_object(image):
            yield _picture(image)


def picture_item(image: ImagePart, answer: str, index: int) -> Item:
    """Return the item that a picture is in Responses.

    Raises `Unprocessable` for one that is only named by its URL, which nobody here
    fetches.
    """
    if image.data is None:
        raise Unprocessable(
            "the model's answer is a picture behind a URL, for which Responses have no "
            "words; ask for it by /v1/chat/completions"
        )
    return {
        "id": item_id("ig_duck", answer, index),
        "type": "image_generation_call",
        "status": "completed",
        "output_format": (image.media_type or "").removeprefix("image/") or "png",
        "result": image.data,
        **{key: value for key, value in image.extra.items() if key == _GOOGLES},
    }


def own_picture(item: Item) -> Mapping[str, Any] | None:
    """Return the fields beside a message that `picture_item` was made of.

    None if somebody else has written the item.
    """
    data, its_id = item.get("result"), item.get("id")
    if type(data) is not str or type(its_id) is not str or not its_id.startswith(OURS):
        return None
    kind = item.get("output_format")
    url = f"data:image/{kind if type(kind) is str else 'png'};base64,{data}"
    image: Item = {"type": "image_url", "image_url": {"url": url}}
    if _GOOGLES in item:
        image[_GOOGLES] = item[_GOOGLES]
    return {IMAGES: [image]}


def unsayable_picture() -> Unprocessable:
    """Return the error for a picture in a reply to a client of Messages."""
    return Unprocessable(
        "the model's answer has a picture in it, for which Anthropic's format has no "
        "words; ask for it by /v1/chat/completions or /v1/responses"
    )


def _picture(image: Item) -> ImagePart:
    inner: Any = image.get("image_url")
    url = inner.get("url") if is_object(inner) else inner
    extra = {_GOOGLES: image[_GOOGLES]} if _GOOGLES in image else NOTHING
    text = url if type(url) is str else ""
    head, comma, data = text.partition(";base64,")
    if not comma or not head.startswith("data:"):
        return ImagePart(url=text, extra=extra)
    return ImagePart(data=data, media_type=head.removeprefix("data:"), extra=extra)
