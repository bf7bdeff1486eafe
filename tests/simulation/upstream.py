"""A provider's own side: its window, its weather, its servers, its log and its bill.

Nothing here is shared with the service: it counts for itself, as a real one does.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Literal, Protocol, TypeAlias

import attrs
import trio

from duckservice.completion import Usage
from duckservice.core.pricing import Price, cost
from tests.simulation.load import Order
from tests.simulation.weather import Spell

WINDOW = 60.0
#: Seconds that a provider lets a request wait for one of its servers.
PATIENCE = 20.0
#: Seconds of work that may stand in that line; more is turned away at once.
LINE_MAX = 40.0

Fate: TypeAlias = Literal["", "ok", "refused", "limited", "failed", "left"]
"""How a call has ended, for the provider: ``left`` says that the client has gone."""


@attrs.frozen(kw_only=True)
class Traits:
    """What a provider is like when nothing is wrong."""

    name: str
    models: tuple[str, ...] = ("m",)
    latency: float = 1.5
    """Seconds, the median."""
    spread: float = 0.4
    """Of the latency's logarithm."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    servers: int | None = None
    """So many requests are worked on at once; others wait in its line, and are worked
    on even if their clients have gone. None: as many as come."""
    price: Price = attrs.field(
        factory=lambda: Price.usd_per_mtok(input="2.5", output="10")
    )


@attrs.define(eq=False)
class Seen:
    """One call, as the provider saw it."""

    number: int
    provider: str
    order: Order
    at: float
    again: bool
    """Whether this provider was asked for the same order within the last minute."""
    tokens: int
    down: bool
    """Whether it came in an outage, a hang or a storm: nothing could come of it."""
    ended: float = math.nan
    fate: Fate = ""
    retry_after: float | None = None
    bill: int = 0
    probe: bool = False


class Witness(Protocol):
    """Who is told of every call."""

    def arrived(self, seen: Seen) -> None:
        """Take note of a call."""
        ...

    def ended(self, seen: Seen) -> None:
        """Take note of its end."""
        ...


class Refused(Exception):
    """Nobody listens."""


class Limited(Exception):
    """429: more than the provider allows."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after


class Failed(Exception):
    """503."""


@attrs.define(eq=False)
class Upstream:
    """One simulated provider."""

    traits: Traits
    spells: Sequence[Spell]
    witness: Witness
    random: Random
    log: list[Seen] = attrs.field(factory=list[Seen])
    bill: int = 0
    """Picodollars, of all calls."""
    _asked: dict[int, float] = attrs.field(factory=dict[int, float])
    """When it was asked last for each order."""
    _window: deque[tuple[float, int]] = attrs.field(factory=deque[tuple[float, int]])
    _free_at: list[float] = attrs.field(factory=list[float])
    _tokens: int = 0

    def spell(self, now: float) -> Spell | None:
        """Return what is wrong now."""
        return next((s for s in self.spells if s.begin <= now < s.end), None)

    def arrive(self, order: Order, input_tokens: int) -> Seen:
        """Enter a call in the log."""
        now = trio.current_time()
        spell = self.spell(now)
        seen = Seen(
            number=len(self.log),
            provider=self.traits.name,
            order=order,
            at=now,
            again=now - self._asked.get(order.id, -math.inf) <= WINDOW,
            tokens=input_tokens + order.reply_tokens,
            down=spell is not None and spell.kind in {"outage", "hang", "storm"},
        )
        self._asked[order.id] = now
        self.log.append(seen)
        self.witness.arrived(seen)
        return seen

    async def work(self, seen: Seen) -> float:
        """Wait as the weather has it; return how long the answer itself will take.

        Raises:
            Refused, Limited, Failed: as the weather, or the limit, has it.
        """
        now = seen.at
        spell = self.spell(now)
        kind = None if spell is None else spell.kind
        slow = spell.factor if spell is not None and kind == "slow" else 1.0
        chance = self.random.random()
        takes = slow * self.random.lognormvariate(
            math.log(self.traits.latency), self.traits.spread
        )
        if kind == "outage":
            await trio.sleep(0.01)
            raise Refused
        if kind == "hang":
            await trio.sleep_forever()
        wait = self._over_limit(seen)
        if spell is not None and kind == "storm":
            wait = max(wait, min(spell.retry_after, max(1.0, spell.end - now)))
        if wait:
            await trio.sleep(0.05)
            raise Limited(wait)
        if spell is not None and kind == "brownout" and chance < spell.share:
            await trio.sleep(takes / 2)
            raise Failed
        return await self._server(takes)

    def end(self, seen: Seen, fate: Fate, *, done: float = 0.0) -> None:
        """Close a call, of whose reply the share *done* was made; bill it."""
        seen.ended, seen.fate = trio.current_time(), fate
        if done:
            usage = self.usage(seen, done)
            seen.bill = cost(usage, self.traits.price)
            self.bill += seen.bill
        self.witness.ended(seen)

    def usage(self, seen: Seen, done: float = 1.0) -> Usage:
        """Return what is charged for."""
        reply = seen.order.reply_tokens
        return Usage(
            input_tokens=seen.tokens - reply, output_tokens=math.floor(reply * done)
        )

    def _over_limit(self, seen: Seen) -> float:
        """Return how long the window has no room, 0 if it has; only then it is taken."""
        window = self._window
        while window and window[0][0] <= seen.at - WINDOW:
            self._tokens -= window.popleft()[1]
        calls = self.traits.requests_per_minute
        tokens = self.traits.tokens_per_minute
        if (calls is not None and len(window) >= calls) or (
            tokens is not None and self._tokens + seen.tokens > tokens and window
        ):
            return max(0.1, window[0][0] + WINDOW - seen.at)
        window.append((seen.at, seen.tokens))
        self._tokens += seen.tokens
        return 0.0

    async def _server(self, takes: float) -> float:
        """Stand in the line for a server; return what is left to wait then."""
        if self.traits.servers is None:
            return takes
        now, free = trio.current_time(), self._free_at
        begin = now
        if len(free) >= self.traits.servers:
            if free[0] - now > LINE_MAX:
                await trio.sleep(0.05)
                raise Failed
            begin = max(now, heapq.heappop(free))
        heapq.heappush(free, begin + takes)
        if begin - now > PATIENCE:
            await trio.sleep(PATIENCE)
            raise Failed
        return begin - now + takes
