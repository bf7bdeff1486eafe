"""Who asks for what, and when: orders, drawn from a seed before the run begins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

import attrs

from duckservice.calls.call import Priority
from duckservice.completion import ChatRequest, Message

MAX_TOKENS: Final = 400
_DIGITS: Final = 8


@attrs.frozen(kw_only=True)
class Source:
    """A kind of client: how often it asks, and how long it waits."""

    name: str
    priority: Priority = "normal"
    rate: float
    """Orders a second, on average."""
    model: str = "m"
    durable: bool = False
    """Whether an order is handed in as a job, which waits as long as it must."""
    streams: float = 0.3
    """The share of orders that are streamed."""
    patience: float = 45.0
    """Seconds after which a client that is no job hangs up."""
    deadlines: float = 0.2
    """The share of orders with a deadline."""
    burst: float = 1.0
    """How many times as much comes in the first 20 s of every 5 minutes."""
    at_once: int = 0
    """So many more at the end of the first minute of every 20, all at one instant."""
    tags: Mapping[str, str] = attrs.field(factory=dict[str, str])


@attrs.frozen(kw_only=True)
class Order:
    """One request of a client."""

    id: int
    at: float
    source: Source
    stream: bool
    deadline: float | None
    """On trio's clock."""
    reply_tokens: int
    request: ChatRequest = attrs.field(repr=False)


def order_id(request: ChatRequest) -> int:
    """Return the id of the order that *request* was sent for."""
    return int(request.messages[0].parts[0].text[:_DIGITS])  # type: ignore[union-attr]


def orders(sources: Sequence[Source], length: float, random: Random) -> list[Order]:
    """Return what is ordered in *length* seconds, in the order of time."""
    times = sorted(
        (at, number)
        for number, source in enumerate(sources)
        for at in _arrivals(source, length, random)
    )
    return [
        _order(id_, at, sources[number], random)
        for id_, (at, number) in enumerate(times)
    ]


def _arrivals(source: Source, length: float, random: Random) -> list[float]:
    """Return a Poisson process with bursts, by thinning one of the highest rate."""
    highest = source.rate * max(1.0, source.burst)
    times = list[float]()
    at = random.expovariate(highest)
    while at < length:
        now = source.rate * (source.burst if at % 300.0 < 20.0 else 1.0)
        if random.random() * highest < now:
            times.append(at)
        at += random.expovariate(highest)
    for begin in range(60, math.ceil(length), 1200):
        times.extend([float(begin)] * source.at_once)
    return times


def _order(id_: int, at: float, source: Source, random: Random) -> Order:
    text = f"{id_:0{_DIGITS}} " + "quack " * random.randrange(5, 150)
    limited = random.random() < source.deadlines
    return Order(
        id=id_,
        at=at,
        source=source,
        stream=random.random() < source.streams,
        deadline=at + random.uniform(5.0, 20.0) if limited else None,
        reply_tokens=random.randrange(20, MAX_TOKENS + 1),
        request=ChatRequest(
            model=source.model,
            messages=(Message.of("user", text),),
            max_tokens=MAX_TOKENS,
        ),
    )
