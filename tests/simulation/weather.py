"""What a provider goes through: spells of outage, failures, 429s, slowness, silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Literal, TypeAlias

import attrs

MINUTE = 60.0

Kind: TypeAlias = Literal["outage", "brownout", "storm", "slow", "hang"]


@attrs.frozen(kw_only=True)
class Spell:
    """From *begin* until *end* something is wrong with a provider."""

    kind: Kind
    begin: float
    end: float
    share: float = 1.0
    """Of the requests: those that a brown-out fails."""
    retry_after: float = 20.0
    """What a storm's 429s ask for."""
    factor: float = 10.0
    """How much slower everything is in a slow spell."""


Weather: TypeAlias = Mapping[str, Sequence[Spell]]
"""The spells of each provider, by its name."""
Forecast: TypeAlias = Callable[[Random, float], Weather]
"""Makes the weather of a run of so many seconds."""


def fine(_random: Random, _length: float) -> Weather:
    """Nothing is ever wrong."""
    return {}


def recurring(
    *names: str, every: float = 20 * MINUTE, length: float, **how: object
) -> Forecast:
    """A spell in every so many seconds, at all *names* at once; its place is drawn.

    A run that is shorter than that has one, if it is 8 minutes longer than the spell.
    """

    def forecast(random: Random, total: float) -> Weather:
        spells = list[Spell]()
        at, each = 0.0, min(every, total)
        # Time before a spell to see what is usual, time behind it to recover.
        spare = each - length - 8 * MINUTE
        while spare >= 0 and at + each <= total:
            begin = at + 3 * MINUTE + random.random() * spare
            spells.append(Spell(begin=begin, end=begin + length, **how))  # type: ignore[arg-type]
            at += each
        return dict.fromkeys(names, spells)

    return forecast


def changeable(*names: str, every: float = 10 * MINUTE) -> Forecast:
    """Any spell at any provider, each by itself; as it comes."""
    kinds: tuple[Kind, ...] = ("outage", "brownout", "storm", "slow", "hang")

    def forecast(random: Random, total: float) -> Weather:
        weather = dict[str, list[Spell]]()
        for name in names:
            at, spells = 2 * MINUTE, list[Spell]()
            while at < total:
                length = random.uniform(10.0, 3 * MINUTE)
                spells.append(
                    Spell(
                        kind=random.choice(kinds),
                        begin=at,
                        end=at + length,
                        share=random.uniform(0.2, 1.0),
                        retry_after=random.uniform(1.0, 40.0),
                        factor=random.uniform(2.0, 20.0),
                    )
                )
                at += length + random.expovariate(1 / every)
            weather[name] = spells
        return weather

    return forecast
