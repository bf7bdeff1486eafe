"""How many tokens of a prompt are in fields that only one wire format knows.

They are sent on as they are, and count with the bytes of their JSON, unless they name
what is somewhere else and may have any size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

TOKENS_PER_PART = 8

_MARKS = frozenset({"cache_control"})
"""They say how to serve a part, and nobody reads them."""

_NOTES = frozenset({"annotations", "citations"})
"""They name files and pages that have been read, and have none read again."""

_REFERENCES = frozenset(
    {
        "audio",
        "container",
        "file",
        "file_data",
        "file_id",
        "file_uri",
        "file_url",
        "fileData",
        "fileUri",
        "image_url",
        "inline_data",
        "inlineData",
        "input_audio",
        "uri",
        "url",
        "video_url",
    }
)
"""Fields for what is somewhere else, or is more tokens than it has bytes."""

_NO_TEXT = frozenset({"base64", "file", "image", "input_file", "input_image", "url"})
"""Types of values, as `_REFERENCES`."""


class Unbounded(Exception):
    """Nobody can say how large the prompt is; the text says what it is that grows."""


def extra_bound(extra: Mapping[str, Any]) -> int:
    """Return what the fields of a message or a part do not exceed.

    Raises:
        Unbounded: one refers to what is not in the prompt.
    """
    total = 0
    for name, value in extra.items():
        passive = name in _NOTES or name in _MARKS
        if not passive and (reference := _reference({name: value})):
            msg = f"the size of what {reference!r} refers to is not known"
            raise Unbounded(msg)
        total += verbatim_bound({name: value})
    return total


def _reference(value: Any) -> str | None:
    """Return the name of what in *value* stands for more than its own bytes."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            fields = cast("Mapping[str, Any]", one)
            kind = fields.get("type")
            if isinstance(kind, str) and kind in _NO_TEXT:
                return kind
            for name, inner in fields.items():
                if inner is not None and name in _REFERENCES:
                    return name
                if name not in _NOTES:
                    left.append(inner)
        elif isinstance(one, list | tuple):
            left += cast("list[Any]", one)
    return None


def verbatim_bound(extra: Mapping[str, Any]) -> int:
    """Return what fields do not exceed that refer to nothing, whatever they say."""
    return sum(
        TOKENS_PER_PART + len(json_text({name: value}))
        for name, value in extra.items()
        if name not in _MARKS
    )


def json_text(value: Mapping[str, Any]) -> str:
    """Return JSON in ASCII, which has no fewer bytes than in UTF-8.

    Raises:
        Unbounded: it is nested too deeply.
    """
    try:
        return json.dumps(value, default=dict)
    except RecursionError as error:
        msg = "its JSON is nested too deeply to be measured"
        raise Unbounded(msg) from error
