"""How each provider is named to a collector, and where it listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final
from urllib.parse import urlsplit

import attrs

from duckservice.config import Config, ProviderConfig, base_url_of
from duckservice.otel import names

Attributes: TypeAlias = dict[str, str | int | float | bool]


@final
@attrs.define(eq=False)
class Places:
    """What all spans and metrics say of their provider."""

    _config: Callable[[], Config]
    """The config of now: a reload may bring providers, and take some away."""
    _known: dict[str, tuple[ProviderConfig, Attributes]] = attrs.field(
        factory=dict[str, tuple[ProviderConfig, Attributes]]
    )

    def of(self, name: str) -> Attributes:
        """Return it for the provider of that name; it is not to be changed."""
        provider = self._config().providers.get(name)
        known = self._known.get(name)
        if known is not None and (provider is None or known[0] is provider):
            return known[1]
        if provider is None:
            return {names.PROVIDER: name, "duck.provider": name}
        place = place_of(provider)
        self._known[name] = provider, place
        return place


def place_of(provider: ProviderConfig) -> Attributes:
    """Return the same for one provider."""
    known = names.PROVIDER_NAMES.get(provider.adapter)
    # What speaks OpenAI's format may be anybody: only its table's name tells.
    anybody = provider.adapter == "openai-compatible"
    other = provider.name if anybody else provider.adapter
    found: Attributes = {
        names.PROVIDER: known or other,
        "duck.provider": provider.name,
    }
    parts = urlsplit(base_url_of(provider))
    if parts.hostname:
        found[names.ADDRESS] = parts.hostname
        found[names.PORT] = parts.port or (80 if parts.scheme == "http" else 443)
    return found
