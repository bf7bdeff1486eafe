"""What was spent and what may be, in the document: costs and budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from duckservice.config import Window
from duckservice.core.cost_sums import By
from duckservice.gateway.app.openapi.insight import get
from duckservice.gateway.app.openapi.parts import (
    Json,
    array,
    in_query,
    money,
    nullable,
    obj,
    ref,
    since,
    string,
    whole,
    word,
)

_COSTS_QUERY: Final = (
    in_query("by", "What the rows are; default: provider.", word(*get_args(By))),
    in_query("since", "Since then, rounded to hours; default: ever.", since()),
)

OPERATIONS: Final = (
    get(
        "/v1/costs",
        "getCosts",
        "Show what was spent, exactly",
        ref("Costs"),
        _COSTS_QUERY,
        admin=True,
    ),
    get(
        "/v1/budgets",
        "listBudgets",
        "Show what is left of each budget",
        obj({"budgets": array(ref("Budget"))}),
        admin=True,
    ),
)

_SUM: Final[Mapping[str, Json]] = {
    "requests": whole(),
    "failures": whole(),
    "input_tokens": whole(),
    "output_tokens": whole(),
    "cached_tokens": whole(),
    "cost_usd": money(),
    "unpriced": whole("Requests whose cost nobody knows."),
    "estimated": whole("Requests whose cost rests on a guess."),
}

SCHEMAS: Final[Mapping[str, Json]] = {
    "Costs": obj(
        {
            "by": word(*get_args(By)),
            "since": nullable(string("Rounded down to the hour.", format="date-time")),
            "rows": array(obj({"key": string(), **_SUM})),
            "total": obj(_SUM),
        }
    ),
    "Budget": obj(
        {
            "name": string(),
            "window": word(*get_args(Window)),
            "match": obj(
                {
                    "tag": nullable(string()),
                    "submitter": nullable(whole()),
                    "provider": nullable(string()),
                    "model": nullable(string()),
                }
            ),
            "limit_usd": money(),
            "spent_usd": money(),
            "reserved_usd": money("What requests under way may cost at most."),
            "remaining_usd": money(),
            "since": string(format="date-time"),
            "until": nullable(string(format="date-time")),
        }
    ),
}
