"""Which model to ask for, so that as many providers as can be stand behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import attrs

from duckservice.config import Config, ProviderConfig
from duckservice.providers.adapters import adapter_of
from duckservice.providers.base import Provider
from duckservice.providers.catalog import make_provider


@attrs.frozen
class Reach:
    """A model, and who can be asked for it."""

    model: str
    providers: tuple[str, ...]
    """Those that serve it, or what stands in for it, in the config's order."""


def reaches(config: Config) -> tuple[Reach, ...]:
    """Return models that together reach every provider that can be, the widest first.

    Raises `ValueError` for a provider that cannot be made.
    """
    made = _made(config)
    names = dict.fromkeys(_names(config))
    found = [Reach(name, _reached(name, config, made)) for name in names]
    chosen = list[Reach]()
    missing = set(made)
    while missing:
        # The first of equals: exact names come before invented ones.
        best = max(found, key=lambda r: len(missing & set(r.providers)), default=None)
        if best is None or not missing & set(best.providers):
            break
        chosen.append(best)
        missing -= set(best.providers)
    return tuple(chosen)


def reach_of(model: str, config: Config) -> Reach:
    """Return who can be asked for *model*."""
    return Reach(model, _reached(model, config, _made(config)))


def names_of(config: Config) -> Sequence[str]:
    """Return what may be asked for by name, then the patterns that allow for more."""
    patterns = (glob for its in config.providers.values() for glob in _globs(its))
    return tuple(dict.fromkeys((*_exact_names(config), *patterns)))


def _made(config: Config) -> dict[str, Provider]:
    return {name: make_provider(its) for name, its in config.providers.items()}


def _reached(model: str, config: Config, made: dict[str, Provider]) -> tuple[str, ...]:
    models = (model, *config.routing.fallbacks.get(model, ()))
    names = [_serving(each, config, made) for each in models]
    return tuple(name for name in made if any(name in each for each in names))


def _serving(model: str, config: Config, made: dict[str, Provider]) -> set[str]:
    """Return who is asked for *model*: who says nothing of models only if nobody else."""
    serving = {name for name, its in made.items() if its.supports_model(model)}
    naming = {name for name in serving if made[name].names_model(model)}
    if not naming:
        return serving
    return {n for n in serving if n in naming or config.providers[n].models}


def _names(config: Config) -> Iterator[str]:
    """Yield names to try: first those that the config says, then made-up ones."""
    yield from _exact_names(config)
    for its in config.providers.values():
        yield from (_sample(glob) for glob in _globs(its))


def _exact_names(config: Config) -> Iterator[str]:
    yield from config.routing.fallbacks
    for its in config.providers.values():
        yield from (name for name in its.models if not _is_glob(name))
        yield from its.model_map


def _globs(its: ProviderConfig) -> Iterator[str]:
    models = its.models or adapter_of(its.adapter).models
    return (name for name in models if _is_glob(name) or not its.models)


def _sample(glob: str) -> str:
    """Return a name that *glob* means, as far as that is easy."""
    sample = glob.replace("*", "chaos").replace("?", "x")
    while "[" in sample and (end := sample.find("]", sample.index("["))) > 0:
        start = sample.index("[")
        sample = sample[:start] + sample[start + 1] + sample[end + 1 :]
    return sample if fnmatchcase(sample, glob) else glob.replace("*", "")


def _is_glob(name: str) -> bool:
    return any(c in name for c in "*?[")
