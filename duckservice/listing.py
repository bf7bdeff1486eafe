"""Which models can be asked for: named by the configuration, or told by a provider.

A provider whose configuration has patterns only is asked, at most every five
minutes, and never for longer than a few seconds: who wants a list should get one
even while a provider is down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs
import trio

from duckservice.completion import ModelInfo
from duckservice.errors import DuckError
from duckservice.offers import Offer, kind_of
from duckservice.tree import Guarded, Parts

#: Seconds for which what a provider has told is kept.
KEPT = 300.0

#: Seconds after which one that has not told is asked again.
ASKED_AGAIN = 15.0

#: Seconds that a provider gets to tell.
WITHIN = 5.0


@attrs.define(eq=False)
class ModelList:
    """What can be asked for, over all providers."""

    parts: Parts
    _told: dict[str, Sequence[ModelInfo]] = attrs.field(
        factory=dict[str, Sequence[ModelInfo]]
    )
    silent: dict[str, str] = attrs.field(factory=dict[str, str])
    """Who did not tell when it was asked last, and why."""
    _told_at: dict[str, float] = attrs.field(factory=dict[str, float])

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return each model once; the first provider that has it owns it."""
        await self._refresh()
        found = dict[str, ModelInfo]()
        for name, guarded in self.parts.providers.items():
            for model in self._of(name, guarded):
                found.setdefault(model.id, attrs.evolve(model, owned_by=name))
        return tuple(found.values())

    async def offers(self) -> tuple[Offer, ...]:
        """Return each model at each provider that has it, with its price."""
        await self._refresh()
        offers = list[Offer]()
        for name, guarded in self.parts.providers.items():
            for model in {its.id: None for its in self._of(name, guarded)}:
                offers.append(_offer(name, guarded, model))
                # To look up a price takes half a millisecond, and some have 500 models.
                await trio.lowlevel.checkpoint()
        return tuple(offers)

    async def _refresh(self) -> None:
        now = trio.current_time()
        async with trio.open_nursery() as nursery:
            for name, guarded in self.parts.providers.items():
                stale = now - self._told_at.get(name, -KEPT) >= KEPT
                if stale and not _named(guarded):
                    self._told_at[name] = now
                    nursery.start_soon(self._ask, name, guarded)

    def _of(self, name: str, guarded: Guarded) -> Iterator[ModelInfo]:
        yield from _named(guarded)
        yield from self._told.get(name, ())

    async def _ask(self, name: str, guarded: Guarded) -> None:
        with trio.move_on_after(WITHIN):
            try:
                told = await guarded.provider.list_models()
            except DuckError as error:
                # What it told before is still the best answer.
                self._silent(name, error.message)
                return
            self._told[name] = [
                model for model in told if guarded.provider.supports_model(model.id)
            ]
            self.silent.pop(name, None)
            return
        self._silent(name, f"no answer within {WITHIN:g} s")

    def _silent(self, name: str, why: str) -> None:
        self.silent[name] = why
        self._told_at[name] += ASKED_AGAIN - KEPT


def _offer(name: str, guarded: Guarded, model: str) -> Offer:
    provider = guarded.provider
    quote = provider.quote(model)
    return Offer(
        model=model,
        provider=name,
        kind=kind_of(guarded.config.model_map.get(model, model), quote),
        capabilities=provider.capabilities,
        quote=quote,
    )


def _named(guarded: Guarded) -> list[ModelInfo]:
    config = guarded.config
    return [ModelInfo(id=name) for name in _exact((*config.model_map, *config.models))]


def _exact(names: Iterable[str]) -> list[str]:
    return [name for name in names if not set(name) & set("*?[")]
