"""Whether a job could ever be paid: by its own limit, and by budgets that bind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from duckservice.calls.planning import Planner
from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    EmbeddingRequest,
    ImageRequest,
)
from duckservice.core.budget_rule import Spender
from duckservice.core.pricing import usd
from duckservice.errors import BudgetExceeded
from duckservice.money.budgets import Budgets
from duckservice.money.spending import why_unknown, worst_cost
from duckservice.tree import Guarded


def must_fit(
    budgets: Budgets,
    candidates: Sequence[tuple[Guarded, AnyRequest]],
    *,
    tags: Mapping[str, str],
    submitter: int | None,
    max_cost: int | None,
) -> None:
    """Refuse what none of the *candidates* could serve within the limits.

    That a budget has nothing left now is no reason: it begins anew.

    Raises:
        BudgetExceeded: naming the budget, its limit and the worst case.
    """
    if max_cost is None and not budgets.any:
        return
    refusals = list[BudgetExceeded]()
    for guarded, request in candidates:
        spender = Spender(
            tags=tags,
            submitter=submitter,
            provider=guarded.config.name,
            model=guarded.provider.own_name(request.model),
            alias=request.model,
        )
        refusal = _refusal(budgets, guarded, request, spender, max_cost)
        if refusal is None:
            return
        refusals.append(refusal)
    if refusals:
        raise refusals[0]


def able(planner: Planner, request: AnyRequest) -> Sequence[tuple[Guarded, AnyRequest]]:
    """Return everybody who could serve *request*, each in its own words."""
    match request:
        case ChatRequest():
            return planner.able(request)
        case EmbeddingRequest():
            return planner.able(request)
        case ImageRequest():
            return planner.able(request)
        case _:
            assert_never(request)


def _refusal(
    budgets: Budgets,
    guarded: Guarded,
    request: AnyRequest,
    spender: Spender,
    max_cost: int | None,
) -> BudgetExceeded | None:
    worst = worst_cost(guarded.provider, request)
    why = why_unknown(guarded.provider, request) if worst is None else ""
    if max_cost is not None and (worst is None or worst > max_cost):
        may = (
            f"cannot be bounded in cost ({why})"
            if worst is None
            else f"may cost {usd(worst)} USD"
        )
        msg = f"the request {may}, and its limit is {usd(max_cost)} USD"
        return BudgetExceeded(msg, param="max_cost_usd")
    return budgets.never(spender, worst, why)
