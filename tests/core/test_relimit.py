"""Limits, turns and budgets that change while they are used.

The model of the limiter knows nothing of windows: it has a list of all grants, and
adds up those of the last 60 s.
"""

import math

import attrs
from hypothesis import given, settings, strategies as st

from duckservice.core.budget_book import BudgetBook, Refusal, Reservation
from duckservice.core.budget_rule import BudgetRule, Spender
from duckservice.core.grants import Grant, Late, Limits, Waits
from duckservice.core.limiter import Limiter
from duckservice.core.rate_hints import RateHints
from duckservice.core.request_queue import Full, RequestQueue, Turn, Waiting
from duckservice.core.token_bucket import Never, available, full, resized, take

MINUTE = 60.0


@attrs.frozen
class Setting:
    """What a config says of one provider."""

    requests: int | None
    tokens: int | None
    of_key: int | None
    keys: tuple[str, ...]

    def limits(self) -> Limits:
        return Limits(
            requests_per_minute=self.requests,
            tokens_per_minute=self.tokens,
            key_requests_per_minute=self.of_key,
            keys=len(self.keys),
            guard=0.0,
        )


SETTINGS = st.builds(
    Setting,
    st.none() | st.integers(1, 9),
    st.none() | st.integers(1, 60),
    st.none() | st.integers(1, 5),
    st.lists(st.sampled_from("abcd"), unique=True, max_size=3).map(tuple),
)
NUMBERS = st.integers(0, 30)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 40)),
        st.tuples(st.just("wait"), st.integers(1, 40)),
        st.tuples(st.just("set"), SETTINGS),
        st.tuples(st.just("settle"), NUMBERS),
        st.tuples(st.just("give_back"), NUMBERS),
        st.tuples(st.just("leave"), NUMBERS),
        st.tuples(st.just("refused"), NUMBERS),
        st.tuples(st.just("set_aside"), NUMBERS),
        st.tuples(st.just("tell"), NUMBERS),
    ),
    max_size=40,
)


@attrs.define(eq=False)
class Sent:
    """A grant, as the provider sees it."""

    at: float
    tokens: int
    key: str | None
    grant: Grant
    settled: bool = False


class Driven:
    """A limiter, what it has granted, and what it must not do."""

    def __init__(self, setting: Setting) -> None:
        self.now, self.setting, self.tickets = 0.0, setting, 0
        self.limiter = Limiter[int](setting.limits(), 0.0)
        self.sent = list[Sent]()
        self.waiting = dict[int, int]()
        self.counted_since = {"requests": 0, "tokens": 0, "of_key": 0}
        """From which grant on a limit holds: where there is none, nobody counts."""
        self.rests = dict[str | None, float]()
        """Of a key, until when it was asked for."""

    def ask(self, tokens: int) -> None:
        self.tickets += 1
        match self.limiter.acquire(self.now, tokens, self.tickets):
            case Grant() as grant:
                self.granted(grant, tokens)
            case Waits():
                self.waiting[self.tickets] = tokens
                self.due()
            case Never(limit):
                assert tokens > limit == self.setting.tokens
            case other:
                raise AssertionError(other)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (at := self.limiter.next_wakeup(self.now)) is not None and at <= end:
            self.now = max(self.now, at)
            self.due()
        self.now = end

    def set(self, setting: Setting) -> None:
        old, before = self.setting, {k: n for n, k in enumerate(self.setting.keys)}
        for name in self.counted_since:
            if getattr(old, name) is None:
                self.counted_since[name] = len(self.sent)
        for its in self.sent:
            if its.key not in setting.keys:
                its.key = None  # nobody knows a key that is gone
        self.rests = {k: at for k, at in self.rests.items() if k in setting.keys}
        self.setting = setting
        kept = [before.get(key) for key in setting.keys]
        self.limiter.relimit(self.now, setting.limits(), kept)
        self.due()

    def one(self, number: int) -> Sent | None:
        under_way = [its for its in self.sent if not its.settled]
        return under_way[number % len(under_way)] if under_way else None

    def settle(self, number: int) -> None:
        if (its := self.one(number)) is not None:
            its.settled, its.tokens = True, its.tokens // 2
            self.limiter.settle(its.grant, its.tokens)

    def give_back(self, number: int) -> None:
        if (its := self.one(number)) is not None:
            its.settled, its.tokens = True, 0
            its.at = -math.inf
            self.limiter.give_back(self.now, its.grant)

    def refused(self, number: int) -> None:
        """Have the provider ask for a pause of the key of a request."""
        if (its := self.one(number)) is not None:
            grant = its.grant
            of_now = grant.layout == self.limiter.memory().rooms.layout
            self.limiter.refused(self.now, 30.0, grant.key, grant=grant)
            if of_now and its.key is not None:
                self.rests[its.key] = max(self.rests.get(its.key, 0), self.now + 30)
            self.due()

    def set_aside(self, number: int) -> None:
        """Have a key be of no use: the others are, and it never is for ever."""
        if (its := self.one(number)) is not None and its.grant.key >= 0:
            self.limiter.set_aside(self.now, 50.0, its.grant.key, grant=its.grant)
            self.due()

    def tell(self, number: int) -> None:
        """Have the provider tell a limit of the key of a request."""
        if (its := self.one(number)) is not None:
            hints = RateHints(requests_limit=1 + number % 5)
            self.limiter.learn(self.now, hints, its.grant.key, grant=its.grant)
            self.due()

    def leave(self, number: int) -> None:
        if self.waiting:
            ticket = list(self.waiting)[number % len(self.waiting)]
            del self.waiting[ticket]
            assert self.limiter.remove(ticket)

    def due(self) -> None:
        for ticket, answer in self.limiter.due(self.now):
            tokens = self.waiting.pop(ticket)
            match answer:
                case Grant():
                    self.granted(answer, tokens)
                case Never(limit):
                    assert tokens > limit == self.setting.tokens
                case Late():
                    raise AssertionError("nobody has a deadline")

    def granted(self, grant: Grant, tokens: int) -> None:
        its, keys = self.setting, self.setting.keys
        # Where nothing is known of keys, the sender takes any.
        key = keys[grant.key_held] if len(keys) > 1 else next(iter(keys), None)
        self.sent.append(Sent(self.now, tokens, key, grant))
        assert self.rests.get(key, 0.0) <= self.now
        if its.requests is not None:
            assert len(self.recent("requests")) <= its.requests
        if its.tokens is not None:
            assert sum(one.tokens for one in self.recent("tokens")) <= its.tokens
        if its.of_key is not None and keys:
            of_key = [one for one in self.recent("of_key") if one.key == key]
            assert len(of_key) <= its.of_key

    def recent(self, limit: str) -> list[Sent]:
        counted = self.sent[self.counted_since[limit] :]
        return [its for its in counted if its.at > self.now - MINUTE]


@settings(max_examples=400, deadline=None)
@given(SETTINGS, STEPS)
def test_a_limit_that_changes_holds_in_every_minute_and_nobody_waits_for_ever(
    first, steps
):
    its = Driven(first)
    for name, value in steps:
        getattr(its, name)(value)
    most = its.setting.tokens
    assert most is None or all(tokens <= most for tokens in its.waiting.values())
    its.wait(MINUTE * 60)
    assert not its.waiting


def test_a_key_that_moves_takes_along_what_was_sent_with_it():
    limits = Limits(keys=2, key_requests_per_minute=1, guard=0.0)
    limiter = Limiter[int](limits, 0.0)
    first = limiter.acquire(0.0, 1, 1)
    assert isinstance(first, Grant)
    assert first.key == 0
    # The key of before is the second now, and a new one is the first.
    limiter.relimit(1.0, limits, [None, 0])
    second = limiter.acquire(1.0, 1, 2)
    assert isinstance(second, Grant)
    assert second.key == 0
    assert isinstance(limiter.acquire(1.0, 1, 3), Waits)


def test_what_is_said_of_a_key_that_has_moved_is_not_taken_for_another():
    limits = Limits(keys=2, guard=0.0)
    limiter = Limiter[int](limits, 0.0)
    grant = limiter.acquire(0.0, 1, 1)
    assert isinstance(grant, Grant)
    limiter.relimit(1.0, limits, [1, 0])
    limiter.refused(1.0, 30.0, grant.key_held, grant=grant)
    assert [key.rests_until for key in limiter.statistics(1.0).keys] == [None, None]


def test_a_key_that_is_refused_sets_no_other_key_aside():
    limits = Limits(keys=2, guard=0.0)
    limiter = Limiter[int](limits, 0.0)
    bad = limiter.acquire(0.0, 1, 1)
    assert isinstance(bad, Grant)
    # The bad key goes, the good one takes its place.
    limiter.relimit(1.0, limits, [1, None])
    limiter.set_aside(1.0, 3600.0, bad.key_held, grant=bad)
    assert [key.rests_until for key in limiter.statistics(1.0).keys] == [None, None]


def told(requests: int) -> RateHints:
    return RateHints(requests_limit=requests)


def granted_at(limiter: Limiter[int], now: float, many: int) -> int:
    answers = [limiter.acquire(now, 1, 1000 + n) for n in range(many)]
    for number in range(many):
        limiter.remove(1000 + number)
    return sum(isinstance(its, Grant) for its in answers)


def test_a_second_key_brings_what_the_first_was_told_to_have():
    limits = Limits(keys=1, guard=0.0)
    limiter = Limiter[int](limits, 0.0)
    first = limiter.acquire(0.0, 1, 1)
    limiter.learn(0.0, told(2), grant=first)
    limiter.relimit(1.0, attrs.evolve(limits, keys=2), [0, None])
    limiter.learn(1.0, told(2), 1)
    assert granted_at(limiter, 200.0, 9) == 4


def test_the_key_that_is_left_keeps_its_limits():
    limits = Limits(keys=2, key_requests_per_minute=5, guard=0.0)
    limiter = Limiter[int](limits, 0.0)
    assert granted_at(limiter, 0.0, 20) == 10
    limiter.relimit(1.0, attrs.evolve(limits, keys=1), [1])
    assert granted_at(limiter, 2.0, 20) == 0
    assert granted_at(limiter, 60.0, 20) == 5


def test_the_key_that_is_left_rests_as_long_as_it_was_asked_to():
    limits = Limits(keys=2, guard=0.0)
    limiter = Limiter[int](limits, 0.0)
    limiter.refused(0.0, 100.0, 1)
    limiter.relimit(1.0, attrs.evolve(limits, keys=1), [1])
    assert limiter.blocked_until == 100.0


def test_another_server_owes_nothing_and_is_owed_nothing():
    limits = Limits(requests_per_minute=1, guard=0.0)
    limiter = Limiter[int](limits, 0.0)
    grant = limiter.acquire(0.0, 1, 1)
    limiter.refused(0.0, 30.0)
    limiter.relimit(1.0, limits, elsewhere=True)
    assert isinstance(limiter.acquire(1.0, 1, 2), Grant)
    limiter.give_back(1.0, grant)
    assert isinstance(limiter.acquire(1.0, 1, 3), Waits), "it was not of this server"


def test_a_bucket_of_another_size_has_what_was_left_and_fills_up():
    bucket, _ = take(full(10, 1.0, 0.0), 0.0, 7)
    larger = resized(bucket, 100, 1.0, 0.0)
    assert available(larger, 0.0) == 3
    assert available(larger, 50.0) == 53
    assert available(resized(bucket, 2, 1.0, 0.0), 0.0) == 2
    assert available(resized(bucket, 10, 4.0, 0.0), 1.0) == 7
    assert available(resized(resized(bucket, 1, 1.0, 0.0), 10, 1.0, 0.0), 0.0) == 1


def test_a_lane_that_gets_wider_takes_those_who_wait():
    queue = RequestQueue[str]({"up": 1})
    assert isinstance(queue.enter(0.0, "up", "normal", "a"), Turn)
    for name in "bcd":
        assert isinstance(queue.enter(0.0, "up", "normal", name), Waiting)
    admitted = queue.set_lanes({"up": 3})
    assert [waiter for waiter, _ in admitted] == ["b", "c"]


def test_a_lane_that_gets_narrower_takes_no_turn_away():
    queue = RequestQueue[str]({"up": 2})
    turns = [queue.enter(0.0, "up", "normal", name) for name in "ab"]
    assert queue.set_lanes({"up": 1}) == []
    queue.enter(0.0, "up", "normal", "c")
    assert queue.leave(turns[0]) == []
    assert [waiter for waiter, _ in queue.leave(turns[1])] == ["c"]


def test_a_lane_ends_when_nobody_uses_it():
    queue = RequestQueue[str]({"up": 1, "other": 1})
    turn = queue.enter(0.0, "up", "normal", "a")
    queue.set_lanes({"other": 1, "new": 1})
    assert set(queue.statistics(0.0).running_by_lane) == {"up", "other", "new"}
    queue.leave(turn)
    queue.set_lanes({"other": 1, "new": 1})
    assert set(queue.statistics(0.0).running_by_lane) == {"other", "new"}


def test_a_smaller_queue_keeps_who_is_in_it():
    queue = RequestQueue[str]({"up": 1})
    for name in "abc":
        queue.enter(0.0, "up", "normal", name)
    queue.max_size = 1
    assert queue.statistics(0.0).waiting == 2
    assert queue.enter(0.0, "up", "normal", "d") == Full(1)


DAY = BudgetRule(name="day", limit=10)
ANYBODY = Spender()


def test_a_limit_that_changes_keeps_what_is_spent_and_reserved():
    book = BudgetBook([DAY])
    held = book.reserve(0.0, ANYBODY, 6)
    book.relimit("day", 20)
    assert isinstance(book.reserve(0.0, ANYBODY, 14), Reservation)
    assert isinstance(book.reserve(0.0, ANYBODY, 1), Refusal)
    book.relimit("day", 5)
    book.settle(held, 3)
    [state] = book.states(0.0)
    assert (state.budget.settled, state.budget.reserved, state.budget.limit) == (
        3,
        14,
        5,
    )
    assert isinstance(book.reserve(0.0, ANYBODY, 1), Refusal)


def test_what_is_under_way_counts_in_a_budget_that_has_come_exactly():
    book = BudgetBook([DAY])
    held = book.reserve(0.0, ANYBODY, 6)
    over = book.reserve(0.0, ANYBODY, 3)
    book.settle(over, 3)
    book.remove("day")
    again = attrs.evolve(DAY, version=book.edition + 1)
    book.add(again)
    book.add(BudgetRule(name="others", limit=10, provider="another"))
    assert [its.budget.reserved for its in book.states(0.0)] == [6, 0]
    assert book.settle(held, 2) == ((again.key, 0),)
    assert [its.budget.settled for its in book.states(0.0)] == [2, 0]
    assert [its.budget.reserved for its in book.states(0.0)] == [0, 0]


def test_what_is_sent_later_is_bound_by_a_budget_that_has_come():
    book = BudgetBook([])
    held = book.reserve(0.0, ANYBODY, 6)
    book.add(attrs.evolve(DAY, limit=5, version=1))
    assert isinstance(book.move(held, 0.0, ANYBODY), Refusal)
    book.relimit("day\n1", 6)
    moved = book.move(held, 0.0, ANYBODY)
    assert isinstance(moved, Reservation)
    assert book.states(0.0)[0].budget.reserved == 6


def test_the_only_key_that_gets_company_is_not_a_new_one():
    limits = Limits(keys=1, key_requests_per_minute=1, guard=0.0)
    limiter = Limiter[int](limits, 0.0)
    assert isinstance(limiter.acquire(0.0, 1, 1), Grant)
    limiter.relimit(1.0, attrs.evolve(limits, keys=2), [0, None])
    second = limiter.acquire(1.0, 1, 2)
    assert isinstance(second, Grant)
    assert second.key == 1
    assert isinstance(limiter.acquire(1.0, 1, 3), Waits)


def test_keys_that_stay_have_their_new_limits():
    limits = Limits(keys=2, key_requests_per_minute=9, guard=0.0)
    limiter = Limiter[int](limits, 0.0)
    lower = attrs.evolve(limits, key_requests_per_minute=1)
    limiter.relimit(0.0, lower, [0, 1])
    granted = [limiter.acquire(0.0, 1, n) for n in range(3)]
    assert [type(its) for its in granted] == [Grant, Grant, Waits]
