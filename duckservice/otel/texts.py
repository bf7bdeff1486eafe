"""Makes values fit to leave: without secrets, of bounded length, and valid UTF-8; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from duckservice.otel.places import Attributes
from duckservice.redaction import holds_secret, redact

CHARS_MAX: Final = 256


def fit(text: str) -> str:
    """Return *text* as it may leave."""
    cut = redact(text)[:CHARS_MAX]
    # A lone surrogate would fail the whole batch.
    return cut.encode("utf-8", "backslashreplace").decode()


def fitting(values: Mapping[str, str | int | float | bool | None]) -> Attributes:
    """Return *values* as attributes, without those that are not known."""
    known: Attributes = {
        name: value
        for name, value in values.items()
        if value is not None and value != ""
    }
    texts = [value for value in known.values() if isinstance(value, str)]
    together = "\n".join(texts)
    short = max(map(len, texts), default=0) <= CHARS_MAX
    if short and together.isascii() and not holds_secret(together):
        return known
    return {
        name: fit(value) if isinstance(value, str) else value
        for name, value in known.items()
    }
