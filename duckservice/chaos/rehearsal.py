"""The config that the bench runs: the user's policy, faster, and on loopback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

import attrs

from duckservice.chaos.stand_ins import stand_in
from duckservice.chaos.upstream import HOST
from duckservice.config import (
    BreakerConfig,
    CacheConfig,
    Config,
    LimitsConfig,
    ProviderConfig,
    RetryConfig,
    RoutingConfig,
    Secret,
    ServiceConfig,
    StoreConfig,
    TimeoutConfig,
    base_url_of,
    keys_of,
)

_FIRST_BYTE: Final = 1.0
"""What the longest wait of the config becomes, in seconds."""

_FLOORS: Final = {
    "connect": 0.5,
    "first_byte": 0.5,
    "idle": 0.4,
    "total": 5.0,
    "reset_timeout": 0.5,
}
"""Seconds below which a time is not scaled: a busy machine is no fault."""

_ANSWER_WITHIN_MAX: Final = 20.0
_SLACK: Final = 2.0
_PLACEHOLDER_PORT: Final = 1


def default_config() -> Config:
    """Return what is tried where there is no config: two providers, all else default."""
    return Config(
        providers={
            "first": ProviderConfig(
                name="first",
                adapter="openai-compatible",
                api_key=Secret(stand_in()),
                base_url="https://first.invalid/v1",
                models=("duck-1",),
                priority=1,
            ),
            "second": ProviderConfig(
                name="second",
                adapter="anthropic",
                api_key=Secret(stand_in()),
                models=("duck-1",),
                priority=2,
            ),
        }
    )


@attrs.frozen(kw_only=True)
class Rehearsal:
    """What is run, and how it differs from the config that it comes from."""

    config: Config
    """Scaled, without secrets; its upstreams' ports are still to be filled in."""
    factor: float
    """What times were multiplied by."""
    left_out: tuple[str, ...]
    """Providers of the config that are asked without HTTP, so that nothing can fail."""
    is_ours: bool = False
    """Whether there was no provider to try, so that two of ours are."""

    def at(self, ports: Mapping[str, int]) -> Config:
        """Return the config with the providers at these ports."""
        return attrs.evolve(
            self.config,
            providers={
                name: attrs.evolve(its, base_url=_url(its, ports[name]))
                for name, its in self.config.providers.items()
            },
        )

    @property
    def times(self) -> str:
        """How long the config's times are here, for people."""
        its = next(iter(self.config.providers.values()))
        return (
            f"times are 1/{1 / self.factor:.3g} of the config's, none below"
            f" {min(_FLOORS.values()):g} s ({its.name}: first_byte"
            f" {its.timeout.first_byte:.2g} s, idle {its.timeout.idle:.2g} s,"
            f" reset_timeout {its.breaker.reset_timeout:.2g} s)"
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """All stand-ins: a provider may see its own, a client none."""
        return tuple(
            key.reveal()
            for its in self.config.providers.values()
            for key in keys_of(its)
        )

    def owner(self, key: str) -> str | None:
        """Return the name of the provider whose key it is."""
        for name, its in self.config.providers.items():
            if Secret(key) in keys_of(its):
                return name
        return None

    @property
    def keys_max(self) -> int:
        """The most keys that one provider has; each may be tried once an attempt."""
        its = self.config.providers.values()
        return max(1, *(len(keys_of(each)) for each in its))

    @property
    def limit(self) -> float:
        """Seconds within which the policy promises an end to any request."""
        attempts, its = self.config.retry.max_attempts, self.config.providers.values()
        longest = max(
            (t.connect + t.first_byte + t.idle for t in (p.timeout for p in its)),
            default=0.0,
        )
        # A provider may ask for a pause of a second.
        pauses = max(1.0, self.config.retry.max_delay)
        return min(_ANSWER_WITHIN_MAX, attempts * (longest + pauses) + _SLACK)

    @property
    def calls_max(self) -> int:
        """Calls that one request may cost at most."""
        hedged = self.config.routing.hedge_after is not None
        return self.config.retry.max_attempts + hedged


def rehearse(config: Config) -> Rehearsal:
    """Return how *config* is to be run on the bench."""
    left_out = tuple(n for n, p in config.providers.items() if p.adapter == "mock")
    is_ours = len(left_out) == len(config.providers)
    if is_ours:
        config, left_out = default_config(), ()
    remote = {n: p for n, p in config.providers.items() if n not in left_out}
    factor = _factor(remote.values())
    providers = {name: _provider(its, factor) for name, its in remote.items()}
    return Rehearsal(
        factor=factor,
        left_out=left_out,
        is_ours=is_ours,
        config=attrs.evolve(
            config,
            providers=providers,
            service=ServiceConfig(drain_grace=0.0),
            store=StoreConfig(),
            retry=_retry(config.retry, factor),
            routing=_routing(config.routing, factor),
            # It is faults that are tried here, and the same small talk again and again.
            cache=CacheConfig(),
            budgets={},
        ),
    )


def _factor(providers: Iterable[ProviderConfig]) -> float:
    waits = [
        wait
        for its in providers
        for wait in (
            its.timeout.first_byte,
            its.timeout.idle,
            its.breaker.reset_timeout,
        )
    ]
    return min(1.0, _FIRST_BYTE / max(waits, default=_FIRST_BYTE))


def _provider(its: ProviderConfig, factor: float) -> ProviderConfig:
    return attrs.evolve(
        its,
        # Without a key some adapters would log in, as the machine or at a server.
        api_key=its.api_key if keys_of(its) else Secret(stand_in()),
        auth=None,
        base_url=_url(its, _PLACEHOLDER_PORT),
        timeout=_timeout(its.timeout, factor),
        breaker=_breaker(its.breaker, factor),
        rate_limit=None,
        limits=LimitsConfig(),
        key_limits=LimitsConfig(),
    )


def _url(its: ProviderConfig, port: int) -> str:
    """Return the provider's URL at a *port* of loopback; its path says the format."""
    return f"http://{HOST}:{port}{urlsplit(base_url_of(its)).path}"


def _timeout(its: TimeoutConfig, factor: float) -> TimeoutConfig:
    return TimeoutConfig(
        connect=_scaled("connect", its.connect, factor),
        first_byte=_scaled("first_byte", its.first_byte, factor),
        idle=_scaled("idle", its.idle, factor),
        total=_scaled("total", its.total, factor),
    )


def _breaker(its: BreakerConfig, factor: float) -> BreakerConfig:
    slow = its.slow_call
    return attrs.evolve(
        its,
        reset_timeout=_scaled("reset_timeout", its.reset_timeout, factor),
        slow_call=None if slow is None else _scaled("first_byte", slow, factor),
        window=_scaled("first_byte", its.window, factor),
    )


def _retry(its: RetryConfig, factor: float) -> RetryConfig:
    return attrs.evolve(
        its, base_delay=its.base_delay * factor, max_delay=its.max_delay * factor
    )


def _routing(its: RoutingConfig, factor: float) -> RoutingConfig:
    hedge = its.hedge_after
    return attrs.evolve(
        its,
        spill_after=its.spill_after * factor,
        hedge_after=None if hedge is None else hedge * factor,
        commit_window=its.commit_window * factor,
    )


def _scaled(name: str, seconds: float, factor: float) -> float:
    return min(seconds, max(_FLOORS[name], seconds * factor))
