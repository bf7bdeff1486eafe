"""Fields that only OpenAI's own formats know: from Chat Completions to Responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from duckservice.providers.reading import mapping_or_empty
from duckservice.providers.responses.items import list_or_empty

Json: TypeAlias = dict[str, Any]

_SAME: Final = frozenset(
    {
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
    }
)
"""Those that are called the same."""

_LOGPROBS: Final = "message.output_text.logprobs"


def from_chat(extra: Mapping[str, Any]) -> Json:
    """Return the fields of *extra* that `is_known_here` knows, in this format."""
    fields: Json = {}
    for name, value in extra.items():
        if value is not None and is_known_here(name, value):
            fields |= _translated(name, value)
    return fields


def is_known_here(name: str, value: object) -> bool:
    """Say whether a field of Chat Completions can be said in Responses."""
    match name:
        case "verbosity":
            return isinstance(value, str)
        case "logprobs":
            return value is True
        case "top_logprobs":
            return type(value) is int
        case "tool_choice":
            return _allowed_tools(value) is not None
        case _:
            return name in _SAME


def _translated(name: str, value: Any) -> Json:
    match name:
        case "verbosity":
            return {"text": {"verbosity": value}}
        case "logprobs":
            return {"include": [_LOGPROBS]}
        case "tool_choice":
            return {"tool_choice": _allowed_tools(value)}
        case _:
            return {name: value}


def _allowed_tools(choice: object) -> Json | None:
    """Return the choice in this format; None if it is about more than functions."""
    inner = mapping_or_empty(mapping_or_empty(choice).get("allowed_tools"))
    listed = [mapping_or_empty(tool) for tool in list_or_empty(inner.get("tools"))]
    names = [
        mapping_or_empty(tool.get("function")).get("name")
        for tool in listed
        if tool.get("type") == "function"
    ]
    texts = [name for name in names if isinstance(name, str)]
    if inner.keys() != {"mode", "tools"} or len(texts) != len(listed):
        return None
    tools = [{"type": "function", "name": name} for name in texts]
    return {"type": "allowed_tools", "mode": inner["mode"], "tools": tools}
