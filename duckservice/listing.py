"""Which models can be asked for: named by the configuration, or told by a provider.

A provider whose configuration has patterns only is asked, at most every five
minutes, and never for longer than a few seconds: who wants a list should get one
even while a provider is down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs
import trio

from duckservice.calls.offers import Offer, kind_of
from duckservice.completion import ModelInfo
from duckservice.config import ProviderConfig
from duckservice.errors import DuckError
from duckservice.providers.base import Provider
from duckservice.tree import Guarded, Parts

#: Seconds for which what a provider has told is kept.
KEPT = 300.0

#: Seconds after which one that has not told is asked again.
ASKED_AGAIN = 15.0

#: Seconds that a provider gets to tell.
WITHIN = 5.0


@attrs.define(eq=False)
class _Known:
    """What one provider has told; only who asks it writes to it."""

    told: Sequence[ModelInfo] = ()
    silent: str | None = None
    """Why it did not tell when it was asked last."""
    ask_at: float = -math.inf
    """When it is to be asked again; never while it is being asked."""


@attrs.define(eq=False)
class ModelList:
    """What can be asked for, over all providers, whatever reloads make of them."""

    parts: Parts
    _known: dict[str, _Known] = attrs.field(factory=dict[str, _Known])

    @property
    def silent(self) -> Mapping[str, str]:
        """Who did not tell when it was asked last, and why."""
        there, known = self.parts.providers, self._known.items()
        return {
            name: its.silent
            for name, its in known
            if its.silent is not None and name in there
        }

    def forget(self, names: Iterable[str]) -> None:
        """Forget what these providers have told: they are asked again.

        What those tell that are being asked now is for nobody any more. Also forgotten is
        every provider that is not there any more; what the others have told is kept.
        """
        gone, there = frozenset(names), self.parts.providers
        self._known = {
            name: its
            for name, its in self._known.items()
            if name in there and name not in gone
        }

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return each model once; the first provider that has it owns it.

        While somebody asks a provider, others get what is known without it.
        """
        await self._refresh()
        found = dict[str, ModelInfo]()
        for name, guarded in self.parts.providers.items():
            for model in self._of(name, guarded):
                found.setdefault(model.id, attrs.evolve(model, owned_by=name))
        return tuple(found.values())

    async def offers(self) -> tuple[Offer, ...]:
        """Return each model at each provider that has it, with its price."""
        await self._refresh()
        # All of one moment: a reload may come while prices are looked up.
        found = [
            (name, guarded.config, guarded.provider, model)
            for name, guarded in self.parts.providers.items()
            for model in dict.fromkeys(its.id for its in self._of(name, guarded))
        ]
        offers = list[Offer]()
        for name, config, provider, model in found:
            offers.append(_offer(name, config, provider, model))
            # To look up a price takes half a millisecond, and some have 500 models.
            await trio.lowlevel.checkpoint()
        return tuple(offers)

    async def _refresh(self) -> None:
        # Once more, if a reload has had forgotten what was told just then.
        for _ in range(2):
            stale = self._stale()
            if not stale:
                return
            async with trio.open_nursery() as nursery:
                for known, provider in stale:
                    nursery.start_soon(_ask, known, provider)

    def _stale(self) -> list[tuple[_Known, Provider]]:
        """Return who is to be asked now; nobody else asks them meanwhile."""
        found, now = list[tuple[_Known, Provider]](), trio.current_time()
        for name, guarded in self.parts.providers.items():
            if _named(guarded):
                continue
            known = self._known.setdefault(name, _Known())
            if known.ask_at <= now:
                known.ask_at = math.inf
                found.append((known, guarded.provider))
        return found

    def _of(self, name: str, guarded: Guarded) -> Iterator[ModelInfo]:
        yield from _named(guarded)
        if (known := self._known.get(name)) is not None:
            yield from known.told


async def _ask(known: _Known, provider: Provider) -> None:
    """Have *provider* tell, and say when it is to be asked again."""
    began = trio.current_time()
    again = began + ASKED_AGAIN
    try:
        with trio.move_on_after(WITHIN) as limit:
            try:
                told = await provider.list_models()
            except DuckError as error:
                # What it told before is still the best answer.
                known.silent = error.message
                return
            known.told = [its for its in told if provider.supports_model(its.id)]
            known.silent, again = None, began + KEPT
        if limit.cancelled_caught:
            known.silent = f"no answer within {WITHIN:g} s"
    except trio.Cancelled:
        # Who asked has gone: the next one who wants to know asks.
        again = began
        raise
    finally:
        known.ask_at = again


def _offer(name: str, config: ProviderConfig, provider: Provider, model: str) -> Offer:
    quote = provider.quote(model)
    return Offer(
        model=model,
        provider=name,
        kind=kind_of(config.model_map.get(model, model), quote),
        capabilities=provider.capabilities,
        quote=quote,
    )


def _named(guarded: Guarded) -> list[ModelInfo]:
    config = guarded.config
    return [ModelInfo(id=name) for name in _exact((*config.model_map, *config.models))]


def _exact(names: Iterable[str]) -> list[str]:
    return [name for name in names if not set(name) & set("*?[")]
