"""What the name of a model says: where it is found, and how it is made to think."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from duckservice.errors import ModelNotFound

MODELS: Final = ("gemini-*", "gemma-*", "imagen-*", "text-embedding-00*")
"""What Google serves by default."""

_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@ -]*")
_LEVELS: Final = re.compile(
    r"gemini-(?:[3-9]|[1-9][0-9])(?:[.-].*)?|gemini-(?:pro|flash|flash-lite)-latest"
)
_DRAWS_WITH_PREDICT: Final = re.compile(r"(?:.*/)?imagen.*")


def model_path(model: str, provider: str, *, shelf: str = "models") -> str:
    """Return *model* as part of a URL's path; on *shelf* unless it names its own.

    Raises `ModelNotFound` for what cannot be a name: it would end up elsewhere.
    """
    segments = model.split("/")
    if not all(map(_SEGMENT.fullmatch, segments)):
        raise ModelNotFound(
            f"{provider} has no model of the name {model!r}", provider=provider
        )
    path = "/".join(quote(segment, safe="@") for segment in segments)
    return path if len(segments) > 1 else f"{shelf}/{path}"


def bare_name(model: str) -> str:
    """Return the name of *model* without its shelf."""
    return model.rpartition("/")[2]


def thinks_in_levels(model: str) -> bool:
    """Say whether *model* is a Gemini 3 or newer.

    Those think in levels, not in tokens; they insist on their signatures, and see
    pictures in the result of a function.
    """
    return _LEVELS.fullmatch(bare_name(model)) is not None


def draws_with_predict(model: str) -> bool:
    """Say whether *model* is an Imagen, which only draws, and is asked differently."""
    return _DRAWS_WITH_PREDICT.fullmatch(model) is not None
