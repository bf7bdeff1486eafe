"""What an answer is called that does not name itself."""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Origin:
    """Where an answer comes from: its names, where it does not say them itself."""

    model: str
    """The model that was asked."""
    answer_id: str
    """Unique, so that tool calls without an id can be named after it."""


NAMELESS: Final = Origin("", "")
