"""Whether a job may be begun now: room at a provider, or a reason to wait."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

from duckservice.core.budget_rule import BudgetRule, Spender


@attrs.frozen
class MayRun:
    """Its request would go to this provider, and there is room."""

    provider: str
    room: int
    """So many jobs may be begun there now."""


@attrs.frozen
class MustWait:
    """No job of this kind may be begun now."""

    reason: str
    """The API's word, such as ``rate_limited:openai``."""
    at: float | None
    """When that will be different, on trio's clock, where known."""
    passed_over: bool = False
    """Whether requests would be sent to another provider meanwhile."""


Prospect: TypeAlias = MayRun | MustWait


@attrs.frozen
class EmptyBudget:
    """A budget that has nothing left now."""

    rule: BudgetRule
    why: MustWait


@attrs.frozen
class EmptyBudgets:
    """What the budgets hold back now."""

    empty: tuple[EmptyBudget, ...] = ()

    def holds(
        self,
        tags: Mapping[str, str],
        submitter: int | None,
        models: Sequence[Sequence[str]],
    ) -> MustWait | None:
        """Return why a job must wait, whoever serves it.

        *models* are all it may use, each by all of its names.
        """
        held = [
            its.why
            for its in self.empty
            if its.rule.provider is None
            and its.rule.binds_asker(tags, submitter)
            and all(its.rule.binds_model(*names) for names in models)
        ]
        return max(held, key=_when, default=None)

    def closes(self, provider: str, model: str, alias: str = "") -> MustWait | None:
        """Return why nobody may ask *provider* for *model*, while others may be asked.

        *alias* is what clients have called it.
        """
        spender = Spender(provider=provider, model=model, alias=alias)
        closed = [
            its.why
            for its in self.empty
            if its.rule.spares_others
            and its.rule.tag is None
            and its.rule.submitter is None
            and its.rule.binds(spender)
        ]
        return max(closed, key=_when, default=None)


def _when(why: MustWait) -> float:
    return math.inf if why.at is None else why.at
