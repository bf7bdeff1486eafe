"""One refused value, before it is known where in the file it stands."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from duckservice.redaction import redact

_SHOWN_CHARS_MAX = 60


class Refused(Exception):
    """What was found and what is allowed; *key* is relative to where it is raised.

    Texts hold no secret: whoever raises it for a key's own value says so in
    words instead of quoting it.
    """

    def __init__(
        self, found: str, allowed: str, *, hint: str = "", key: tuple[str, ...] = ()
    ) -> None:
        super().__init__(found, allowed)
        self.found = found
        self.allowed = allowed
        self.hint = hint
        self.key = key


def shown(value: Any) -> str:
    """Describe *value* for a complaint, short and on one line."""
    match value:
        case str():
            return f"{quoted(value)} (a string)"
        case bool():
            return f"{str(value).lower()} (a boolean)"
        case int():
            return f"{_cut(str(value))} (an integer)"
        case Decimal():
            return f"{_cut(str(value))} (a float)"
        case Mapping():
            return "a table"
        case list():
            return "an array"
        case _:
            return f"{value} (a date or a time)"


def quoted(text: str) -> str:
    """Return *text* in quotes, cut to a readable length, free of secrets."""
    return json.dumps(_cut(redact(text)))


def one_of(names: Iterable[str]) -> str:
    """List *names* as what is allowed."""
    return "one of " + ", ".join(names)


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return a hint with the names nearest to *word*, or nothing.

    They are several where they are as near: to choose one of them were to guess.
    """
    every = list(names)
    near = difflib.get_close_matches(word, every, n=len(every) or 1)
    if not near:
        return ""
    best = _nearness(near[0], word)
    equal = [quoted(name) for name in every if _nearness(name, word) == best]
    return f"did you mean {' or '.join(equal)}?"


def _nearness(name: str, word: str) -> float:
    # In this order of the two, as `get_close_matches` does it: the other differs.
    return difflib.SequenceMatcher(None, name, word).ratio()


def _cut(text: str) -> str:
    if len(text) <= _SHOWN_CHARS_MAX:
        return text
    return text[:_SHOWN_CHARS_MAX] + "…"
