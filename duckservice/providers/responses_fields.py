"""Which fields of a Responses request mean something that no other format knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from duckservice.completion import ChatRequest

_ANSWERED_HERE: Final = frozenset(
    {
        "include",
        "max_tool_calls",
        "metadata",
        "prompt_cache_key",
        "reasoning.effort",
        "reasoning.generate_summary",
        "reasoning.summary",
        "text.format",
    }
)
"""What is read into the request, what the gateway repeats, what is about tools that
it refuses, and what only helps to find a cache. A summary of thoughts is shown
wherever there is one."""

_SAYS_NOTHING: Final[Mapping[str, tuple[object, ...]]] = {
    "prompt_cache_retention": ("in_memory",),
    "reasoning.context": ("auto",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "text.verbosity": ("medium",),
    "top_logprobs": (0,),
}
"""Fields with the values that hold anyway."""


def foreign_in_responses(request: ChatRequest) -> Iterator[str]:
    """Yield the names of top-level fields that no other format has words for."""
    for name, value in _flat(request.extra):
        if value is None or name in _ANSWERED_HERE:
            continue
        if name == "safety_identifier" and value == request.user:
            continue  # another word for it
        if value not in _SAYS_NOTHING.get(name, ()):
            yield name


def _flat(extra: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields; of those that are understood in part, their own."""
    for name, value in extra.items():
        if name in ("text", "reasoning") and isinstance(value, Mapping):
            for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]  # JSON of any kind
                yield f"{name}.{key}", inner
        else:
            yield name, value
