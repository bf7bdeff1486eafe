"""What a run puts between orders and providers: the service, or a naive client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Protocol

import attrs
import trio

from duckservice.config import Config
from duckservice.events import Event
from tests.simulation.load import Order
from tests.simulation.provider import SimProvider

#: When virtual time begins: a full hour, in seconds since the epoch.
EPOCH = 1_699_999_200.0


def wall_clock() -> float:
    """Return the time of day."""
    return EPOCH + trio.current_time()


@attrs.frozen(kw_only=True)
class Book:
    """What a policy says of one of its budgets, in picodollars."""

    name: str
    limit: int
    spent: int
    reserved: int


@attrs.frozen(kw_only=True)
class Ledger:
    """What a policy says that everything has cost, in picodollars."""

    amount: int
    """All of it."""
    exact: int
    """By attempts whose replies came whole, one by one."""
    guessed: int
    """By attempts that broke off."""
    open: int
    """Entries that were never settled."""
    estimated: int
    """Entries whose cost is a guess, because the provider never said."""


class Client(Protocol):
    """Takes orders."""

    async def ask(self, order: Order) -> None:
        """Return when the order was served.

        Raises:
            DuckError: it was not.
        """
        ...

    def books(self) -> Sequence[Book]:
        """Return what it knows of its budgets now."""
        ...

    async def ledger(self) -> Ledger | None:
        """Return the ledger after the end; None where it keeps none."""
        ...


@attrs.frozen(kw_only=True)
class Setting:
    """What a policy is given."""

    config: Config
    providers: Mapping[str, SimProvider]
    """The first is to be asked first."""
    random: Random
    emit: Callable[[Event], None]


def as_it_is(config: Config) -> Config:
    """Change nothing."""
    return config


@attrs.frozen
class Policy:
    """What is compared: a client, and the config that it is given."""

    open: Callable[[Setting], AbstractAsyncContextManager[Client]]
    change: Callable[[Config], Config] = as_it_is
    """From the defaults, in the world at hand, to what this policy runs with."""
