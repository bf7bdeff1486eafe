"""Everything that was refused, as complaints in the order of the file's keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from cattrs.errors import AttributeValidationNote, IterableValidationNote

from duckservice.config import Complaint
from duckservice.config_toml.refused import Refused, quoted

_BARE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def complaints(error: Exception, file: str) -> tuple[Complaint, ...]:
    """Return one complaint for each `Refused` in *error*, a tree of groups."""
    return tuple(
        Complaint(
            file=file,
            key=_dotted(path),
            found=refused.found,
            allowed=refused.allowed,
            hint=refused.hint,
        )
        for path, refused in _leaves(error, ())
    )


def _leaves(
    error: Exception, above: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Refused]]:
    path = above + _step(error)
    match error:
        case ExceptionGroup():
            for inner in error.exceptions:
                yield from _leaves(inner, path)
        case Refused():
            yield path + error.key, error
        case KeyError():
            yield path, Refused("nothing", "a value: this key is required")
        case _:
            # Anything else is a mistake of ours, and must not look like the user's.
            raise error


def _step(error: Exception) -> tuple[str | int, ...]:
    """Return where *error* stands in the table or array around it."""
    for note in getattr(error, "__notes__", ()):
        match note:
            case AttributeValidationNote():
                return (note.name,)
            case IterableValidationNote():
                return (note.index,)
            case _:
                continue
    return ()


def _dotted(path: tuple[str | int, ...]) -> str:
    """Return *path* as TOML would write it, with an index in brackets."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            bare = step if _BARE.fullmatch(step) else quoted(step)
            text += f".{bare}" if text else bare
    return text
