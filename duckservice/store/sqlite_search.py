"""Builds the condition of a search, every value of it bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

_decode = msgspec.json.Decoder(dict[str, str]).decode


@attrs.define
class Search:
    """A condition of SQL, and the values for its question marks."""

    _parts: list[str] = attrs.field(factory=list[str])
    values: list[Any] = attrs.field(factory=list[Any])

    @property
    def where(self) -> str:
        """What comes after WHERE."""
        return " AND ".join(self._parts) or "TRUE"

    def add(self, condition: str, *values: Any) -> None:
        """Ask for this as well, unless a value is None."""
        if None not in values:
            self._parts.append(condition)
            self.values += values

    def add_tags(self, column: str, tags: Mapping[str, str]) -> None:
        """Ask that the column, a JSON object, has all these."""
        for name, value in tags.items():
            self._parts.append(
                f"EXISTS (SELECT 1 FROM json_each({column}) AS tag"  # noqa: S608
                " WHERE tag.key = ? AND tag.value = ?)"
            )
            self.values += [name, value]


def decode_tags(text: str | None) -> dict[str, str]:
    """Return tags that were kept as JSON; NULL is none."""
    return {} if text is None else _decode(text)
