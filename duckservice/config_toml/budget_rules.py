"""Budgets that could never bind anything: refused, or warned about.

A limit that holds nobody back, and nobody knows it, would be worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import Final

from duckservice.config import BudgetMatch, Config, ProviderConfig
from duckservice.config_toml.provider_rules import Rule
from duckservice.config_toml.refused import Refused, did_you_mean, one_of, quoted

_KEY_CHARS_MAX: Final = 64
"""Of a tag's key: a request with a longer one is refused."""


def _tag(match: BudgetMatch) -> Iterator[Refused]:
    """Refuse a tag that no request can have."""
    if match.tag is None:
        return
    key, _, value = (part.strip() for part in match.tag.partition("="))
    if not key or not value or "," in match.tag or len(key) > _KEY_CHARS_MAX:
        yield Refused(
            f"{quoted(match.tag)} (a string)",
            'one tag, as "key=value"; its key has at most'
            f" {_KEY_CHARS_MAX} characters, and neither has a comma",
            key=("tag",),
        )


def _providers(config: Config) -> Iterator[Refused]:
    """Refuse budgets of providers that there are not."""
    names = _providers_of(config)
    for budget, its in config.budgets.items():
        name = its.match.provider if its.match else None
        if name is not None and name not in names:
            yield Refused(
                f"{quoted(name)}, which is no provider of this file",
                one_of(names),
                hint=did_you_mean(name, names),
                key=("budgets", budget, "match", "provider"),
            )


def budget_warnings(config: Config) -> Iterator[str]:
    """Yield which budgets are of a model that nobody here is said to serve."""
    for budget, its in config.budgets.items():
        if its.match is None or its.match.model is None:
            continue
        bound = [
            provider
            for name, provider in _providers_of(config).items()
            if its.match.provider in {None, name}
        ]
        if not any(_could_serve(provider, its.match.model) for provider in bound):
            yield (
                f"budgets.{budget} binds nothing: {quoted(its.match.model)} is in no"
                f" models or model_map of {' and '.join(p.name for p in bound)}"
            )


def _providers_of(config: Config) -> Mapping[str, ProviderConfig]:
    return config.providers or Config.default().providers


def _could_serve(provider: ProviderConfig, model: str) -> bool:
    """Say whether something that *provider* serves may match the pattern *model*."""
    if not provider.models:
        return True  # what its adapter serves, which may be anything
    names = (*provider.models, *provider.model_map, *provider.model_map.values())
    return any(_may_overlap(name, model) for name in names)


def _may_overlap(a: str, b: str) -> bool:
    """Say whether a name may match both patterns; yes where that is hard to tell."""
    if fnmatchcase(a, b) or fnmatchcase(b, a):
        return True
    if not (_is_glob(a) and _is_glob(b)):
        return False
    before, other = _before_the_first_mark(a), _before_the_first_mark(b)
    return before.startswith(other) or other.startswith(before)


def _is_glob(pattern: Iterable[str]) -> bool:
    return any(mark in pattern for mark in "*?[")


def _before_the_first_mark(pattern: str) -> str:
    return "".join(takewhile(lambda char: char not in "*?[", pattern))


RULES: Final[Mapping[type, tuple[Rule, ...]]] = {
    BudgetMatch: ((frozenset({"tag"}), _tag),),
    Config: ((frozenset({"providers", "budgets"}), _providers),),
}
