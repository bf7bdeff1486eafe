"""Keys of which another one decides whether they do anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from duckservice.config import Config, ProviderConfig
from duckservice.config_toml.refused import quoted


def effect_warnings(config: Config, tables: Mapping[str, Any]) -> Iterator[str]:
    """Yield what of *config*, read from *tables*, does nothing, or not what it says."""
    written: Mapping[str, Any] = tables.get("providers", {})
    for provider in config.providers.values():
        yield from _timeouts(provider)
        yield from _slow(provider, written[provider.name])
    if "=" in config.routing.sticky:
        key = config.routing.sticky.partition("=")[0].strip()
        yield (
            f"routing.sticky {quoted(config.routing.sticky)} is a tag with its value: no"
            f" request has a tag of that name; the key alone is meant, as {quoted(key)}"
        )


def _timeouts(provider: ProviderConfig) -> Iterator[str]:
    its = provider.timeout
    if its.total < its.first_byte:
        yield (
            f"providers.{provider.name}.timeout.total ({its.total:g} s) is less than"
            f" first_byte ({its.first_byte:g} s), which has no effect then"
        )


def _slow(provider: ProviderConfig, table: Mapping[str, Any]) -> Iterator[str]:
    # What is written counts: it may be the default, and its author expects it to act.
    if "slow_rate" in table.get("breaker", {}) and provider.breaker.slow_call is None:
        yield (
            f"providers.{provider.name}.breaker.slow_rate has no effect without"
            " slow_call, which says what is slow"
        )
