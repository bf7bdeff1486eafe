"""One run: a world, a policy and a seed, under a virtual clock and one order of steps."""

from __future__ import annotations

import time
from random import Random

import attrs
import trio
import trio.testing

from duckservice.config import Config
from duckservice.errors import DuckError
from supervisors.testing import Seeded, using
from tests.simulation.judge import Judge
from tests.simulation.load import Order, orders
from tests.simulation.policies import POLICIES
from tests.simulation.policy import Client, Setting
from tests.simulation.provider import SimProvider
from tests.simulation.upstream import Upstream
from tests.simulation.weather import MINUTE
from tests.simulation.world import World

#: Seconds that orders have to end after the last has come.
LAST_ORDERS = 15 * MINUTE


@attrs.frozen(kw_only=True)
class Ran:
    """A run that is over."""

    world: World
    policy: str
    seed: int
    seconds: float
    """Virtual ones, in which orders came."""
    took: float
    """Real ones."""
    config: Config
    orders: int
    judge: Judge
    upstreams: dict[str, Upstream]

    @property
    def digest(self) -> str:
        """See `Judge.digest`."""
        return self.judge.digest


def run(world: World, policy: str, seed: int, minutes: float) -> Ran:
    """Run *minutes* of orders through a policy; the same arguments do the same."""
    seconds = minutes * MINUTE
    its_orders = orders(world.sources, seconds, Random(f"orders {seed}"))
    config = POLICIES[policy].change(world.config())
    judge = Judge(world, config, seconds)
    weather = world.forecast(Random(f"weather {seed}"), seconds)
    upstreams = {
        traits.name: Upstream(
            traits,
            weather.get(traits.name, ()),
            judge,
            Random(f"{traits.name} {seed}"),
        )
        for traits in world.providers
    }
    clock = trio.testing.MockClock(autojump_threshold=0)
    began = time.perf_counter()
    with using(Seeded(seed)):
        trio.run(_main, policy, judge, its_orders, upstreams, seed, clock=clock)
    return Ran(
        world=world,
        policy=policy,
        seed=seed,
        seconds=seconds,
        took=time.perf_counter() - began,
        config=config,
        orders=len(its_orders),
        judge=judge,
        upstreams=upstreams,
    )


async def _main(
    policy: str,
    judge: Judge,
    its_orders: list[Order],
    upstreams: dict[str, Upstream],
    seed: int,
) -> None:
    by_id = {order.id: order for order in its_orders}
    setting = Setting(
        config=judge.config,
        providers={
            name: SimProvider(upstream, by_id, judge.config.providers[name].timeout)
            for name, upstream in upstreams.items()
        },
        random=Random(f"policy {seed}"),
        emit=judge.event,
    )
    async with POLICIES[policy].open(setting) as client:
        judge.books = client.books
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for order in its_orders:
                    await trio.sleep_until(order.at)
                    nursery.start_soon(_order, client, order, judge)
                scope.deadline = trio.current_time() + LAST_ORDERS
    judge.books = tuple
    judge.close(upstreams, await client.ledger())


async def _order(client: Client, order: Order, judge: Judge) -> None:
    how = "unfinished"
    scope = trio.CancelScope()
    if not order.source.durable:
        scope.deadline = order.at + order.source.patience
    try:
        with scope:
            await client.ask(order)
            how = "ok"
    except DuckError as error:
        how = error.code
    finally:
        judge.finished(order, "gave_up" if scope.cancelled_caught else how)
