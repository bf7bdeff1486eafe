"""All policies by name: the service's defaults, changes of them, and naive clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs

from duckservice.config import Config
from tests.simulation.daemon import open_daemon
from tests.simulation.naive import (
    CheckThenAdd,
    NaiveBreaker,
    OneLine,
    Retrying,
    TokenBucket,
    naive,
)
from tests.simulation.policy import Policy


def _breaker(**changes: Any) -> Policy:
    return _providers(lambda its: {"breaker": attrs.evolve(its.breaker, **changes)})


def _timeout(**changes: Any) -> Policy:
    return _providers(lambda its: {"timeout": attrs.evolve(its.timeout, **changes)})


def _providers(change: Callable[[Any], Mapping[str, Any]]) -> Policy:
    def changed(config: Config) -> Config:
        providers = {
            name: attrs.evolve(its, **change(its))
            for name, its in config.providers.items()
        }
        return attrs.evolve(config, providers=providers)

    return Policy(open_daemon, changed)


def _routing(**changes: Any) -> Policy:
    def changed(config: Config) -> Config:
        return attrs.evolve(config, routing=attrs.evolve(config.routing, **changes))

    return Policy(open_daemon, changed)


def _a_second(_retry: int) -> float:
    return 1.0


NAIVE: Final[Mapping[str, Policy]] = {
    "naive-retries": naive(Retrying),
    "naive-fixed": naive(partial(Retrying, delay=_a_second)),
    "check-then-add": naive(CheckThenAdd),
    "token-bucket": naive(TokenBucket),
    "naive-breaker": naive(NaiveBreaker),
    "one-line": naive(OneLine),
}

POLICIES: Final[Mapping[str, Policy]] = {
    "default": Policy(open_daemon),
    "hedge": _routing(hedge_after=4.0),
    "cheapest": _routing(strategy="cheapest"),
    "fastest": _routing(strategy="fastest"),
    "least-busy": _routing(strategy="least_busy"),
    "failure-rate": _breaker(failure_rate=0.5),
    "slow-calls": _breaker(slow_call=10.0),
    "short-rest": _breaker(reset_timeout=20.0),
    "one-probe": _breaker(success_threshold=1),
    "first-byte-20": _timeout(first_byte=20.0),
    **NAIVE,
}
"""`default` is what a config without any of these keys gives."""
