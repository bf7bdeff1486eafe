"""Why requests of a batch have failed: counted by kind, and told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import attrs

from duckservice.cli.text import count

_MONEY: Final = "budget_exceeded"
_WORDS: Final = {
    "batch_cancelled": "not run: cancelled (batch_cancelled)",
    "batch_expired": "not run in time (batch_expired)",
}
_AMOUNT: Final = re.compile(r"[0-9][0-9.,]*", re.ASCII)
_KINDS_MAX: Final = 10
"""So many kinds of refusals for money are told apart."""


@attrs.define
class _Kind:
    """Failures that are told in one line."""

    code: str
    message: str
    """Of the first."""
    number: int = 0
    alike: bool = True
    """Whether all had the same message, with the same amounts."""


@attrs.define(eq=False)
class Failures:
    """The failures of one batch.

    One code stands for all that is not run for its cost, and what is to be done about
    it is not the same: these are told in the daemon's words, one line for those that
    differ in their amounts only.
    """

    _kinds: dict[tuple[str, str], _Kind] = attrs.field(
        factory=dict[tuple[str, str], _Kind]
    )

    def add(self, lines: Iterable[bytes]) -> None:
        """Take note of lines of the file of errors."""
        for line in lines:
            code, message = _error(line)
            shape = _AMOUNT.sub("#", message) if code == _MONEY else ""
            if (code, shape) not in self._kinds and len(self._kinds) >= _KINDS_MAX:
                shape = message = ""
            its = self._kinds.setdefault((code, shape), _Kind(code, message))
            its.number += 1
            its.alike &= its.message == message

    def told(self) -> Iterator[str]:
        """Yield a line for each kind, the most frequent first."""
        for its in sorted(self._kinds.values(), key=lambda its: -its.number):
            yield f"{count(its.number)} times {_words(its)}"


def _words(its: _Kind) -> str:
    if its.code != _MONEY or not its.message:
        return _WORDS.get(its.code, its.code)
    message = its.message.removeprefix("not run: ")
    verb = "refused" if message == its.message else "not run"
    such_as = "" if its.alike else "such as: "
    return f"{verb}: {such_as}{message} ({its.code})"


def _error(line: bytes) -> tuple[str, str]:
    import msgspec

    its: Any = msgspec.json.decode(line)
    error = its["error"]
    if error is None:
        error = its["response"]["body"]["error"]
    return str(error["code"]), str(error["message"])
