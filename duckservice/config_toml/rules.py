"""What concerns several keys at once, and what this version does not do yet.

What is not enforced is refused, or warned about: a limit that is silently
ignored would be worse than none.
"""

from __future__ import annotations

import grp
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import attrs

from duckservice.config import (
    MOCK_MODELS,
    AccessConfig,
    CacheConfig,
    Config,
    ProviderConfig,
    RetryConfig,
    ServiceConfig,
    StoreConfig,
    base_url_of,
)
from duckservice.config_toml import budget_rules, provider_rules, telemetry_rules
from duckservice.config_toml.budget_rules import budget_warnings
from duckservice.config_toml.effect_warnings import effect_warnings
from duckservice.config_toml.fallback_warnings import fallback_warnings
from duckservice.config_toml.key_warnings import key_warnings
from duckservice.config_toml.provider_rules import Rule
from duckservice.config_toml.refused import Refused, quoted
from duckservice.config_toml.secrets import read_token
from duckservice.loopback import loopback_address


def with_defaults(provider: ProviderConfig) -> ProviderConfig:
    """Return *provider* with what its adapter says by default."""
    base_url = base_url_of(provider)
    models = provider.models
    if not models and provider.adapter == "mock":
        models = MOCK_MODELS
    return attrs.evolve(provider, base_url=base_url, models=models)


def check(value: object, refused: Collection[str] = ()) -> Iterator[Refused]:
    """Yield what is wrong in *value*, a table.

    The keys in *refused* were wrong by themselves and have their defaults here:
    what depends on them cannot be judged.
    """
    for keys, rule in _RULES.get(type(value), ()):
        if keys.isdisjoint(refused):
            yield from rule(value)


def _access(access: AccessConfig) -> Iterator[Refused]:
    if access.mode == 0o660 and not access.group:
        yield Refused(
            "nothing, with mode 0660",
            "the name of the group that may connect",
            key=("group",),
        )
    if access.group and access.mode != 0o660:
        yield Refused(
            f"{access.mode:04o} (the mode), with a group",
            '"0660", or no group',
            key=("mode",),
        )


def _group(access: AccessConfig) -> Iterator[Refused]:
    if not access.group:
        return
    try:
        grp.getgrnam(access.group)
    except KeyError:
        yield Refused(
            f"{quoted(access.group)} (a string), a group that this machine has not",
            "the name of a group of this machine",
            hint="`getent group` lists them",
            key=("group",),
        )


def _http(service: ServiceConfig) -> Iterator[Refused]:
    if service.http and loopback_address(service.http) is None:
        yield Refused(
            f"{quoted(service.http)} (a string)",
            'an IP address of this machine and a port, as "127.0.0.1:8731", or ""',
            hint="to serve other machines, put a proxy in front that knows its users",
            key=("http",),
        )


def _token(service: ServiceConfig) -> Iterator[Refused]:
    if not service.http:
        return
    if service.token_file is None:
        yield Refused(
            "nothing, with service.http",
            "the path of a file that holds a token and has mode 0600",
            hint="(umask 077; openssl rand -hex 32 > FILE)",
            key=("token_file",),
        )
        return
    try:
        read_token(service.token_file)
    except Refused as error:
        error.key = ("token_file",)
        yield error


def _store(store: StoreConfig) -> Iterator[Refused]:
    url = store.url
    if url in ("sqlite", "memory"):
        return
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return
    postgres = url.startswith(("postgresql:", "postgres:"))
    yield Refused(
        # It may have a password in it.
        "a PostgreSQL URL" if postgres else "another URL (not shown)",
        '"sqlite", "sqlite:///path" or "memory"',
        hint="PostgreSQL is not available in this version" if postgres else "",
        key=("url",),
    )


def _retry(retry: RetryConfig) -> Iterator[Refused]:
    if retry.max_delay < retry.base_delay:
        yield Refused(
            f"{retry.max_delay:g} seconds, less than base_delay",
            f"at least base_delay, {retry.base_delay:g} seconds",
            key=("max_delay",),
        )


def _cache(cache: CacheConfig) -> Iterator[Refused]:
    if cache.enabled and cache.max_bytes < _CACHE_LEAST:
        yield Refused(
            f"{cache.max_bytes} bytes, in which hardly a reply has room",
            f"at least {_CACHE_LEAST >> 10}KiB, or enabled = false",
            key=("max_bytes",),
        )


_CACHE_LEAST: Final = 16 << 10
_CACHE_SMALL: Final = 1 << 20
_RETENTION_SHORT: Final = 3600.0

_RULES: Final[Mapping[type, tuple[Rule, ...]]] = {
    AccessConfig: (
        (frozenset({"mode", "group"}), _access),
        (frozenset({"group"}), _group),
    ),
    ServiceConfig: (
        (frozenset({"http"}), _http),
        (frozenset({"http", "token_file"}), _token),
    ),
    StoreConfig: ((frozenset({"url"}), _store),),
    RetryConfig: ((frozenset({"base_delay", "max_delay"}), _retry),),
    CacheConfig: ((frozenset({"enabled", "max_bytes"}), _cache),),
    **provider_rules.RULES,
    **budget_rules.RULES,
    **telemetry_rules.RULES,
}


def warnings(config: Config, tables: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is accepted in *config*, read from *tables*, but should be known."""
    yield from key_warnings(config.providers, tables)
    yield from fallback_warnings(config)
    if not config.providers:
        yield 'no provider is configured: a mock provider, named "mock", answers'
    yield from budget_warnings(config)
    yield from effect_warnings(config, tables)
    yield from _store_warnings(config.store)
    yield from _cache_warnings(config)
    yield from telemetry_rules.telemetry_warnings(config.telemetry)
    if config.service.token_file is not None and not config.service.http:
        yield "service.token_file has no effect without service.http"


def _cache_warnings(config: Config) -> Iterator[str]:
    its = config.cache
    if not its.enabled:
        for name in ("persist", "coalesce"):
            if getattr(its, name):
                yield f"cache.{name} has no effect without cache.enabled"
        return
    if its.max_bytes < _CACHE_SMALL:
        yield (
            "cache.max_bytes is less than 1 MiB: a long reply, and the embeddings of"
            " more than a few texts, have no room in the cache"
        )
    if its.persist and config.store.url == "memory":
        yield (
            'cache.persist writes replies to the disk, where store.url = "memory"'
            " keeps nothing else"
        )


def _store_warnings(store: StoreConfig) -> Iterator[str]:
    for name, seconds in attrs.asdict(store.retention).items():
        if name != "streams" and seconds < _RETENTION_SHORT:
            yield (
                f"store.retention.{name} is less than an hour: a client that comes"
                " back later, and a batch that runs longer, will not find its results"
            )
    if store.url == "memory" and store.max_bytes != StoreConfig().max_bytes:
        yield 'store.max_bytes has no effect with store.url = "memory"'
    if store.max_bytes < store.max_request + store.max_result:
        yield (
            "store.max_bytes is less than one job may take"
            " (store.max_request and store.max_result)"
        )
