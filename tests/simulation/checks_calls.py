"""What must hold of every call that a provider sees: I17, I18, I22, I24, I25, I26."""

from __future__ import annotations

import math
from collections import deque

import attrs
import trio

from duckservice.config import Config, ProviderConfig
from duckservice.events import BreakerMoved
from tests.simulation.upstream import Seen
from tests.simulation.verdicts import Verdicts

WINDOW = 60.0
RETRY_AFTER_MAX = 120.0
RETRIES_FREE = 10
FIRSTS_PER_RETRY = 10
#: Below what a virtual clock of floats can tell apart after some months.
TICK = 1e-6


@attrs.define(eq=False)
class CallChecks:
    """Of one provider, by its own log and clock."""

    config: ProviderConfig
    verdicts: Verdicts
    _phase: str = "closed"
    _open_until: float = -math.inf
    _probes: int = 0
    _asked_to_wait: deque[tuple[float, float]] = attrs.field(
        factory=deque[tuple[float, float]]
    )
    """When a 429 came, and until when it asked for a pause: those of this instant."""
    _closed_until: float = -math.inf
    """What all earlier ones asked for."""
    _calls: deque[float] = attrs.field(factory=deque[float])
    _firsts: deque[float] = attrs.field(factory=deque[float])
    _again: deque[float] = attrs.field(factory=deque[float])
    _last: float = -math.inf
    _unjudged: bool = False

    def moved(self, event: BreakerMoved) -> None:
        """Take note of what the breaker says of itself."""
        if event.was == "open":
            what = f"{self.config.name}'s breaker was not open for as long as it should"
            rested = trio.current_time() >= self._open_until - TICK
            self.verdicts.holds("I18", ok=rested, what=what)
        self._phase = event.now
        self.verdicts.seen[f"breaker {event.now}"] += 1
        if event.now == "open":
            rest = self.config.breaker.reset_timeout
            self._open_until = trio.current_time() + rest
        if event.now != "half_open":
            self._probes = 0

    def arrived(self, seen: Seen) -> None:
        """Judge a call at the moment at which it is made."""
        self._breaker(seen)
        self._limit(seen.at)
        self._retries(seen)
        self._pause(seen.at)
        deadline = seen.order.deadline
        if deadline is not None:
            self.verdicts.holds(
                "I26",
                ok=seen.at <= deadline + TICK,
                what=f"order {seen.order.id} was sent {seen.at - deadline:.3f} s"
                " after its deadline",
            )

    def ended(self, seen: Seen) -> None:
        """Take note of how a call has ended."""
        self.verdicts.seen[f"call {seen.fate}"] += 1
        if seen.probe:
            seen.probe = False
            self._probes = max(0, self._probes - 1)
        if seen.retry_after is not None:
            pause = min(seen.retry_after, RETRY_AFTER_MAX)
            self._asked_to_wait.append((seen.ended, seen.ended + pause))

    def close(self, log: list[Seen]) -> None:
        """Judge what is left: tokens of a window are known when it is long over."""
        self._judge_instant()
        self._leave_behind(math.inf)
        limit = self.config.limits.tokens_per_minute
        if limit is None:
            return
        window, used = deque[Seen](), 0
        for seen in log:
            if seen.fate != "ok":
                continue
            window.append(seen)
            used += seen.tokens
            while window[0].at <= seen.at - WINDOW:
                used -= window.popleft().tokens
            what = f"{self.config.name} was made to work on {used} tokens in a minute"
            self.verdicts.holds("I22", ok=used <= limit, what=what)

    def _breaker(self, seen: Seen) -> None:
        if self._phase == "open":
            opened = self._open_until - self.config.breaker.reset_timeout
            # What was permitted before may be sent in the same instant.
            asleep = opened + TICK < seen.at < self._open_until - TICK
            what = f"{self.config.name} was asked while its breaker was open"
            self.verdicts.holds("I18", ok=not asleep, what=what)
        elif self._phase == "half_open":
            self._probes += 1
            seen.probe = True
            most = self.config.breaker.half_open_max
            what = f"{self.config.name} has {self._probes} probes of {most}"
            self.verdicts.holds("I17", ok=self._probes <= most, what=what)

    def _pause(self, now: float) -> None:
        # What was granted before may be sent in the same instant.
        while self._asked_to_wait and self._asked_to_wait[0][0] < now - TICK:
            until = self._asked_to_wait.popleft()[1]
            self._closed_until = max(self._closed_until, until)
        early = self._closed_until - now
        what = f"{self.config.name} was asked {early:.3f} s before its pause was over"
        self.verdicts.holds("I24", ok=early <= TICK, what=what)

    def _limit(self, now: float) -> None:
        limit = self.config.limits.requests_per_minute
        if limit is None:
            return
        calls = self._calls
        calls.append(now)
        while calls[0] <= now - WINDOW + TICK:
            calls.popleft()
        what = f"{self.config.name} got {len(calls)} requests in a minute, of {limit}"
        self.verdicts.holds("I22", ok=len(calls) <= limit, what=what)

    def _retries(self, seen: Seen) -> None:
        """Judge every window that ends with a retry, or begins after a first attempt."""
        now = seen.at
        if now > self._last:
            self._judge_instant()
        self._leave_behind(now - WINDOW)
        (self._again if seen.again else self._firsts).append(now)
        self._last, self._unjudged = now, self._unjudged or seen.again

    def _leave_behind(self, until: float) -> None:
        """Let all before *until* leave the window; judge it after each that allows."""
        firsts, again = self._firsts, self._again
        while firsts and firsts[0] < until:
            left = firsts.popleft()
            while again and again[0] <= left:
                again.popleft()
            self._judge_retries(left)
        while again and again[0] < until:
            again.popleft()

    def _judge_instant(self) -> None:
        """Judge the last instant, which is over: all of its calls count together."""
        if self._unjudged:
            self._unjudged = False
            self._judge_retries(self._last - WINDOW)

    def _judge_retries(self, since: float) -> None:
        allowed = RETRIES_FREE + len(self._firsts) / FIRSTS_PER_RETRY
        what = (
            f"{self.config.name} got {len(self._again)} retries in the minute from"
            f" {since:.3f} s, and {len(self._firsts)} first attempts"
        )
        self.verdicts.holds("I25", ok=len(self._again) <= allowed, what=what)


def checks_of(config: Config, verdicts: Verdicts) -> dict[str, CallChecks]:
    """Return the checks of every provider."""
    return {name: CallChecks(its, verdicts) for name, its in config.providers.items()}
