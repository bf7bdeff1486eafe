"""A provider with limits that only its headers tell, for the tests of the limiter.

It keeps its own count, in windows that are fixed or in buckets that fill, and counts a
request when it arrives; the answer travels back, and answers overtake each other.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from random import Random

import attrs

from duckservice.core.grants import Grant, Limits
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
    """A limiter that knows nothing, under load, before such a provider."""

    seed: int
    requests: int
    fills: bool
    seconds: float = 600.0
    configured: int | None = None
    limiter: Limiter[int] = attrs.field(init=False)
    upstream: Upstream = attrs.field(init=False)

    def run(self) -> Upstream:
        rng = Random(self.seed)
        limits = Limits(requests_per_minute=self.configured, waiting_max=10)
        self.limiter = Limiter(limits, 0.0)
        phase = rng.uniform(0, 60)
        tokens = self.requests * rng.choice([5, 1000])
        self.upstream = Upstream(self.requests, tokens, self.fills, phase)
        events: list[tuple[float, int, str, Grant, object]] = []
        names, under_way, now = count(1), 0, 0.0
        while now < self.seconds:
            for grant in self.want(now, under_way, names):
                under_way += 1
                there = now + rng.uniform(0, 0.4)
                heapq.heappush(events, (there, next(names), "arrives", grant, None))
            wakeup = self.limiter.next_wakeup(now)
            if under_way >= IN_FLIGHT_MAX or wakeup is None:
                wakeup = None
            if events and (wakeup is None or events[0][0] <= wakeup):
                now, _, what, grant, said = heapq.heappop(events)
                if what == "arrives":
                    ok = self.upstream.arrives(now, grant.tokens)
                    said = ok, self.upstream.headers(now)
                    back = now + rng.choice([0.05, 0.2, 1.5, rng.uniform(0, 4)])
                    event = back, next(names), "answered", grant, said
                    heapq.heappush(events, event)
                else:
                    under_way -= 1
                    self.answered(now, grant, said, rng)
            elif wakeup is not None:
                now = max(now, wakeup)
        return self.upstream

    def want(self, now: float, under_way: int, names: Iterator[int]) -> Iterator[Grant]:
        """Yield grants as long as there are any and too many are not under way."""
        while under_way < IN_FLIGHT_MAX:
            for _, its in self.limiter.due(now):
                assert isinstance(its, Grant)
                yield its
                under_way += 1
            if under_way >= IN_FLIGHT_MAX or self.limiter.statistics(now).waiting:
                return
            answer = self.limiter.acquire(now, TOKENS, next(names))
            if isinstance(answer, Grant):
                yield answer
                under_way += 1

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
