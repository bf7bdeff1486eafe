"""Which models a provider serves, and what it calls them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import final


@final
class ModelNames:
    """The models of one provider: exact names, globs and aliases.

    In a glob, ``*`` stands for any characters, ``?`` for one and ``[...]`` for
    one of those; case matters. *excluded* globs are exceptions to the globs, not
    to exact names.
    """

    __slots__ = ("_aliases", "_exact", "_excluded", "_globs", "_telling")

    def __init__(
        self,
        patterns: Sequence[str],
        aliases: Mapping[str, str] | None = None,
        *,
        excluded: Sequence[str] = (),
    ) -> None:
        self._aliases = dict(aliases or {})
        self._exact = frozenset(p for p in patterns if not _is_glob(p))
        self._globs = _union([p for p in patterns if _is_glob(p)])
        self._telling = _union([p for p in patterns if _is_glob(p) and p != "*"])
        self._excluded = _union(excluded)

    def serves(self, model: str) -> bool:
        """Say whether *model* may be asked for here; an alias may."""
        if model in self._aliases or model in self._exact:
            return True
        return bool(self._globs.fullmatch(model)) and not self._excluded.fullmatch(
            model
        )

    def names(self, model: str) -> bool:
        """Say whether more than a bare ``*`` says that *model* is served here."""
        if model in self._aliases or model in self._exact:
            return True
        return bool(self._telling.fullmatch(model))

    def own_name(self, model: str) -> str:
        """Return the provider's name for *model*."""
        return self._aliases.get(model, model)


def _is_glob(pattern: str) -> bool:
    return any(c in pattern for c in "*?[")


def _union(globs: Sequence[str]) -> re.Pattern[str]:
    if not globs:
        return re.compile(r"(?!)")
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs))
