"""One budget as the config names it: how much, for how long, and of whom; pure."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import attrs

from duckservice.core.budget_window import Window


@attrs.frozen(kw_only=True)
class Spender:
    """For whom, and to whom, one attempt is paid."""

    tags: Mapping[str, str] = attrs.field(factory=dict[str, str])
    submitter: int | None = None
    """The uid of who asks; None where nobody knows."""
    provider: str = ""
    model: str = ""
    """What the provider is asked for."""
    alias: str = ""
    """What the client has asked for, where that is another name."""


@attrs.frozen(kw_only=True)
class BudgetRule:
    """One budget of the config; it binds what meets all of its conditions."""

    name: str
    limit: int
    """Picodollars."""
    window: Window = "day"
    tag: tuple[str, str] | None = None
    submitter: int | None = None
    provider: str | None = None
    model: str | None = None
    """Exact, or a glob."""
    version: int = 0
    """Rules of one name that bind others, or for another time, are told apart by it."""

    @property
    def key(self) -> str:
        """What its windows are kept under."""
        return f"{self.name}\n{self.version}" if self.version else self.name

    def binds(self, spender: Spender) -> bool:
        """Say whether what *spender* spends counts here."""
        return (
            self.binds_asker(spender.tags, spender.submitter)
            and self.provider in {None, spender.provider}
            and self.binds_model(spender.model, spender.alias)
        )

    def binds_asker(self, tags: Mapping[str, str], submitter: int | None) -> bool:
        """Say whether it counts what is asked for by these, of some provider."""
        tagged = self.tag is None or tags.get(self.tag[0]) == self.tag[1]
        return tagged and self.submitter in {None, submitter}

    def binds_model(self, *names: str) -> bool:
        """Say whether it counts requests for the model that has all these *names*.

        One that matches is enough: else an alias were a way around the limit.
        """
        pattern = self.model
        return pattern is None or any(fnmatchcase(name, pattern) for name in names)

    def binds_the_same(self, other: BudgetRule) -> bool:
        """Say whether *other* counts the same, though perhaps up to another limit."""
        return attrs.evolve(other, limit=self.limit, version=self.version) == self

    @property
    def spares_others(self) -> bool:
        """Whether another provider, or another model, is perhaps not bound."""
        return self.provider is not None or self.model is not None
