"""From a provider's config to the provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from time import time
from typing import TYPE_CHECKING, Final

from duckservice.config import AdapterName, ProviderConfig, Secret, keys_of
from duckservice.core.pricing import Price
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.adapters import adapter_of
from duckservice.providers.auth.table import credentials_of, handed_over
from duckservice.providers.base import Provider
from duckservice.providers.failures import Classifier
from duckservice.providers.http import HttpClient, secrets_of
from duckservice.providers.mock import MockProvider
from duckservice.providers.models import ModelNames
from duckservice.providers.prices import Prices
from duckservice.providers.redaction import Secrets
from duckservice.providers.remote import RemoteProvider
from duckservice.providers.thought_marks import thinker_of
from duckservice.providers.way_out import way_of
from duckservice.redaction import SECRET_NAME

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
    return _remote(config, transport=transport, wall_clock=wall_clock)


def renewed_provider(old: Provider, config: ProviderConfig) -> Provider:
    """Return the provider of *config*, over the connections that *old* has.

    They must go to the same address; where *config* says another way there, it has
    connections of its own. What *old* has found out about its keys, and the
    tokens that it holds, are handed over, as far as they are the same ones. What is
    under way in *old* goes on; nothing is to be closed but one of the two. Raises
    `ValueError` as `make_provider` does.
    """
    if not isinstance(old, RemoteProvider) or config.adapter == "mock":
        return make_provider(config)
    same_way = way_of(config) == way_of(old.config)
    transport = old.http.transport if same_way else None
    return _remote(config, transport=transport, old=old)


def _remote(
    config: ProviderConfig,
    *,
    transport: httpx.AsyncBaseTransport | None,
    wall_clock: Callable[[], float] = time,
    old: RemoteProvider | None = None,
) -> RemoteProvider:
    adapter = adapter_of(config.adapter)
    base_url = adapter.base_url(config)
    headers = _headers(config, adapter)
    secrets = Secrets(_secrets(config, headers))
    errors = Classifier(
        config.name,
        secrets,
        reader=adapter.reader,
        rules=adapter.rules,
        wall_clock=wall_clock,
    )
    speaker = Speaker(provider=config.name, errors=errors, config=config)
    credentials = credentials_of(
        config, key_header=adapter.key_header, made=adapter.credentials
    )
    if old is not None:
        credentials = handed_over(
            old.http.credentials, credentials, before=old.config, now=config
        )
    return RemoteProvider(
        name=config.name,
        config=config,
        leave_out=config.leave_out,
        dialect=adapter.dialect(speaker),
        http=HttpClient(
            provider=config.name,
            base_url=base_url,
            headers=headers,
            timeout=config.timeout,
            classify=errors,
            credentials=credentials,
            secrets=secrets,
            way=way_of(config),
            transport=transport,
            wall_clock=wall_clock,
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
        thinker=partial(thinker_of, config.adapter, config.api),
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
    """Return the headers of every request, keys apart; the config's own win."""
    headers: dict[str, str | Secret] = {
        "content-type": "application/json",
        "user-agent": "duckservice",
        **adapter.headers,
    }
    for name, value in _HEADERS_OF_KEYS.get(config.adapter, {}).items():
        if said := getattr(config, name):
            headers[value] = said
    for name, value in config.headers.items():
        is_secret = SECRET_NAME.search(name) is not None
        headers[name.lower()] = Secret(value) if is_secret else value
    return headers


_HEADERS_OF_KEYS: Final[Mapping[AdapterName, Mapping[str, str]]] = {
    "openai": {
        "organization": "openai-organization",
        "project": "openai-project",
    },
    "anthropic": {"api_version": "anthropic-version"},
}
"""Which keys of the config are headers, by adapter."""


def _secrets(
    config: ProviderConfig, headers: Mapping[str, str | Secret]
) -> Iterator[str]:
    yield from secrets_of(headers)
    for key in keys_of(config):
        yield key.reveal()
    if config.auth is not None:
        for secret in config.auth.secrets():
            yield secret.reveal()
    if config.proxy is not None:
        for secret in config.proxy.secrets():
            yield secret.reveal()
