"""How a model of Bedrock's is told how much to think: each maker has other words.

    Claude before 4.6   thinking: {type: enabled, budget_tokens}
    Claude              thinking: {type: adaptive}, output_config: {effort}
    Nova 2              reasoningConfig: {type: enabled, maxReasoningEffort}
    gpt-oss, Kimi       reasoning_effort
    GPT                 reasoning: {effort}

All of them go into ``additionalModelRequestFields``.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, assert_never

from duckservice.completion import ChatRequest, Reasoning
from duckservice.providers.anthropic_request import (
    EFFORT_BUDGETS,
    THINKING_TOKENS_MIN,
    takes_budget,
)
from duckservice.providers.bedrock.models import anthropic_name, family_of

Json: TypeAlias = dict[str, Any]

_NOVA_EFFORTS: Final = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_GPT_EFFORTS: Final = {"minimal": "low"}
"""Efforts that have another name there."""


def thinking_fields(request: ChatRequest) -> Json | None:
    """Return the model's own parameters; None if it cannot be told what is asked."""
    reasoning = request.reasoning
    if reasoning is None:
        return {}
    off = reasoning.mode == "disabled" or reasoning.effort == "none"
    effort = _effort(reasoning)
    family = family_of(request.model)
    match family:
        case "claude":
            return _claude(request, reasoning, off=off)
        case "nova-2":
            return {"reasoningConfig": _nova(effort, off=off)}
        case "gpt-oss" | "kimi":
            if off:
                return None
            return {} if effort is None else {"reasoning_effort": effort}
        case "gpt":
            word = "none" if off else _GPT_EFFORTS.get(effort or "", effort)
            return {} if word is None else {"reasoning": {"effort": word}}
        case "nova" | "cohere" | "other":
            # What never thinks does as it is told.
            return {} if off else None
        case _:
            assert_never(family)


def _effort(reasoning: Reasoning) -> str | None:
    """Return the effort that is meant; a budget is brought to the nearest word."""
    if reasoning.effort is not None or reasoning.budget_tokens is None:
        return reasoning.effort
    if reasoning.budget_tokens <= EFFORT_BUDGETS["low"]:
        return "low"
    return "medium" if reasoning.budget_tokens <= EFFORT_BUDGETS["medium"] else "high"


def _nova(effort: str | None, *, off: bool) -> Json:
    if off:
        return {"type": "disabled"}
    word = _NOVA_EFFORTS.get(effort or "medium", effort)
    return {"type": "enabled", "maxReasoningEffort": word}


def _claude(request: ChatRequest, reasoning: Reasoning, *, off: bool) -> Json | None:
    old = takes_budget(anthropic_name(request.model))
    if off:  # as the older ones are unless they are told otherwise
        return {} if old else {"thinking": {"type": "disabled"}}
    effort = reasoning.effort
    if reasoning.budget_tokens is not None:
        mode = reasoning.mode or "enabled"
        thinking = {"type": mode, "budget_tokens": reasoning.budget_tokens}
        return {"thinking": thinking, **_output(effort)}
    if reasoning.mode is not None:
        return {"thinking": {"type": reasoning.mode}, **_output(effort)}
    if request.format == "anthropic" or effort is None:
        return _output(effort)
    if not old:
        word = "low" if effort == "minimal" else effort
        return {"thinking": {"type": "adaptive"}, **_output(word)}
    budget = EFFORT_BUDGETS.get(effort, EFFORT_BUDGETS["medium"])
    if request.max_tokens is not None:
        budget = min(budget, request.max_tokens - 1)
    if budget < THINKING_TOKENS_MIN:
        return None
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _output(effort: str | None) -> Json:
    return {} if effort is None else {"output_config": {"effort": effort}}
