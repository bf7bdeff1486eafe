"""The rate limit of one provider: who may send when, with which key.

All limits must allow a request (see `rooms`), and a grant takes from all of them or
from none. Who must wait does so in one line (see `waiting_line`). The *head* is who
is next there. While it waits for room, others that fit may go ahead, if it is not put
off by that: when it is ready, there is room for both. They are looked for by model and
size, so that a thousand requests that are large, or whose model has nothing left, do not
hide others behind them: of each model, in sizes of 1, 2 to 3, 4 to 7 tokens and so on,
the first one.

Who has a deadline and will not be ready by then is told so at once; who waits and
whose deadline passes, or cannot be kept any more, leaves the line.

The caller asks `next_wakeup` whenever something has changed, and calls `due` then.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Generic, TypeAlias

import attrs

from duckservice.core.allowance import Ahead, Ask
from duckservice.core.grants import (
    ANY_KEY,
    Acquired,
    Grant,
    Late,
    LimiterStatistics,
    Limits,
    LineFull,
    Waits,
    cost_of,
)
from duckservice.core.rate_hints import RateHints
from duckservice.core.rooms import Place, Rooms
from duckservice.core.shares import ANYBODY, Submitters, W
from duckservice.core.token_bucket import Never
from duckservice.core.waiting_line import Priority, WaitingLine

SET_ASIDE_MAX = 3600.0
"""A key is tried again after so many seconds, whatever was said of it."""

LANES_MAX = 128
"""Who waits when there are so many models and sizes is looked for by size alone."""

Lane: TypeAlias = tuple[str, int]
"""A model, or "", and a size."""


@attrs.frozen(kw_only=True)
class LimiterMemory:
    """What a limiter has to know of the past, for its successor."""

    rooms: Rooms


class Limiter(Generic[W]):
    """Says who may send when. `W` is any hashable that names a waiter."""

    def __init__(
        self, limits: Limits, now: float, *, memory: LimiterMemory | None = None
    ) -> None:
        """Start with full limits, or with what an earlier limiter remembered."""
        self.limits = limits
        self._rooms = memory.rooms if memory else Rooms.of(limits, now)
        self._line = self._new_line()
        self._lanes: dict[Lane, WaitingLine[W]] = {}
        self._lane_of: dict[W, Lane] = {}
        self._asks: dict[W, Ask] = {}
        self._waiting_cost: dict[str, list[int]] = {}
        self._deadlines: list[tuple[float, int, W]] = []
        self._deadline_of: dict[W, int] = {}
        self._entries = count(1)
        self._wakeup: float | None = None
        self._too_large: list[W] = []
        """Who waits, and never fits since the limits are other ones."""

    def relimit(
        self,
        now: float,
        limits: Limits,
        kept: Sequence[int | None] = (),
        *,
        elsewhere: bool = False,
    ) -> None:
        """Have other limits from *now* on; *kept* says where keys were (see `Rooms`).

        What was granted counts, unless these are the limits of a server that is
        *elsewhere*. Who waits goes on waiting, by the new limits; `due` answers those
        who could wait for ever. Where nothing was limited nobody has counted, so a
        limit that is new holds for what is granted from now on.
        """
        self.limits = limits
        self._rooms.relimit(now, limits, kept, elsewhere=elsewhere)
        most = self._rooms.most_tokens
        self._too_large = [
            waiter
            for waiter, ask in self._asks.items()
            if most is not None and ask.cost[1] > most
        ]
        self._wakeup = None

    # Who wants to send.

    def acquire(
        self,
        now: float,
        tokens: int,
        waiter: W,
        priority: Priority = "normal",
        *,
        input_tokens: int = 0,
        model: str = "",
        yields: bool = False,
        submitter: Submitters = ANYBODY,
        deadline: float = math.inf,
    ) -> Acquired:
        """Grant one request to *model*, of up to *tokens*, or let *waiter* wait for it.

        *input_tokens* of them are the prompt's. What can never fit is answered
        `Never` at once, and what is not ready by its *deadline*, `Late`.

        Raises:
            ValueError: *waiter* waits already.
        """
        ask = Ask(cost_of(tokens, input_tokens), model)
        most = self._rooms.most_tokens
        if most is not None and tokens > most:
            return Never(most)
        if not self._asks:
            place = self._rooms.place(now, ask)
            if place.at <= now:
                return self._rooms.grant(now, ask, place.key)
        if len(self._asks) >= self.limits.waiting_max:
            return LineFull(self.limits.waiting_max)
        if deadline < math.inf and not self._may_pass(now, ask):
            ahead = self._line.ahead(
                now, priority, yields=yields, submitter=submitter, deadline=deadline
            )
            ready_at = self._expected_at(now, ask, ahead)
            if ready_at > deadline:
                return Late(ready_at)
        lane = self._lane(ask)
        if lane not in self._lanes:
            self._lanes[lane] = self._new_line()
        for line in (self._line, self._lanes[lane]):
            line.enter(
                now,
                priority,
                waiter,
                yields=yields,
                submitter=submitter,
                deadline=deadline,
            )
        self._note(waiter, ask, lane, deadline)
        return Waits()

    def due(self, now: float) -> list[tuple[W, Grant | Late | Never]]:
        """Grant what fits now; return who has a grant or has left, to be told so."""
        if self._wakeup is not None and now < self._wakeup:
            return []
        self._wakeup = None
        answered: list[tuple[W, Grant | Late | Never]] = [
            *self._leave_never(),
            *self._leave_late(now),
        ]
        while (head := self._line.next()) is not None:
            place = self._rooms.place(now, self._asks[head])
            if place.at <= now:
                self._line.pop()
                answered.append(self._grant(now, head, place))
                continue
            passing = self._passing(now, head, place)
            found = next((its for its in passing if its[1].at <= now), None)
            if found is None:
                break
            # It is not its turn that it takes, or its submitter would lose it.
            self._line.remove(found[0])
            answered.append(self._grant(now, *found))
        return answered

    def next_wakeup(self, now: float) -> float | None:
        """Return when `due` will answer somebody, if nothing changes until then.

        None if nobody waits. It may lie in the past: then `due` answers now.
        """
        head = self._line.next()
        if head is None:
            return None
        if self._wakeup is None:
            place = self._rooms.place(now, self._asks[head])
            first = min(
                (at.at for _, at in self._passing(now, head, place)), default=place.at
            )
            self._wakeup = min(first, self._first_deadline())
            if self._too_large:
                self._wakeup = now
        return self._wakeup

    def remove(self, waiter: W) -> bool:
        """Take out one who gave up waiting; say whether it did wait.

        False means that it has a grant, or was never here.
        """
        if not self._line.remove(waiter):
            return False
        self._forget(waiter, turn_taken=False)
        return True

    def expected_at(
        self,
        now: float,
        tokens: int = 0,
        input_tokens: int = 0,
        *,
        model: str = "",
        ahead: int = 0,
    ) -> float:
        """Return about when a new request to *model* would be granted, if it went last.

        Those who wait count with what they cost on average, and so many more that are
        *ahead*, and have not asked yet, with the cost of this one. Infinity: never.
        """
        most = self._rooms.most_tokens
        if most is not None and tokens > most:
            return math.inf
        ask = Ask(cost_of(tokens, input_tokens), model)
        if not ahead:
            return self._expected_at(now, ask, len(self._asks))
        alone, number = self._rooms.place(now, ask).at, len(self._asks) + ahead
        others = self._waiting_cost.get(model, [0, 0, 0, 0])
        its = [
            other + part * ahead for other, part in zip(others, ask.cost, strict=True)
        ]
        those = Ahead(number, number, {**self._waiting_cost, model: its})
        return max(alone, self._rooms.expected_at(now, ask, those))

    # What became of a grant.

    def settle(
        self, grant: Grant, tokens: int, *, input_tokens: int | None = None
    ) -> None:
        """Replace the tokens that *grant* reserved by those that were used.

        A grant that was ended already changes nothing.
        """
        whole = grant.whole
        reserved = 0 if whole is None else whole.cost[2]
        actual = cost_of(tokens, reserved if input_tokens is None else input_tokens)
        if grant.settled:
            return
        grant.settled = True
        self._wakeup = None
        if whole is not None:
            self._rooms.whole.settle(whole, actual)
        if (holder := self._rooms.holder(grant)) is not None:
            key, taken = holder
            key.settle(taken, actual)

    def give_back(self, now: float, grant: Grant) -> None:
        """Undo a *grant* whose request was never sent: all of its parts come back."""
        if grant.settled:
            return
        grant.settled = True
        self._wakeup = None
        if grant.whole is not None:
            self._rooms.whole.give_back(now, grant.whole)
        if (holder := self._rooms.holder(grant)) is not None:
            key, taken = holder
            key.give_back(now, taken)

    def was_sent(self, now: float, grant: Grant) -> None:
        """Have *grant* count from *now* on, as its request was held up until now."""
        if grant.settled:
            return
        self._wakeup = None
        if grant.whole is not None:
            self._rooms.whole.was_sent(now, grant.whole)
        if (holder := self._rooms.holder(grant)) is not None:
            key, taken = holder
            key.was_sent(now, taken)

    # What the provider says.

    def learn(
        self,
        now: float,
        hints: RateHints,
        key: int = ANY_KEY,
        *,
        grant: Grant | None = None,
    ) -> None:
        """Take what a response to *grant*, sent with *key*, says of its model's limits.

        It tightens what is configured and never loosens it. Without a *grant* it is
        not known to be newer than anything, and so raises nothing either; then it is
        about the model without a name.
        """
        if self._has_moved(grant):
            return
        of = 0 if grant is None else grant.number
        if self._rooms.keys and not 0 <= key < len(self._rooms.keys):
            key = ANY_KEY if grant is None else grant.key_held
        model = "" if grant is None else grant.model
        told = self._rooms.of_key(key).told
        told.learn(now, model, hints, of=of, last=self._rooms.numbers)
        self._wakeup = None

    def refused(
        self,
        now: float,
        retry_after: float | None,
        key: int = ANY_KEY,
        *,
        grant: Grant | None = None,
    ) -> None:
        """Take note of a 429: nothing goes to that key, or provider, for a while.

        As long as it asks, 120 s at most; or 1 s, and with each further one twice as
        long, up to `Limits.guess_max`.
        """
        if self._has_moved(grant):
            return
        of = self._rooms.numbers if grant is None else grant.number
        cooldown = self._rooms.of_key(key).cooldown
        cooldown.refused(
            now,
            retry_after,
            of=of,
            last=self._rooms.numbers,
            guess_max=self.limits.guess_max,
        )
        self._wakeup = None

    def guessed_pause(self, now: float, grant: Grant) -> float | None:
        """Return how long a 429 to *grant* will pause what it was sent with, from *now*.

        That is for one that names no time. None: it says nothing of the limits of now.
        """
        if self._has_moved(grant):
            return None
        its = self._rooms.of_key(grant.key).cooldown
        guess = its.guess(of=grant.number, guess_max=self.limits.guess_max)
        return max(guess, self.blocked_until - now, its.until - now)

    def succeeded(self, grant: Grant) -> None:
        """Take note that the provider has served *grant*, so that 429s count anew."""
        for key in {ANY_KEY} if self._has_moved(grant) else {ANY_KEY, grant.key_held}:
            self._rooms.of_key(key).cooldown.succeeded(of=grant.number)

    def block(self, now: float, seconds: float, key: int = ANY_KEY) -> None:
        """Grant nothing, or nothing of *key*, for *seconds*; 120 at most.

        It never shortens a pause that is under way.
        """
        self._rooms.of_key(key).cooldown.block(now, seconds)
        self._wakeup = None

    def set_aside(
        self, now: float, seconds: float, key: int, *, grant: Grant | None = None
    ) -> None:
        """Take other keys for *seconds*, an hour at most, as long as there are any.

        The answer to *grant* has said so.
        """
        if self._has_moved(grant):
            return
        its = self._rooms.of_key(key)
        if seconds > 0 and its is not self._rooms.whole:
            until = now + min(seconds, SET_ASIDE_MAX)
            its.unused_until = max(its.unused_until, until)
            self._wakeup = None

    def _has_moved(self, grant: Grant | None) -> bool:
        """Say whether the keys are other ones than when *grant* was given."""
        return grant is not None and grant.layout != self._rooms.layout

    # What it knows.

    def ready_at(self, now: float, model: str | None = None) -> float:
        """Return when one more request of no tokens would be granted, if none waits.

        One to *model*, or to that which is ready first of those that we know.
        """
        models = self._rooms.some_models() if model is None else [model]
        nothing = cost_of(0, 0)
        return min(self._rooms.place(now, Ask(nothing, its)).at for its in models)

    def requests_left(self, now: float, model: str | None = None) -> int | None:
        """Return how many requests may go, to *model* or to any; None: any number."""
        return self._rooms.available(now, model)[0]

    @property
    def blocked_until(self) -> float:
        """Until when a 429 forbids every grant; in the past if none does."""
        return self._rooms.blocked_until

    def knows_of_tokens(self, model: str | None = None) -> bool:
        """Say whether it matters how many tokens a request to *model*, or any, has."""
        return any(its.knows_of_tokens(model) for its in self._rooms.all())

    def memory(self) -> LimiterMemory:
        """Return what a successor has to know, so that a crash lifts no limit."""
        return LimiterMemory(rooms=self._rooms.copy())

    def statistics(self, now: float) -> LimiterStatistics:
        """Return what is left of the limits, and how many wait."""
        requests, tokens = self._rooms.available(now)
        blocked = now < self.blocked_until
        return LimiterStatistics(
            waiting=len(self._asks),
            blocked_until=self.blocked_until if blocked else None,
            requests_available=requests,
            tokens_available=tokens,
            keys=self._rooms.statistics(now),
            told=self._rooms.told(now),
        )

    # Who waits.

    def _grant(self, now: float, waiter: W, place: Place) -> tuple[W, Grant]:
        ask = self._asks[waiter]
        self._forget(waiter, turn_taken=True)
        return waiter, self._rooms.grant(now, ask, place.key)

    def _passing(self, now: float, head: W, place: Place) -> Iterator[tuple[W, Place]]:
        """Yield who may go ahead of *head* and when, the first in the line first."""
        if place.at <= now or len(self._lanes) < 2:
            return
        firsts = [self._line.entry(lane.first()) for lane in self._lanes.values()]
        for entry in sorted(firsts, key=lambda entry: entry.rank):
            waiter = entry.waiter
            if waiter == head:
                continue
            its = self._rooms.aside(now, self._asks[head], place, self._asks[waiter])
            if its is not None:
                yield waiter, its

    def _may_pass(self, now: float, ask: Ask) -> bool:
        """Say whether one more that asks for this would go ahead of all others now."""
        head = self._line.next()
        if head is None or self._lane(ask) in self._lanes:
            return False
        place = self._rooms.place(now, self._asks[head])
        its = self._rooms.aside(now, self._asks[head], place, ask)
        return its is not None and its.at <= now

    def _leave_never(self) -> Iterator[tuple[W, Never]]:
        """Take out those who are too large for the limits of today."""
        most, gone = self._rooms.most_tokens, self._too_large
        self._too_large = []
        for waiter in gone:
            if most is not None and self.remove(waiter):
                yield waiter, Never(most)

    def _leave_late(self, now: float) -> Iterator[tuple[W, Late]]:
        """Take out those who will not be granted by their deadlines."""
        while self._first_deadline() < math.inf:
            deadline, _, waiter = self._deadlines[0]
            # Before that no limit lets anybody go, whatever comes back.
            if deadline > now and deadline >= self.blocked_until:
                return
            heapq.heappop(self._deadlines)
            ready_at = self._rooms.place(now, self._asks[waiter]).at
            self._line.remove(waiter)
            self._forget(waiter, turn_taken=False)
            yield waiter, Late(max(ready_at, deadline))

    def _first_deadline(self) -> float:
        heap = self._deadlines
        while heap and self._deadline_of.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def _expected_at(self, now: float, ask: Ask, ahead: int) -> float:
        """Return about when it goes, if so many that wait go first."""
        alone = self._rooms.place(now, ask).at
        if not ahead:
            return alone
        those = Ahead(ahead, len(self._asks), self._waiting_cost)
        return max(alone, self._rooms.expected_at(now, ask, those))

    def _note(self, waiter: W, ask: Ask, lane: Lane, deadline: float) -> None:
        self._asks[waiter] = ask
        self._lane_of[waiter] = lane
        costs = self._waiting_cost.setdefault(ask.model, [0, 0, 0, 0])
        for part, its in enumerate(ask.cost):
            costs[part] += its
        if deadline < math.inf:
            number = self._deadline_of[waiter] = next(self._entries)
            heapq.heappush(self._deadlines, (deadline, number, waiter))
        self._wakeup = None

    def _forget(self, waiter: W, *, turn_taken: bool) -> None:
        """Remember one no more whom the line has let go."""
        ask = self._asks.pop(waiter)
        costs = self._waiting_cost[ask.model]
        for part, its in enumerate(ask.cost):
            costs[part] -= its
        if not costs[0]:
            del self._waiting_cost[ask.model]
        name = self._lane_of.pop(waiter)
        lane = self._lanes[name]
        if turn_taken:
            lane.take(waiter)
        else:
            lane.remove(waiter)
        if not len(lane):
            del self._lanes[name]
        if self._deadline_of.pop(waiter, None) is not None:
            self._sweep()
        self._wakeup = None

    def _sweep(self) -> None:
        """Keep no more dead entries in the heap than live ones."""
        if len(self._deadlines) > 2 * len(self._deadline_of) + 16:
            self._deadlines = [
                its
                for its in self._deadlines
                if self._deadline_of.get(its[2]) == its[1]
            ]
            heapq.heapify(self._deadlines)

    def _lane(self, ask: Ask) -> Lane:
        size = ask.cost[1].bit_length()
        lane = ask.model, size
        full = len(self._lanes) >= LANES_MAX and lane not in self._lanes
        return ("", size) if full else lane

    def _new_line(self) -> WaitingLine[W]:
        limits = self.limits
        return WaitingLine[W](aging=limits.aging, patience=limits.patience)
