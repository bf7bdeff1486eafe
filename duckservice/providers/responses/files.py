"""Files of other formats in the words of Responses: PDFs mostly."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from duckservice.completion import OpaquePart
from duckservice.providers.reading import mapping_or_empty

Json: TypeAlias = dict[str, Any]

_CHAT_FILE: Final = frozenset({"file_id", "file_data", "filename"})

FILENAME: Final = "document.pdf"
"""Anthropic's documents need no title; OpenAI demands a name for what it is sent."""


def file_of(part: OpaquePart) -> Json | None:
    """Return the file that *part* is in this format's words; None if it has none."""
    match part.value:
        case {"type": "file", **rest} if part.format == "openai":
            return _chat_file(rest)
        case {"type": "document", **rest} if part.format == "anthropic":
            return _document(rest)
        case _:
            return None


def _chat_file(fields: Json) -> Json | None:
    file = mapping_or_empty(fields.get("file"))
    if not file or fields.keys() != {"file"} or not file.keys() <= _CHAT_FILE:
        return None
    return {"type": "input_file", **file}


def _document(fields: Json) -> Json | None:
    source = mapping_or_empty(fields.get("source"))
    if not fields.keys() <= {"source", "title"}:
        return None  # citations, hints for a cache, ...
    match source:
        case {"type": "base64", "media_type": "application/pdf", "data": str(data)}:
            url = f"data:application/pdf;base64,{data}"
            name = fields.get("title") or FILENAME
            return {"type": "input_file", "filename": name, "file_data": url}
        case {"type": "url", "url": str(url)} if fields.get("title") is None:
            return {"type": "input_file", "file_url": url}
        case _:
            return None
