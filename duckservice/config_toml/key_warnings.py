"""Keys that are accepted, but look wrong: literal, twice, or another provider's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

from duckservice.config import BASE_URLS, AdapterName, ProviderConfig, Secret
from duckservice.config_toml.secrets import STAND_IN, is_literal
from duckservice.redaction import masked

_OWNERS: Final[Mapping[str, tuple[AdapterName, ...]]] = {
    "sk-ant-": ("anthropic",),
    "sk-or-": ("openrouter",),
    "sk-proj-": ("openai",),
    "sk-svcacct-": ("openai",),
    "gsk_": ("groq",),
    "xai-": ("xai",),
    "hf_": ("huggingface",),
    "tgp_": ("together",),
    "AIza": ("gemini", "vertex"),
    "ABSK": ("bedrock",),
}
"""Whose keys begin like that, and nobody else's."""

_ANYBODYS: Final = frozenset({"openai-compatible", "ollama", "mock"})
"""These stand for servers of all makers."""

_SECRET_KEYS: Final = (
    "client_secret",
    "refresh_token",
    "access_key_id",
    "secret_access_key",
    "session_token",
)


def key_warnings(
    providers: Mapping[str, ProviderConfig], tables: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what is to be said about the keys of *providers*, read from *tables*."""
    for name, table in tables.get("providers", {}).items():
        for key, value in _secrets_in(table):
            if is_literal(value):
                yield (
                    f"providers.{name}.{key} is a literal key; prefer"
                    ' "file:/path" or "env:NAME"'
                )
    for provider in providers.values():
        yield from _keyless(provider)
        yield from _twice(provider)
        yield from _misshapen(provider)


def _keyless(provider: ProviderConfig) -> Iterator[str]:
    """Say that requests go out without anything that says whose they are."""
    known = BASE_URLS.get(provider.adapter)
    is_hosted = provider.base_url == known and provider.adapter not in _ANYBODYS
    if not is_hosted and provider.adapter != "azure":
        return
    proves = provider.api_key or provider.api_keys or provider.auth or provider.headers
    if not proves:
        yield (
            f"providers.{provider.name} has no api_key, no auth and no headers: its"
            " requests are sent as nobody's, and will be refused"
        )


def _secrets_in(table: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "api_key", table.get("api_key")
    for number, value in enumerate(table.get("api_keys", ())):
        yield f"api_keys[{number}]", value
    auth: Mapping[str, object] = table.get("auth", {})
    for key in _SECRET_KEYS:
        yield f"auth.{key}", auth.get(key)
    if "@" in str(table.get("proxy", "")):
        yield "proxy", table["proxy"]


def _named(provider: ProviderConfig) -> Iterator[tuple[str, Secret]]:
    if provider.api_key is not None:
        yield "api_key", provider.api_key
    for number, key in enumerate(provider.api_keys):
        yield f"api_keys[{number}]", key


def _twice(provider: ProviderConfig) -> Iterator[str]:
    seen = dict[Secret, str]()
    for name, key in _named(provider):
        if key in seen:
            yield (
                f"providers.{provider.name}.{name} is the same key as {seen[key]}:"
                " it adds nothing"
            )
        seen.setdefault(key, name)


def _misshapen(provider: ProviderConfig) -> Iterator[str]:
    adapter = provider.adapter
    if adapter in _ANYBODYS or provider.base_url != BASE_URLS.get(adapter, ""):
        return  # a gateway in front of a provider has keys of its own
    for name, key in _named(provider):
        text = key.reveal()
        if text.startswith(STAND_IN):
            continue
        owners = _owners(text)
        if owners and adapter not in owners:
            what = f"has the shape of a key of {' or '.join(owners)}"
        elif not owners and not _fits(adapter, text):
            what = f"does not look like a key of {adapter}"
        else:
            continue
        yield f"providers.{provider.name}.{name} ({masked(text)}) {what}"


def _owners(key: str) -> tuple[AdapterName, ...]:
    return next((its for start, its in _OWNERS.items() if key.startswith(start)), ())


def _fits(adapter: AdapterName, key: str) -> bool:
    # By name, and only for who has a key: an adapter imports all that is HTTP.
    adapters = import_module("duckservice.providers.adapters")
    shape = adapters.adapter_of(adapter).key_shape
    return shape is None or shape.fullmatch(key) is not None
