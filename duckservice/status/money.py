"""What was spent and what may be, as operators see it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeAlias

from duckservice.core.budget_book import BudgetState
from duckservice.core.cost_sums import Sum, Summary
from duckservice.core.pricing import usd

Json: TypeAlias = dict[str, Any]


def costs_fields(summary: Summary) -> Json:
    """Return what was spent, row by row and in all."""
    return {
        "by": summary.by,
        "since": None if summary.since is None else _utc(summary.since),
        "rows": [{"key": row.key, **_sum(row.sum)} for row in summary.rows],
        "total": _sum(summary.total),
    }


def budget_fields(state: BudgetState) -> Json:
    """Return what is left of a budget."""
    its, rule = state.budget, state.rule
    return {
        "name": rule.name,
        "window": rule.window,
        "match": {
            "tag": None if rule.tag is None else "=".join(rule.tag),
            "submitter": rule.submitter,
            "provider": rule.provider,
            "model": rule.model,
        },
        "limit_usd": usd(its.limit),
        "spent_usd": usd(its.settled),
        "reserved_usd": usd(its.reserved),
        "remaining_usd": usd(its.remaining),
        "since": _utc(int(state.since)),
        "until": None if state.until is None else _utc(int(state.until)),
    }


def _sum(sum_: Sum) -> Json:
    return {
        "requests": sum_.requests,
        "failures": sum_.failures,
        "input_tokens": sum_.input_tokens,
        "output_tokens": sum_.output_tokens,
        "cached_tokens": sum_.cached_tokens,
        "cost_usd": usd(sum_.cost),
        "unpriced": sum_.unpriced,
        "estimated": sum_.estimated,
    }


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
