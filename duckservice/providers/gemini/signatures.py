"""Thought signatures: what a Gemini model wants back with what it has said.

A client of OpenAI's format keeps them where Google's own OpenAI endpoint puts them,
beside the call or the message; one of Anthropic's format, as the signature of a
thought that stands before the call.

    {"extra_content": {"google": {"thought_signature": "..."}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from duckservice.completion import NOTHING
from duckservice.providers.reading import mapping_or_empty, text_or

FIELD: Final = "extra_content"

SKIPPED: Final = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""What Google documents for calls that no Gemini model has signed: since 3, a call
without any signature is refused. It says ``skip_thought_signature_validator``."""


def signed(signature: str | None) -> Mapping[str, Any]:
    """Return the ``extra`` of what carries *signature*."""
    if not signature:
        return NOTHING
    return {FIELD: {"google": {"thought_signature": signature}}}


def signature_in(extra: Mapping[str, Any]) -> str | None:
    """Return the signature that came back in an ``extra``."""
    if not extra:
        return None
    google = mapping_or_empty(mapping_or_empty(extra.get(FIELD)).get("google"))
    return text_or(google.get("thought_signature"), "") or None
