"""How much Gemini is to think, in its own words: tokens up to 2.5, levels since 3.

The efforts mean what Google's own OpenAI endpoint takes them for.
"""

from __future__ import annotations

import re
from typing import Any, Final

from duckservice.completion import ChatRequest, Reasoning
from duckservice.providers.gemini.models import bare_name, thinks_in_levels

BUDGETS: Final = {"minimal": 1024, "low": 1024, "medium": 8192}
"""Tokens for each effort; any higher one has `BUDGET_MOST`."""

BUDGET_MOST: Final = 24_576
"""What every 2.5 takes."""

BUDGET_LEAST_PRO: Final = 128
"""2.5 Pro cannot do without thinking either."""

DYNAMIC: Final = -1
"""The budget of a model that is to decide itself."""

_LEVELS: Final = {"none": "minimal", "minimal": "minimal", "low": "low"}
_PRO: Final = re.compile(r"gemini-(?:[0-9.]+-)?pro.*")
_PRO_3_0: Final = re.compile(r"gemini-3-pro.*")


def thinking_config(request: ChatRequest) -> dict[str, Any] | None:
    """Return the ``thinkingConfig``, with its thoughts shown; None: as it likes.

    Gemini 3 and 2.5 Pro always think: told not to, they get the least that they take.
    """
    match request.reasoning:
        case None | Reasoning(effort=None, budget_tokens=None, mode=None):
            return None
        case Reasoning(mode="disabled") | Reasoning(effort="none"):
            return _least(request.model)
        case Reasoning(budget_tokens=int(budget)):
            return _with_budget(request.model, budget)
        case Reasoning(effort=str(effort)):
            return _with_effort(request.model, effort)
        case _:  # adaptive
            return _with_budget(request.model, DYNAMIC)


def _least(model: str) -> dict[str, Any]:
    if thinks_in_levels(model):
        return {"thinkingLevel": _level(model, "none")}
    always = _PRO.fullmatch(bare_name(model)) is not None
    return {"thinkingBudget": BUDGET_LEAST_PRO if always else 0}


def _with_effort(model: str, effort: str) -> dict[str, Any]:
    if thinks_in_levels(model):
        return {"thinkingLevel": _level(model, effort), "includeThoughts": True}
    budget = BUDGETS.get(effort, BUDGET_MOST)
    return {"thinkingBudget": budget, "includeThoughts": True}


def _with_budget(model: str, budget: int) -> dict[str, Any]:
    if not thinks_in_levels(model):
        return {"thinkingBudget": budget, "includeThoughts": True}
    if budget == DYNAMIC:
        return {"includeThoughts": True}
    effort = "low" if budget <= 2048 else "medium" if budget <= 8192 else "high"
    return _with_effort(model, effort)


def _level(model: str, effort: str) -> str:
    name = bare_name(model)
    level = _LEVELS.get(effort, "medium" if effort == "medium" else "high")
    if level == "minimal" and _PRO.fullmatch(name):
        return "low"
    if level == "medium" and _PRO_3_0.fullmatch(name):
        return "high"
    return level
