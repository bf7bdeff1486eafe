"""All budgets together, against a model that remembers each request."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from duckservice.core.budget_book import (
    BudgetBook,
    BudgetRule,
    Refusal,
    Reservation,
    begin_of,
    end_of,
)

RULES = (
    BudgetRule(name="all", limit=100, window="day"),
    BudgetRule(name="core", limit=30, window="hour", tag=("team", "core")),
    BudgetRule(name="ever", limit=400, window="total"),
)
AT = 1_700_000_000.0
COSTS = st.integers(0, 40)
TAGS = st.sampled_from([{}, {"team": "core"}, {"team": "x"}])


def when(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class Books(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.book = BudgetBook(RULES)
        self.now = AT
        #: (time, tags, counts with) of each request.
        self.requests: list[list] = []
        self.open: list[tuple[Reservation, list]] = []
        self.refused = 0

    def spent(self, rule_: BudgetRule) -> int:
        length = {"hour": 3600, "day": 86400, "total": 10**12}[rule_.window]
        return sum(
            cost
            for at, tags, cost in self.requests
            if at // length == self.now // length
            and (rule_.tag is None or tags.get("team") == "core")
        )

    @rule(tags=TAGS, worst=COSTS)
    def reserve(self, tags, worst):
        binding = [r for r in RULES if r.tag is None or tags.get("team") == "core"]
        fits = all(self.spent(r) + worst <= r.limit for r in binding)
        its = self.book.reserve(self.now, tags, worst)
        assert isinstance(its, Reservation) == fits
        if isinstance(its, Reservation):
            request = [self.now, tags, worst]
            self.requests.append(request)
            self.open.append((its, request))
        else:
            assert its.name in {r.name for r in binding}

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.integers(0, 100))
    def settle(self, data, share):
        its, request = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        request[2] = its.amount * share // 100
        self.book.settle(its, request[2])

    @rule(seconds=st.sampled_from([1, 600, 3600, 86400]))
    def time_passes(self, seconds):
        self.now += seconds

    @invariant()
    def what_is_left_is_known(self):
        for state in self.book.states(self.now):
            its = state.budget
            assert its.settled + its.reserved == self.spent(state.rule)
            assert its.settled + its.reserved <= its.limit


TestBooks = Books.TestCase


@pytest.mark.parametrize(
    ("window", "begin", "end"),
    [
        ("hour", "2024-02-29T23:00:00", "2024-03-01T00:00:00"),
        ("day", "2024-02-29T00:00:00", "2024-03-01T00:00:00"),
        ("month", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
    ],
)
def test_windows_are_those_of_the_calendar(window, begin, end):
    now = when("2024-02-29T23:59:59")
    assert begin_of(window, now) == when(begin)
    assert end_of(window, now) == when(end)
    assert begin_of(window, when(end)) == when(end)


def test_the_year_ends_with_december():
    assert end_of("month", when("2023-12-31T12:00:00")) == when("2024-01-01T00:00:00")


def test_a_refusal_says_whether_and_when_to_come_back():
    book = BudgetBook([BudgetRule(name="b", limit=10, window="hour")])
    never = book.reserve(AT, {}, 11)
    assert isinstance(never, Refusal)
    assert not never.ever
    held = book.reserve(AT, {}, 8)
    assert isinstance(held, Reservation)
    soon = book.reserve(AT, {}, 5)
    assert isinstance(soon, Refusal)
    assert (soon.ever, soon.until, soon.left) == (True, None, 2)
    book.settle(held, 8)
    later = book.reserve(AT, {}, 5)
    assert isinstance(later, Refusal)
    assert later.until == end_of("hour", AT)


def test_what_was_spent_before_counts():
    book = BudgetBook([BudgetRule(name="b", limit=10, window="hour")])
    book.load("b", begin_of("hour", AT), 7)
    assert isinstance(book.reserve(AT, {}, 4), Refusal)
    assert isinstance(book.reserve(AT, {}, 3), Reservation)
