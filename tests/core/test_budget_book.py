"""All budgets together: whom they bind, and when they begin anew."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from duckservice.core.budget_book import (
    WINDOWS_KEPT,
    BudgetBook,
    Refusal,
    Reservation,
)
from duckservice.core.budget_rule import BudgetRule, Spender
from duckservice.core.budget_window import begin_of, end_of

from .budget_conformance import CONTROL_PROGRAMS, CONTROLS, found_after, run_programs

AT = 1_700_000_000.0


def when(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


ANYBODY = Spender()


def test_budgets_agree_with_a_model_that_remembers_each_call():
    reached = run_programs(150, seed=0)
    for what in ("refused", "lost", "guessed", "billed too much", "forgiven", "alerts"):
        assert reached[what], what


@pytest.mark.slow
def test_budgets_agree_with_the_model_in_many_programs():
    reached = run_programs(1000, seed=1)
    assert reached["refused in a new window"]


@pytest.mark.parametrize("control", CONTROLS)
def test_a_fault_in_the_budgets_is_found(control):
    assert found_after(control, CONTROL_PROGRAMS, seed=1) is not None


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
    never = book.reserve(AT, ANYBODY, 11)
    assert isinstance(never, Refusal)
    assert not never.ever
    held = book.reserve(AT, ANYBODY, 8)
    assert isinstance(held, Reservation)
    soon = book.reserve(AT, ANYBODY, 5)
    assert isinstance(soon, Refusal)
    assert (soon.ever, soon.soon, soon.until, soon.left) == (True, True, None, 2)
    book.settle(held, 8)
    later = book.reserve(AT, ANYBODY, 5)
    assert isinstance(later, Refusal)
    assert (later.soon, later.until) == (False, end_of("hour", AT))


def test_of_many_refusals_the_one_is_told_that_nobody_gets_around():
    book = BudgetBook(
        [
            BudgetRule(name="of a", limit=0, window="total", provider="a"),
            BudgetRule(name="hour", limit=5, window="hour"),
            BudgetRule(name="day", limit=5, window="day"),
        ]
    )
    for amount, name in ((5, "of a"), (6, "day")):
        its = book.reserve(AT, Spender(provider="a"), amount)
        assert isinstance(its, Refusal)
        assert its.rule.name == name
    assert isinstance(book.reserve(AT, Spender(provider="b"), 5), Reservation)


@pytest.mark.parametrize(
    ("spender", "bound"),
    [
        (Spender(tags={"t": "x"}, submitter=1, provider="p", model="m-1"), True),
        (Spender(tags={"t": "y"}, submitter=1, provider="p", model="m-1"), False),
        (Spender(tags={"t": "x"}, submitter=2, provider="p", model="m-1"), False),
        (Spender(tags={"t": "x"}, submitter=None, provider="p", model="m-1"), False),
        (Spender(tags={"t": "x"}, submitter=1, provider="q", model="m-1"), False),
        (Spender(tags={"t": "x"}, submitter=1, provider="p", model="n"), False),
    ],
)
def test_a_budget_binds_what_meets_all_of_its_conditions(spender, bound):
    rule = BudgetRule(
        name="b", limit=1, tag=("t", "x"), submitter=1, provider="p", model="m-*"
    )
    assert rule.binds(spender) == bound


def test_what_was_spent_before_counts():
    book = BudgetBook([BudgetRule(name="b", limit=10, window="hour")])
    book.load("b", {begin_of("hour", AT): 7, begin_of("hour", AT) - 3600: 9})
    assert isinstance(book.reserve(AT, ANYBODY, 4), Refusal)
    assert isinstance(book.reserve(AT, ANYBODY, 3), Reservation)
    assert isinstance(book.reserve(AT - 3600, ANYBODY, 2), Refusal)


def test_a_clock_that_jumps_about_spends_no_window_twice():
    book = BudgetBook([BudgetRule(name="b", limit=1, window="hour")])
    admitted = [
        isinstance(book.reserve(AT + jump * 3600, ANYBODY, 1), Reservation)
        for jump in (0, 24, 0, -24, 24, 0, *range(-24, 25), *range(-24, 25))
    ]
    assert sum(admitted) == 49


def test_windows_are_forgotten_but_not_what_is_reserved():
    book = BudgetBook([BudgetRule(name="b", limit=2, window="hour")])
    first = book.reserve(AT, ANYBODY, 1)
    assert isinstance(first, Reservation)
    for hour in range(1, WINDOWS_KEPT + 10):
        its = book.reserve(AT + hour * 3600, ANYBODY, 1)
        assert isinstance(its, Reservation)
        book.settle(its, 1)
    assert isinstance(book.reserve(AT + 3600, ANYBODY, 2), Reservation)  # forgotten
    assert isinstance(book.reserve(AT, ANYBODY, 2), Refusal)
    book.settle(first, 2)
    assert book.state("b", begin_of("hour", AT)).budget.settled == 2


def test_a_window_in_which_something_was_spent_last_is_kept_longest():
    book = BudgetBook([BudgetRule(name="b", limit=2, window="hour")])
    windows = [begin_of("hour", AT + hour * 3600) for hour in range(WINDOWS_KEPT + 1)]
    for begin in windows[:WINDOWS_KEPT]:
        book.load("b", {begin: 1})
    book.load("b", {windows[0]: 1})
    book.load("b", {windows[-1]: 1})
    spent = [book.state("b", begin).budget.settled for begin in windows]
    assert spent == [2, 0, *[1] * (WINDOWS_KEPT - 1)]


def test_where_all_windows_have_reservations_none_is_forgotten_and_the_last_counts():
    book = BudgetBook([BudgetRule(name="b", limit=3, window="hour")])
    hours = [AT + hour * 3600 for hour in range(WINDOWS_KEPT + 5)]
    held = [book.reserve(at, ANYBODY, 2) for at in hours]
    for at, its in zip(hours, held, strict=True):
        assert isinstance(its, Reservation)
        assert book.state("b", begin_of("hour", at)).budget.reserved == 2
        assert isinstance(book.reserve(at, ANYBODY, 2), Refusal)
    # What is spent in the newest is kept as well, where no other can go instead.
    book.settle(held[-1], 2)
    assert book.state("b", begin_of("hour", hours[-1])).budget.settled == 2
    assert isinstance(book.reserve(hours[-1], ANYBODY, 2), Refusal)


def test_what_is_sent_in_the_next_hour_belongs_there_though_the_day_is_the_same():
    rules = [
        BudgetRule(name="day", limit=9, window="day"),
        BudgetRule(name="hour", limit=2, window="hour"),
    ]
    book = BudgetBook(rules)
    its = book.reserve(AT, ANYBODY, 2)
    assert isinstance(its, Reservation)
    assert isinstance(book.reserve(AT + 3600, ANYBODY, 1), Reservation)
    refusal = book.move(its, AT + 3600, ANYBODY)
    assert isinstance(refusal, Refusal)
    assert refusal.rule.name == "hour"
    assert book.state("day", begin_of("day", AT)).budget.reserved == 1


def test_what_is_reserved_is_sent_though_the_limit_was_lowered_meanwhile():
    book = BudgetBook([BudgetRule(name="b", limit=5)])
    its = book.reserve(AT, ANYBODY, 4)
    assert isinstance(its, Reservation)
    book.relimit("b", 3)
    assert isinstance(book.move(its, AT + 1, ANYBODY), Reservation)


def test_a_limit_that_changes_is_that_of_each_window_to_come():
    book = BudgetBook([BudgetRule(name="b", limit=5, window="hour")])
    book.relimit("b", 3)
    assert isinstance(book.reserve(AT, ANYBODY, 4), Refusal)
    assert isinstance(book.reserve(AT, ANYBODY, 3), Reservation)
    assert book.rules()[0].limit == 3


def test_what_is_reserved_where_a_budget_is_gone_is_sent_and_binds_the_others():
    book = BudgetBook([BudgetRule(name="gone", limit=5), BudgetRule(name="b", limit=5)])
    its = book.reserve(AT, ANYBODY, 4)
    assert isinstance(its, Reservation)
    book.remove("gone")
    moved = book.move(its, AT, ANYBODY)
    assert isinstance(moved, Reservation)
    assert moved.windows == (("b", begin_of("day", AT)),)
    assert book.states(AT)[0].budget.reserved == 4


def test_a_budget_that_comes_counts_what_is_under_way_when_it_was_sent():
    book = BudgetBook([BudgetRule(name="day", limit=9, window="day")])
    its = book.reserve(AT, ANYBODY, 2)
    assert isinstance(its, Reservation)
    assert isinstance(book.move(its, AT + 3600, ANYBODY), Reservation)
    book.add(BudgetRule(name="hour", limit=9, window="hour"))
    reserved = [
        book.state("hour", begin_of("hour", at)).budget.reserved
        for at in (AT, AT + 3600)
    ]
    assert reserved == [0, 2]


def test_only_where_all_its_budgets_spare_others_is_another_provider_free_of_them():
    ours = BudgetRule(name="of p", limit=9, provider="p")
    book = BudgetBook([ours, BudgetRule(name="of all", limit=9)])
    its = book.reserve(AT, Spender(provider="p"), 1)
    assert isinstance(its, Reservation)
    assert not its.spares_others
    its = BudgetBook([ours]).reserve(AT, Spender(provider="p"), 1)
    assert isinstance(its, Reservation)
    assert its.spares_others


def test_what_nobody_reserved_is_charged_in_each_budget_that_binds_it():
    rules = [
        BudgetRule(name="day", limit=9, window="day"),
        BudgetRule(name="hour", limit=9, window="hour"),
        BudgetRule(name="of q", limit=9, provider="q"),
    ]
    book = BudgetBook(rules)
    assert book.charge(AT, Spender(provider="p"), 4) == ("day", "hour")
    assert [its.budget.settled for its in book.states(AT)] == [4, 4, 0]
