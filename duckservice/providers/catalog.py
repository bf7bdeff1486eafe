"""From a provider's config to the provider."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from time import time
from typing import TYPE_CHECKING, Final

from duckservice.config import ProviderConfig, Secret
from duckservice.core.pricing import Price
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.adapters import adapter_of
from duckservice.providers.base import Provider
from duckservice.providers.failures import Classifier
from duckservice.providers.http import HttpClient
from duckservice.providers.mock import MockProvider
from duckservice.providers.models import ModelNames
from duckservice.providers.prices import Prices
from duckservice.providers.remote import RemoteProvider

if TYPE_CHECKING:
    import httpx


def make_provider(
    config: ProviderConfig,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    wall_clock: Callable[[], float] = time,
) -> Provider:
    """Return the provider that *config* describes; nothing is sent yet.

    *transport* replaces all that is below HTTP. Raises `ValueError`, free of
    secrets, if the base URL or a header cannot be used.
    """
    if config.adapter == "mock":
        return _mock(config)
    adapter = adapter_of(config.adapter)
    base_url = adapter.base_url(config)
    headers = _headers(config, adapter)
    errors = Classifier(
        config.name,
        _secrets(headers),
        reader=adapter.reader,
        rules=adapter.rules,
        wall_clock=wall_clock,
    )
    speaker = Speaker(provider=config.name, errors=errors, config=config)
    return RemoteProvider(
        name=config.name,
        dialect=adapter.dialect(speaker),
        http=HttpClient(
            provider=config.name,
            base_url=base_url,
            headers=headers,
            timeout=config.timeout,
            classify=errors,
            transport=transport,
        ),
        errors=errors,
        models=ModelNames(
            config.models or adapter.models,
            config.model_map,
            excluded=() if config.models else adapter.foreign_models,
        ),
        prices=Prices(
            override=_price(config),
            list_id=adapter.price_list,
            api_url=base_url,
            wall_clock=wall_clock,
        ),
    )


def _mock(config: ProviderConfig) -> MockProvider:
    return MockProvider(
        config.name,
        models=config.models or ("mock-*",),
        model_map=config.model_map,
        price=config.price,
    )


def _price(config: ProviderConfig) -> Price | None:
    if config.price is None:
        return None
    return Price.usd_per_mtok(input=config.price.input, output=config.price.output)


def _headers(config: ProviderConfig, adapter: Adapter) -> Mapping[str, str | Secret]:
    """Return the headers of every request; the config's own win."""
    headers: dict[str, str | Secret] = {
        "content-type": "application/json",
        "user-agent": "duckservice",
        **adapter.headers,
    }
    if (key := config.api_key) is not None:
        bearer = adapter.key_header == "authorization"
        headers[adapter.key_header] = (
            Secret(f"Bearer {key.reveal()}") if bearer else key
        )
    for name, value in config.headers.items():
        is_secret = _SECRET_NAME.search(name) is not None
        headers[name.lower()] = Secret(value) if is_secret else value
    return headers


_SECRET_NAME: Final = re.compile(
    r"authorization|cookie|key|secret|token", re.IGNORECASE
)


def _secrets(headers: Mapping[str, str | Secret]) -> Iterable[str]:
    for value in headers.values():
        if isinstance(value, Secret):
            yield value.reveal().removeprefix("Bearer ")
