"""The arguments of a call that Gemini streams piece by piece.

Only Vertex does, and only where it is asked to (``streamFunctionCallArguments``):

    {"functionCall": {"name": "f", "willContinue": true}}
    {"functionCall": {"partialArgs": [{"jsonPath": "$.where[0].city",
        "stringValue": "Bos", "willContinue": true}], "willContinue": true}}
    {"functionCall": {}}
"""

from __future__ import annotations

import itertools
import re
from typing import Any, Final

from duckservice.providers.reading import Malformed, mapping_or_empty, text_or

PIECES_MAX: Final = 10_000
CHARACTERS_MAX: Final = 1024 * 1024
"""Of one text: it is copied for each of its pieces."""

_STEP: Final = re.compile(
    r"\.(?P<name>[^.\[\]]+)|\[(?P<index>[0-9]{1,5})\]|\['(?P<quoted>[^']*)'\]"
)

_VALUES: Final = ("numberValue", "boolValue")


class PartialArguments:
    """Puts the pieces of one call's arguments together."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._pieces = 0

    def add(self, pieces: Any) -> None:
        """Take some pieces; raises `Malformed` for what names no place."""
        for piece in pieces if isinstance(pieces, list) else ():  # pyright: ignore[reportUnknownVariableType]  # any JSON
            self._pieces += 1
            if self._pieces > PIECES_MAX:
                raise Malformed("a call without end")
            self._add(mapping_or_empty(piece))

    def _add(self, piece: dict[str, Any]) -> None:
        steps = _steps(text_or(piece.get("jsonPath"), ""))
        place: Any = self.values
        for step, following in itertools.pairwise(steps):
            place = _into(place, step, [] if isinstance(following, int) else {})
        last = steps[-1]
        if "stringValue" in piece:
            text = text_or(_into(place, last, ""), "") + text_or(
                piece["stringValue"], ""
            )
            if len(text) > CHARACTERS_MAX:
                raise Malformed("an argument without end")
            _put(place, last, text)
            return
        value = next((piece[name] for name in _VALUES if name in piece), None)
        _put(place, last, value)


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            break
        at = found.end()
        index = found["index"]
        name = found["name"] or found["quoted"] or ""
        steps.append(name if index is None else int(index))
    if path[:1] != "$" or at < len(path) or not steps:
        raise Malformed("a piece of arguments that names no place")
    return steps


def _into(place: Any, step: str | int, empty: Any) -> Any:
    """Return what is at *step*, which is *empty* if there is nothing yet."""
    if isinstance(place, dict) and isinstance(step, str):
        members: dict[str, Any] = place  # pyright: ignore[reportUnknownVariableType]  # any JSON
        return members.setdefault(step, empty)
    if isinstance(place, list) and isinstance(step, int):
        items: list[Any] = place  # pyright: ignore[reportUnknownVariableType]  # as above
        if step == len(items):  # items come in their order, and no gap is filled
            items.append(empty)
        if step < len(items):
            return items[step]
    raise Malformed("a piece of arguments that does not fit the others")


def _put(place: Any, step: str | int, value: Any) -> None:
    _into(place, step, None)
    place[step] = value
