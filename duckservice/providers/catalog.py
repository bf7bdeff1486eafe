"""From a provider's config to the provider: what each adapter is by default."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import time
from typing import TYPE_CHECKING, Final, assert_never

import attrs

from duckservice.config import ProviderConfig, Secret
from duckservice.core.pricing import Price
from duckservice.providers import anthropic, openai, openai_compatible
from duckservice.providers.anthropic import AnthropicDialect
from duckservice.providers.base import Provider
from duckservice.providers.failures import Classifier
from duckservice.providers.http import HttpClient
from duckservice.providers.mock import MockProvider
from duckservice.providers.models import ModelNames
from duckservice.providers.openai import OpenAIDialect
from duckservice.providers.openai_compatible import compatible_dialect
from duckservice.providers.prices import Prices
from duckservice.providers.remote import Dialect, RemoteProvider

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
    match config.adapter:
        case "mock":
            return _mock(config)
        case "openai":
            adapter = _Adapter(
                openai.BASE_URL,
                openai.MODELS,
                lambda errors: OpenAIDialect(provider=config.name, errors=errors),
                price_list="openai",
            )
        case "openai-compatible":
            adapter = _Adapter(
                openai_compatible.BASE_URL,
                openai_compatible.MODELS,
                lambda errors: compatible_dialect(config.name, errors),
                foreign_models=openai_compatible.FOREIGN_MODELS,
            )
        case "anthropic":
            adapter = _Adapter(
                anthropic.BASE_URL,
                anthropic.MODELS,
                lambda errors: AnthropicDialect(provider=config.name, errors=errors),
                price_list="anthropic",
            )
        case _:
            assert_never(config.adapter)
    return _remote(config, adapter, transport, wall_clock)


@attrs.frozen
class _Adapter:
    """What holds for an adapter where the config is silent."""

    base_url: str
    models: Sequence[str]
    dialect: Callable[[Classifier], Dialect]
    foreign_models: Sequence[str] = ()
    """Not meant by a default glob."""
    price_list: str | None = None
    """Its name in genai-prices; None: found by the base URL."""


def _remote(
    config: ProviderConfig,
    adapter: _Adapter,
    transport: httpx.AsyncBaseTransport | None,
    wall_clock: Callable[[], float],
) -> RemoteProvider:
    base_url = config.base_url or adapter.base_url
    if config.adapter == "anthropic":
        base_url = base_url.rstrip("/").removesuffix("/v1")  # the paths have it
    headers = _headers(config)
    errors = Classifier(config.name, _secrets(headers), wall_clock=wall_clock)
    return RemoteProvider(
        name=config.name,
        dialect=adapter.dialect(errors),
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


def _headers(config: ProviderConfig) -> Mapping[str, str | Secret]:
    """Return the headers of every request; the config's own win."""
    headers: dict[str, str | Secret] = {
        "content-type": "application/json",
        "user-agent": "duckservice",
    }
    if config.adapter == "anthropic":
        headers["anthropic-version"] = anthropic.VERSION
    if config.api_key is not None and config.adapter == "anthropic":
        headers["x-api-key"] = config.api_key
    elif config.api_key is not None:
        headers["authorization"] = Secret(f"Bearer {config.api_key.reveal()}")
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
