"""Providers, in the document: how each is, and what operators can do to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from duckservice.config import AdapterName
from duckservice.core.circuit_breaker import PhaseName
from duckservice.gateway.app.api import PROVIDER_ACTIONS
from duckservice.gateway.app.openapi.operations import Operation
from duckservice.gateway.app.openapi.parts import (
    Json,
    answer,
    array,
    flag,
    in_path,
    mapping,
    money,
    nullable,
    number,
    obj,
    ref,
    string,
    whole,
    word,
)

AREA: Final = "Providers"

OPERATIONS: Final = (
    Operation(
        method="get",
        path="/v1/providers",
        name="listProviders",
        area=AREA,
        summary="Show each provider: breaker, turns, limits, figures",
        answers={
            200: answer("As they are now.", obj({"providers": array(ref("Provider"))}))
        },
        admin=True,
    ),
    Operation(
        method="post",
        path="/v1/providers/check",
        name="checkProviders",
        area=AREA,
        summary="Ask all providers, side by side, whether they answer",
        answers={
            200: answer(
                "What they said.", obj({"providers": array(ref("ProviderCheck"))})
            )
        },
        admin=True,
    ),
    Operation(
        method="post",
        path="/v1/providers/{name}/{action}",
        name="changeProvider",
        area=AREA,
        summary="Take a provider out or back in, close its breaker, or ask it",
        path_is={"name": "The provider's name."},
        parameters=[
            in_path("action", "What is to be done.", word(*PROVIDER_ACTIONS)),
        ],
        answers={
            200: answer(
                "The provider after it; for `check`, what it said.",
                {"anyOf": [ref("Provider"), ref("ProviderCheck")]},
            )
        },
        codes=("not_found",),
        admin=True,
    ),
)

_BREAKER: Final[Mapping[str, Json]] = {
    "breaker": word(*get_args(PhaseName)),
    "breaker_why": nullable(string("Why it is not closed.")),
    "breaker_wait_s": nullable(number("Until it is tried again.")),
}
_BREAKERS: Final[Mapping[str, Json]] = {
    **_BREAKER,
    "enabled": flag(),
    "breakers": mapping(obj(_BREAKER), "By model, where each has one of its own."),
}
_LEFT: Final[Mapping[str, Json]] = {
    "available": nullable(whole("Requests; null: no limit.", least=-(2**53))),
    "tokens_available": nullable(whole("Null: no limit.", least=-(2**53))),
}
_MAYBE: Final[Json] = nullable(number())
_KEYS: Final[Json] = array(
    obj(
        {
            "key": string("Its last four characters."),
            "state": word("ok", "limited", "used_up", "refused", "forbidden"),
            "wait_s": nullable(number("Until it is tried again.")),
        }
    )
)
_COUNTS: Final[Mapping[str, Json]] = {
    "requests": whole(),
    "successes": whole(),
    "failures": whole(),
    "success_rate": nullable(number(maximum=1)),
    "failures_by_code": mapping(whole()),
    "not_counted": mapping(whole()),
}


def _times(name: str) -> dict[str, Json]:
    return {f"{which}_{name}": _MAYBE for which in ("average", "p50", "p90", "p99")}


SCHEMAS: Final[Mapping[str, Json]] = {
    "ProviderHealth": obj(
        {**_BREAKERS, "in_flight": whole(), "health": number(maximum=1)}
    ),
    "Provider": obj(
        {
            "name": string(),
            "adapter": word(*get_args(AdapterName)),
            "models": array(string(), "Names or globs."),
            "priority": whole(),
            **_BREAKERS,
            "in_flight": whole(),
            "max_concurrency": whole(),
            "health": number(maximum=1),
            "latency_ms": _MAYBE,
            "requests": whole(),
            "failures": whole(),
            "cost_usd": nullable(money()),
            "keys": _KEYS,
            "limiter": obj(
                {
                    **_LEFT,
                    "limits": obj(
                        {
                            "requests_per_minute": nullable(whole()),
                            "tokens_per_minute": nullable(whole()),
                            "burst": nullable(whole("The capacity of its bucket.")),
                        },
                        about="What is configured; null: no limit.",
                    ),
                    "key_limits": obj(
                        {
                            "requests_per_minute": nullable(whole()),
                            "tokens_per_minute": nullable(whole()),
                        },
                        about="What is configured of each key; null: no limit.",
                    ),
                    "waiting": whole(),
                    "blocked_s": nullable(number(least=None)),
                    "keys": array(
                        obj({**_LEFT, "rests_s": nullable(number(least=None))}),
                        "Of each of several keys.",
                    ),
                    "told": mapping(
                        obj(
                            {
                                "requests_limit": nullable(whole()),
                                "tokens_limit": nullable(whole()),
                                **_LEFT,
                            }
                        ),
                        "What the provider has told of its limits, by model.",
                    ),
                }
            ),
            "performance": ref("Performance"),
            "by_model": mapping(ref("Performance")),
        }
    ),
    "ProviderCheck": obj(
        {
            "name": string(),
            "adapter": word(*get_args(AdapterName)),
            "healthy": flag(),
            "latency_ms": _MAYBE,
            "detail": nullable(string()),
        },
        {"keys": _KEYS},
        about="Whether it answers; without `keys` where it did not in time.",
    ),
    "Performance": obj(
        {
            "window_s": number("The figures are over the attempts that ended in it."),
            **_COUNTS,
            "sample_full": flag(
                "They are over the newest requests only; there may have been more."
            ),
            **_times("latency_ms"),
            **_times("time_to_first_token_ms"),
            "tokens_per_second": _MAYBE,
            "recent_latency_ms": _MAYBE,
            "recent_time_to_first_token_ms": _MAYBE,
            "recent_age_s": _MAYBE,
            "since_start": obj(_COUNTS),
        }
    ),
}
