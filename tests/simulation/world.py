"""The worlds: providers, their weather, who asks, and what the config says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from duckservice.config import (
    BudgetConfig,
    BudgetMatch,
    Config,
    LimitsConfig,
    ProviderConfig,
    RoutingConfig,
)
from duckservice.core.pricing import Price
from tests.simulation.load import Source
from tests.simulation.upstream import Traits
from tests.simulation.weather import (
    MINUTE,
    Forecast,
    changeable,
    fine,
    recurring,
)

_DEAR: Final = Price.usd_per_mtok(input="5", output="20")
_CHEAP: Final = Price.usd_per_mtok(input="0.5", output="2")
_A: Final = Traits(name="a", requests_per_minute=120, tokens_per_minute=60_000)
_B: Final = Traits(name="b", requests_per_minute=600, latency=2.5, price=_DEAR)
_PEOPLE: Final = (
    Source(name="high", priority="high", rate=0.2, burst=2.0),
    Source(name="normal", rate=0.5, burst=2.0, tags={"team": "core"}),
    Source(name="low", priority="low", rate=0.1, patience=120.0),
    Source(name="batch", priority="low", rate=0.15, durable=True, deadlines=0.0),
)
_MORE: Final = (
    Source(name="high", priority="high", rate=2.0, patience=60.0, deadlines=0.0),
    Source(name="normal", rate=0.5, patience=300.0, deadlines=0.0),
    Source(name="low", priority="low", rate=0.3, patience=600.0, deadlines=0.0),
)


@attrs.frozen(kw_only=True)
class World:
    """What a run happens in."""

    name: str
    about: str
    providers: tuple[Traits, ...] = (_A, _B)
    sources: tuple[Source, ...] = _PEOPLE
    forecast: Forecast = fine
    budgets: Mapping[str, BudgetConfig] = attrs.field(factory=dict[str, BudgetConfig])
    saturated: bool = False
    """Whether more is ordered than the first provider allows: its limit is to be used,
    and every priority is to get its share."""
    heals: bool = False
    """Whether a spell leaves nobody to serve, so that goodput has to come back."""
    steady: bool = True
    """Whether goodput is always the same in good weather, so that one can see when it
    is back."""
    alone: str | None = None
    """A model whose provider is well, and must not notice what others go through."""

    def config(self) -> Config:
        """Return the defaults, with this world's providers, limits and budgets."""
        return Config(
            providers={
                its.name: ProviderConfig(
                    name=its.name,
                    adapter="mock",
                    models=its.models,
                    priority=number,
                    limits=LimitsConfig(
                        requests_per_minute=its.requests_per_minute,
                        tokens_per_minute=its.tokens_per_minute,
                    ),
                )
                for number, its in enumerate(self.providers, 1)
            },
            routing=RoutingConfig(),
            budgets=self.budgets,
        )


def _budget(limit: str, tag: str | None = None) -> BudgetConfig:
    match = None if tag is None else BudgetMatch(tag=tag)
    return BudgetConfig(limit_usd=limit, window="hour", match=match)


_ALL: Final = (
    World(name="calm", about="nothing is wrong"),
    World(
        name="outage",
        about="the first provider refuses connections for 5 of every 20 min",
        forecast=recurring("a", length=5 * MINUTE, kind="outage"),
    ),
    World(
        name="blackout",
        about="both providers do, at the same time",
        forecast=recurring("a", "b", length=5 * MINUTE, kind="outage"),
        heals=True,
    ),
    World(
        name="brownout",
        about="the first provider fails 60 % of its calls for 8 of every 20 min",
        forecast=recurring("a", length=8 * MINUTE, kind="brownout", share=0.6),
    ),
    World(
        name="storm",
        about="the first provider answers 429, Retry-After 20 s, for 3 of every 20 min",
        forecast=recurring("a", length=3 * MINUTE, kind="storm"),
    ),
    World(
        name="slow",
        about="the first provider takes 10 times as long for 5 of every 20 min",
        forecast=recurring("a", length=5 * MINUTE, kind="slow"),
    ),
    World(
        name="hang",
        about="the first provider never answers for 5 of every 20 min",
        forecast=recurring("a", length=5 * MINUTE, kind="hang"),
    ),
    World(
        name="overload",
        about="one provider with 4 servers, 5 times slower for 2 of every 20 min",
        providers=(Traits(name="a", servers=4, latency=2.4),),
        forecast=recurring("a", length=2 * MINUTE, kind="slow", factor=5.0),
        heals=True,
    ),
    World(
        name="saturated",
        about="one provider with 60 requests a minute; 168 a minute are ordered",
        providers=(Traits(name="a", requests_per_minute=60),),
        sources=_MORE,
        saturated=True,
    ),
    World(
        name="crowded",
        steady=False,
        about="two providers with 60 requests a minute, 168 are ordered, and anything"
        " goes wrong",
        providers=(
            Traits(name="a", requests_per_minute=60, tokens_per_minute=40_000),
            Traits(name="b", requests_per_minute=60, latency=2.5, price=_DEAR),
        ),
        sources=(*_MORE, Source(name="batch", rate=0.1, durable=True)),
        forecast=changeable("a", "b", every=5 * MINUTE),
    ),
    World(
        name="neighbour",
        about="the first provider never answers for 5 of every 20 min; another serves"
        " another model",
        providers=(_A, attrs.evolve(_B, models=("n",))),
        sources=(*_PEOPLE, Source(name="other", model="n", rate=0.3)),
        forecast=recurring("a", length=5 * MINUTE, kind="hang"),
        alone="n",
    ),
    World(
        name="prices",
        steady=False,
        about="three providers: dear and fast, middling, cheap and slow",
        providers=(
            Traits(name="a", latency=1.0, price=_DEAR),
            Traits(name="b", latency=1.5),
            Traits(name="c", latency=4.0, price=_CHEAP),
        ),
        forecast=changeable("a", "b", "c", every=20 * MINUTE),
    ),
    World(
        name="budget",
        steady=False,
        about="budgets of 2 USD an hour for all, 0.5 for one team; about 10 are ordered",
        budgets={"all": _budget("2"), "core": _budget("0.5", "team=core")},
        forecast=recurring("a", length=2 * MINUTE, kind="slow"),
    ),
    World(
        name="stampede",
        steady=False,
        about="200 orders at one instant, and a budget of 0.05 USD for them",
        sources=(Source(name="herd", rate=0.01, at_once=200, deadlines=0.0),),
        budgets={"all": _budget("0.05")},
    ),
    World(
        name="herd",
        about="60 requests a minute; 200 orders at one instant",
        providers=(Traits(name="a", requests_per_minute=60),),
        sources=(
            Source(name="normal", rate=0.1, patience=300.0, deadlines=0.0),
            Source(name="herd", rate=0.01, at_once=200, patience=300.0, deadlines=0.0),
        ),
    ),
    World(
        name="mixed",
        steady=False,
        about="anything, at both providers, at any time; a budget of 12 USD an hour",
        forecast=changeable("a", "b"),
        budgets={"all": _budget("12")},
    ),
)

WORLDS: Final[Mapping[str, World]] = {world.name: world for world in _ALL}
