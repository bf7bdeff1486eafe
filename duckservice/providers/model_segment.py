"""The name of a model as one segment of a URL's path."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from duckservice.errors import ModelNotFound

_BETWEEN: Final = re.compile(r"[/\\]")


def model_segment(model: str, provider: str) -> str:
    """Return *model* as one segment of a path: all that is special is encoded.

    Raises `ModelNotFound` for dots alone, also between slashes: a server or a proxy
    takes them for a way to another place, encoded as ``%2E`` no less.
    """
    if any(part and not part.strip(".") for part in _BETWEEN.split(model)):
        raise ModelNotFound(
            f"{provider} has no model of the name {model!r}: dots alone lead elsewhere",
            provider=provider,
            param="model",
        )
    return quote(model, safe="")
