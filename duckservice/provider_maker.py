"""How providers are made of their configs: at the start, after a crash, at a reload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import final

from duckservice.config import Config, ProviderConfig
from duckservice.providers.base import Provider


def makers_of(
    config: Config, providers: Mapping[str, Provider] | None
) -> dict[str, Callable[[], Provider]]:
    """Return what makes each provider of *config*; or gives one of *providers*.

    Raises:
        ValueError: *providers* are there, but not one for each of the config's.
    """
    if providers is not None:
        _must_be_the_same(config.providers, providers)
        return {name: partial(_same, its) for name, its in providers.items()}
    return {name: partial(_make, its) for name, its in config.providers.items()}


def _must_be_the_same(
    configured: Mapping[str, object], given: Mapping[str, object]
) -> None:
    if configured.keys() != given.keys():
        msg = (
            "providers= takes one object for each provider of the config, by name:"
            f" the config has {sorted(configured)}, given were {sorted(given)}"
        )
        raise ValueError(msg)


def _make(config: ProviderConfig) -> Provider:
    from duckservice.providers.catalog import make_provider  # noqa: PLC0415 - httpx takes 0.3 s to import, and tests with own providers need none of it

    return make_provider(config)


@final
class Maker:
    """Makes providers of their configs; see `renewal.ProviderMaker`."""

    def make(self, config: ProviderConfig) -> Provider:
        """Return a provider with connections of its own."""
        return _make(config)

    def renew(self, old: Provider, config: ProviderConfig) -> Provider:
        """Return a provider over the connections of *old*."""
        from duckservice.providers.catalog import renewed_provider  # noqa: PLC0415 - as above

        return renewed_provider(old, config)


def _same(provider: Provider) -> Provider:
    return provider
