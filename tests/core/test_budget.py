from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from duckservice.core.budget import Budget, release, reserve, settle

REACHED: Counter[str] = Counter()


class BudgetMachine(RuleBasedStateMachine):
    """The model keeps each reservation and each bill."""

    under_way = Bundle("under_way")

    @initialize(limit=st.integers(0, 100))
    def start(self, limit):
        self.limit = limit
        self.budget = Budget(limit)
        self.reserved: list[int] = []
        self.bills: list[int] = []
        self.over_billed = 0

    @rule(target=under_way, worst_case=st.integers(0, 120))
    def request(self, worst_case):
        before = self.budget
        after = reserve(before, worst_case)
        fits = sum(self.bills) + sum(self.reserved) + worst_case <= self.limit
        # A budget that was billed too much may be over already: then even a
        # request that costs nothing fits, and changes nothing.
        assert (after is not None) == (fits or worst_case == 0)
        if after is None:
            REACHED["refused"] += 1
            return multiple()
        self.budget = after
        self.reserved.append(worst_case)
        return worst_case

    @rule(target=under_way)
    def the_last_cent_is_reserved(self):
        REACHED["full"] += 1
        return self.request(self.budget.remaining)

    @rule(target=under_way)
    def one_more_than_there_is(self):
        return self.request(self.budget.remaining + 1)

    @rule(worst_case=consumes(under_way), part=st.integers(0, 100))
    def it_is_billed(self, worst_case, part):
        actual = worst_case * part // 100
        self.budget = settle(self.budget, worst_case, actual)
        self.reserved.remove(worst_case)
        self.bills.append(actual)

    @rule(worst_case=consumes(under_way), more=st.integers(1, 5))
    def it_is_billed_more_than_it_may_cost(self, worst_case, more):
        self.budget = settle(self.budget, worst_case, worst_case + more)
        self.reserved.remove(worst_case)
        self.bills.append(worst_case + more)
        self.over_billed += more
        REACHED["over-billed"] += 1

    @rule(worst_case=consumes(under_way))
    def it_is_not_sent(self, worst_case):
        self.budget = release(self.budget, worst_case)
        self.reserved.remove(worst_case)

    @invariant()
    def what_is_spent_and_may_be_spent_stays_within_the_limit(self):
        budget = self.budget
        assert budget.settled == sum(self.bills)
        assert budget.reserved == sum(self.reserved)
        assert budget.settled + budget.reserved <= self.limit + self.over_billed

    @invariant()
    def it_is_never_stuck(self):
        budget = self.budget
        for worst_case in self.reserved:
            budget = release(budget, worst_case)
        left = max(0, self.limit - sum(self.bills))
        assert reserve(budget, left) is not None


def test_no_order_of_requests_spends_more_than_the_limit():
    REACHED.clear()
    run_state_machine_as_test(
        BudgetMachine,
        settings=settings(max_examples=100, stateful_step_count=40, deadline=None),
    )
    for event in ("refused", "full", "over-billed"):
        assert REACHED[event], REACHED


def test_requests_at_the_same_time_cannot_overspend_together():
    budget = reserve(Budget(100), 60)
    assert budget is not None
    assert reserve(budget, 60) is None


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: reserve(Budget(10), -1),
        lambda: settle(Budget(10, reserved=5), 5, -1),
        lambda: release(Budget(10, reserved=5), 6),
        lambda: settle(Budget(10, settled=5), 1, 1),
        lambda: release(Budget(10), -1),
    ],
)
def test_a_reservation_is_ended_once_and_with_its_own_amount(mistake):
    with pytest.raises(AssertionError):
        mistake()


@pytest.mark.parametrize("amounts", [(-1, 0, 0), (1, -1, 0), (1, 0, -1)])
def test_negative_money_is_refused(amounts):
    with pytest.raises(ValueError, match="must be"):
        Budget(*amounts)


@pytest.mark.parametrize(
    ("settled", "reached"),
    [
        (0, 0),
        (5 * 10**11 - 1, 0),
        (5 * 10**11, 50),
        (8 * 10**11 - 1, 50),
        (8 * 10**11, 80),
        (10**12 - 1, 80),
        (10**12, 100),
        (3 * 10**12, 100),
    ],
)
def test_a_share_is_reached_with_its_last_picodollar(settled, reached):
    assert Budget(10**12, settled=settled, reserved=9).reached == reached


def test_where_nothing_may_be_spent_no_share_of_it_is_reached():
    assert Budget(0, settled=5).reached == 0
