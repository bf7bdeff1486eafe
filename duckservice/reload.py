"""What of a config that was read again can be taken over while the daemon runs; pure.

Keys, ``auth``, headers and prices of a provider can. All else needs a restart, and
so does a provider that is elsewhere now: its new key is not for its old address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import attrs

from duckservice.config import Config, ProviderConfig

RELOADED: Final = ("api_key", "api_keys", "auth", "headers", "price")
"""The keys of a provider that can be taken over."""

_WHERE: Final = ("adapter", "base_url", "region", "location")


@attrs.frozen(kw_only=True)
class Changes:
    """What a new config changes."""

    config: Config
    """The one that holds from now on: the old one, with what was taken over."""
    providers: tuple[str, ...]
    """Those whose keys are other ones now."""
    changed: tuple[str, ...]
    """Paths of keys that were taken over."""
    needs_restart: tuple[str, ...]
    """Paths of keys that were not."""


def changes(old: Config, new: Config) -> Changes:
    """Return what becomes of *old* when *new* is read."""
    providers = dict(old.providers)
    changed = list[str]()
    waiting = [
        path
        for name in _keys(Config)
        if name != "providers"
        for path in _differences(getattr(old, name), getattr(new, name), name)
    ]
    for name in {**old.providers, **new.providers}:
        path = f"providers.{name}"
        before, after = old.providers.get(name), new.providers.get(name)
        if before is None or after is None:
            waiting.append(path)
            continue
        found = [
            k for k in _keys(ProviderConfig) if getattr(before, k) != getattr(after, k)
        ]
        moved = not set(found).isdisjoint(_WHERE)
        taken = [] if moved else [key for key in found if key in RELOADED]
        changed += [f"{path}.{key}" for key in taken]
        for key in found:
            if key not in taken:
                its = getattr(before, key), getattr(after, key)
                waiting += _differences(*its, f"{path}.{key}")
        if taken:
            values = {key: getattr(after, key) for key in taken}
            providers[name] = attrs.evolve(before, **values)
    return Changes(
        config=attrs.evolve(old, providers=providers),
        providers=tuple(n for n, its in providers.items() if its != old.providers[n]),
        changed=tuple(changed),
        needs_restart=tuple(waiting),
    )


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    """Yield the paths of the keys in which *old* and *new* differ."""
    if old == new:
        return
    cls: type = old.__class__
    if attrs.has(cls) and cls is new.__class__:
        for name in _keys(cls):
            its = getattr(old, name), getattr(new, name)
            yield from _differences(*its, f"{path}.{name}")
    elif isinstance(old, Mapping) and isinstance(new, Mapping) and path == "budgets":
        olds, news = cast("Mapping[str, Any]", old), cast("Mapping[str, Any]", new)
        for name in {**olds, **news}:
            yield from _differences(olds.get(name), news.get(name), f"{path}.{name}")
    else:
        yield path


def _keys(cls: type) -> list[str]:
    return [f.name for f in attrs.fields(cls) if "not_a_key" not in f.metadata]
