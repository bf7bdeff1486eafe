"""A provider with limits that only its headers tell, for the tests of the limiter.

It limits each of its models by itself, or all of them together.

It keeps its own count, in windows that are fixed or in buckets that fill, and counts a
request when it arrives; the answer travels back, and answers overtake each other.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from itertools import count
from random import Random

import attrs

from duckservice.core.grants import Grant, Limits, Waits
from duckservice.core.limiter import Limiter
from duckservice.core.rate_hints import RateHints

IN_FLIGHT_MAX = 6
TOKENS = 10


@attrs.define
class Upstream:
    """What is left of requests and tokens, by the provider's own rules."""

    requests: int
    tokens: int
    fills: bool
    phase: float
    left: list[float] = attrs.field(init=False)
    at: float = 0.0
    refused: int = 0
    served: list[float] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.left = [float(self.requests), float(self.tokens)]

    def arrives(self, now: float, tokens: int) -> bool:
        self.pass_time(now)
        if self.left[0] < 1 or self.left[1] < tokens:
            self.refused += 1
            return False
        self.left[0] -= 1
        self.left[1] -= tokens
        self.served.append(now)
        return True

    def pass_time(self, now: float) -> None:
        most = self.requests, self.tokens
        for part in (0, 1):
            if self.fills:
                more = (now - self.at) * most[part] / 60
                self.left[part] = min(most[part], self.left[part] + more)
            elif (now + self.phase) // 60 > (self.at + self.phase) // 60:
                self.left[part] = most[part]
        self.at = now

    def headers(self, now: float) -> RateHints:
        resets = [60 - (now + self.phase) % 60] * 2
        if self.fills:
            most = self.requests, self.tokens
            resets = [(most[p] - self.left[p]) * 60 / most[p] for p in (0, 1)]
        return RateHints(
            requests_limit=self.requests,
            requests_remaining=int(self.left[0]),
            requests_reset=resets[0],
            tokens_limit=self.tokens,
            tokens_remaining=int(self.left[1]),
            tokens_reset=resets[1],
        )


@attrs.define
class Run:
    """A limiter that knows nothing, under load of each model, before such a provider."""

    seed: int
    requests: int
    """A minute, of the first of the models; or of all together."""
    fills: bool
    seconds: float = 600.0
    configured: int | None = None
    others: dict[str, int] = attrs.field(factory=dict[str, int])
    """Models beside the one without a name, and their requests a minute."""
    shared: bool = False
    """Whether there is one limit, for all models together."""
    limiter: Limiter[int] = attrs.field(init=False)
    upstreams: dict[str, Upstream] = attrs.field(init=False)
    """Of each model; where all share one, it is the same for all."""
    under_way: Counter[str] = attrs.field(factory=Counter[str])
    waiting: Counter[str] = attrs.field(factory=Counter[str])

    def run(self) -> Upstream:
        """Return the provider as the model without a name has seen it."""
        rng = Random(self.seed)
        limits = Limits(requests_per_minute=self.configured, waiting_max=10)
        self.limiter = Limiter(limits, 0.0)
        self.upstreams = self.providers(rng)
        events: list[tuple[float, int, str, Grant, object]] = []
        names, now = count(1), 0.0
        while now < self.seconds:
            for grant in self.want(now, names):
                there = now + rng.uniform(0, 0.4)
                heapq.heappush(events, (there, next(names), "arrives", grant, None))
            wakeup = self.limiter.next_wakeup(now)
            if events and (wakeup is None or events[0][0] <= wakeup):
                now, _, what, grant, said = heapq.heappop(events)
                upstream = self.upstreams[grant.model]
                if what == "arrives":
                    ok = upstream.arrives(now, grant.tokens)
                    said = ok, upstream.headers(now)
                    back = now + rng.choice([0.05, 0.2, 1.5, rng.uniform(0, 4)])
                    event = back, next(names), "answered", grant, said
                    heapq.heappush(events, event)
                else:
                    self.under_way[grant.model] -= 1
                    self.answered(now, grant, said, rng)
            elif wakeup is not None:
                now = max(now, wakeup)
        return self.upstreams[""]

    def providers(self, rng: Random) -> dict[str, Upstream]:
        phase = rng.uniform(0, 60)
        size = rng.choice([5, 1000])
        first = Upstream(self.requests, self.requests * size, self.fills, phase)
        return {"": first} | {
            model: first
            if self.shared
            else Upstream(its, its * size, self.fills, rng.uniform(0, 60))
            for model, its in self.others.items()
        }

    def want(self, now: float, names: Iterator[int]) -> Iterator[Grant]:
        """Yield grants; of each model one waits, if not too many are under way."""
        for _, its in self.limiter.due(now):
            assert isinstance(its, Grant)
            self.waiting[its.model] -= 1
            self.under_way[its.model] += 1
            yield its
        for model in self.upstreams:
            while not self.waiting[model] and self.under_way[model] < IN_FLIGHT_MAX:
                answer = self.limiter.acquire(now, TOKENS, next(names), model=model)
                if isinstance(answer, Grant):
                    self.under_way[model] += 1
                    yield answer
                else:
                    assert answer == Waits()
                    self.waiting[model] += 1
        for _, its in self.limiter.due(now):
            assert isinstance(its, Grant)
            self.waiting[its.model] -= 1
            self.under_way[its.model] += 1
            yield its

    def answered(self, now: float, grant: Grant, said: object, rng: Random) -> None:
        assert isinstance(said, tuple)
        ok, hints = said
        if rng.random() < 0.9:
            self.limiter.learn(now, hints, grant=grant)
        self.limiter.settle(grant, TOKENS if ok else 0)
        if ok:
            self.limiter.succeeded(grant)
        else:
            self.limiter.refused(now, None, grant=grant)
