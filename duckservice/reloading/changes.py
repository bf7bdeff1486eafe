"""What a config that was read again changes, and what of that must wait; pure.

Providers, budgets, routing, retries and the size of the queue are taken over while
the daemon runs. What it was started with, as its socket and its store, needs a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import attrs

from duckservice.config import (
    AuthConfig,
    CaFile,
    Config,
    PriceConfig,
    ProviderConfig,
    Proxy,
)

LIVE: Final = ("providers", "retry", "routing", "budgets")
"""The tables that are taken over."""
LIVE_KEYS: Final = {"queue": ("max_size", "max_jobs")}
"""The keys that are, of tables that as a whole are not."""

WHERE: Final = frozenset({"adapter", "base_url", "region", "location"})
"""The keys that say where a provider is."""
WAY: Final = frozenset({"ca_file", "proxy"})
"""The keys that say how connections to it are made."""
ASIDE: Final = frozenset(
    {
        *("priority", "weight", "max_concurrency"),
        *("rate_limit", "limits", "key_limits", "breaker"),
    }
)
"""The keys that decide when a provider is asked, and not what it is told."""


WHOLE: Final = (AuthConfig, CaFile, PriceConfig, Proxy)
"""Tables that are named, and not their keys: these belong together."""


@attrs.frozen(kw_only=True)
class Changes:
    """What a new config changes."""

    config: Config
    """The one that holds from now on: the old one, with what is taken over."""
    added: tuple[str, ...]
    """Providers that are new."""
    removed: tuple[str, ...]
    """Providers that are gone."""
    moved: tuple[str, ...]
    """Providers that are elsewhere now: they need other connections."""
    renewed: tuple[str, ...]
    """Providers that are asked otherwise now, where they were."""
    rerouted: tuple[str, ...]
    """Of these: to which there is another way, and not the connections that they have."""
    tuned: tuple[str, ...]
    """Providers of which something has changed, these two included."""
    changed: tuple[str, ...]
    """Paths of keys that are taken over."""
    new_paths: tuple[str, ...]
    """Of these: providers and budgets that are new."""
    gone_paths: tuple[str, ...]
    """Of these: providers and budgets that are gone."""
    needs_restart: tuple[str, ...]
    """Paths of keys that are not."""


def changes(old: Config, new: Config) -> Changes:
    """Return what becomes of *old* when *new* is read."""
    changed, waiting = list[str](), list[str]()
    kept = dict[str, Any]()
    for name in _keys(Config):
        before, after = getattr(old, name), getattr(new, name)
        if name in LIVE:
            changed += _differences(before, after, name)
            continue
        live = LIVE_KEYS.get(name, ())
        kept[name] = attrs.evolve(before, **{key: getattr(after, key) for key in live})
        changed += _differences(before, kept[name], name)
        waiting += _differences(kept[name], after, name)
    olds, news = old.providers, new.providers
    different = {
        name: _different(olds[name], its) for name, its in news.items() if name in olds
    }
    moved = [name for name, keys in different.items() if keys & WHERE]
    return Changes(
        config=attrs.evolve(new, **kept),
        added=tuple(name for name in news if name not in olds),
        removed=tuple(name for name in olds if name not in news),
        moved=tuple(moved),
        renewed=tuple(
            name
            for name, keys in different.items()
            if keys - ASIDE and name not in moved
        ),
        rerouted=tuple(
            name for name, keys in different.items() if keys & WAY and name not in moved
        ),
        tuned=tuple(name for name, keys in different.items() if keys),
        changed=tuple(changed),
        new_paths=tuple(_missing(old, new)),
        gone_paths=tuple(_missing(new, old)),
        needs_restart=tuple(waiting),
    )


def _missing(here: Config, there: Config) -> Iterator[str]:
    """Yield the paths of providers and budgets that are only *there*."""
    for table in ("providers", "budgets"):
        names: Mapping[str, Any] = getattr(here, table)
        yield from (f"{table}.{n}" for n in getattr(there, table) if n not in names)


def _different(old: ProviderConfig, new: ProviderConfig) -> frozenset[str]:
    its = (k for k in _keys(ProviderConfig) if getattr(old, k) != getattr(new, k))
    return frozenset(its)


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    """Yield the paths of the keys in which *old* and *new* differ."""
    if old == new:
        return
    cls: type = old.__class__
    if attrs.has(cls) and cls is new.__class__ and cls not in WHOLE:
        for name in _keys(cls):
            its = getattr(old, name), getattr(new, name)
            yield from _differences(*its, f"{path}.{name}")
    elif isinstance(old, Mapping) and path in {"providers", "budgets"}:
        olds, news = cast("Mapping[str, Any]", old), cast("Mapping[str, Any]", new)
        for name in {**olds, **news}:
            yield from _differences(olds.get(name), news.get(name), f"{path}.{name}")
    else:
        yield path


def _keys(cls: type) -> list[str]:
    return [f.name for f in attrs.fields(cls) if "not_a_key" not in f.metadata]
