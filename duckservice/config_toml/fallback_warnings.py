"""Models that are to stand in for others, and are served by nobody."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from duckservice.config import Config, ProviderConfig
from duckservice.config_toml.refused import quoted


def fallback_warnings(config: Config) -> Iterator[str]:
    """Yield which stand-ins of *config* could never be asked: seen in an outage only."""
    routing = config.routing
    for key, fallbacks in (
        ("fallbacks", routing.fallbacks),
        ("context_fallbacks", routing.context_fallbacks),
        ("content_fallbacks", routing.content_fallbacks),
    ):
        for model, others in fallbacks.items():
            where = f"routing.{key}.{quoted(model)}"
            if not others:
                yield f"{where} is empty: nothing stands in"
            if model in others:
                yield f"{where} names itself, which has no effect"
            for other in others:
                if not _may_be_served(config, other):
                    yield f"{where}: no provider serves {quoted(other)}"


def _may_be_served(config: Config, model: str) -> bool:
    return not config.providers or any(
        _may_serve(provider, model) for provider in config.providers.values()
    )


def _may_serve(provider: ProviderConfig, model: str) -> bool:
    # Without a list its adapter decides, which takes long to load.
    return (
        not provider.models
        or model in provider.model_map
        or any(fnmatchcase(model, pattern) for pattern in provider.models)
    )
