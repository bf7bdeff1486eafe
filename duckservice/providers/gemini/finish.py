"""Why Gemini stopped, in our words."""

from __future__ import annotations

from typing import Final

from duckservice.completion import FinishReason

_FILTERED: Final = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
        "JAILBREAK",
    }
)


def reason_of(native: str | None, *, calls: bool) -> FinishReason:
    """Return our word for Google's; *calls* says whether the model made any.

    Its words for a model that went wrong (``MALFORMED_FUNCTION_CALL``, ``OTHER``)
    have none of ours: they stop an answer, and are to be found as the provider's own.
    """
    if native == "MAX_TOKENS":
        return "length"
    if native in _FILTERED:
        return "content_filter"
    return "tool_calls" if calls else "stop"
