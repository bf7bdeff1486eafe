from __future__ import annotations

import attrs
from hypothesis import given, settings, strategies as st

from duckservice.core.headroom import CAPS_MAX, Headroom


@attrs.frozen
class Heard:
    """One answer, as it was heard."""

    left: int
    until: float
    of: int
    last: int


#: Which grant an answer belongs to, counted back from the latest; what it says.
ANSWERS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 30), st.integers(1, 60)), max_size=30
)


def in_force(heard: list[Heard], now: float) -> int | None:
    """Return the least that was said, by all that is not surely outdated.

    It is outdated once an answer to a grant was heard that was made after it.
    """
    left = [
        its.left
        for number, its in enumerate(heard)
        if its.until > now
        and not any(later.of > its.last for later in heard[number + 1 :])
    ]
    return min(left, default=None)


@given(ANSWERS, st.integers(0, 3))
@settings(max_examples=300)
def test_a_stale_number_never_replaces_a_lower_one_that_may_be_newer(answers, more):
    headroom, heard, grants = Headroom(), list[Heard](), 7
    for now, (back, left, reset) in enumerate(answers):
        its = Heard(left, float(now + reset), grants - back, grants)
        headroom.hear(its.left, its.until, of=its.of, last=its.last)
        heard.append(its)
        allowed, most = headroom.left(now), in_force(heard, now)
        if most is not None:
            assert allowed is not None
            assert allowed <= most
        assert len(headroom._caps) <= CAPS_MAX
        grants += more


def test_where_one_answer_follows_the_other_the_last_one_holds():
    headroom = Headroom()
    for number, left in enumerate([5, 4, 30, 2, 50], start=1):
        headroom.hear(left, 100.0, of=number, last=number)
        assert headroom.left(1.0) == left


def test_what_was_sent_and_not_answered_is_charged_until_a_newer_answer():
    headroom = Headroom()
    headroom.hear(10, 60.0, of=1, last=3)
    headroom.charge(4)
    assert headroom.left(1.0) == 6
    headroom.hear(9, 60.0, of=2, last=3)
    assert headroom.left(1.0) == 5
    headroom.hear(9, 60.0, of=4, last=4)
    assert headroom.left(1.0) == 5
    headroom.hear(9, 60.0, of=5, last=5)
    assert headroom.left(1.0) == 9


def test_each_number_holds_until_its_own_end():
    headroom = Headroom()
    headroom.hear(0, 10.0, of=1, last=5)
    headroom.hear(3, 60.0, of=2, last=5)
    assert headroom.ready_at(1.0, 1) == 10.0
    assert headroom.ready_at(1.0, 4) == 60.0
    assert headroom.left(60.0) is None


def test_it_charges_nothing_where_nothing_was_said():
    headroom = Headroom()
    headroom.charge(5)
    assert not headroom.knows
    assert headroom.left(0.0) is None


def test_many_different_answers_take_no_more_memory():
    headroom = Headroom()
    for number in range(50):
        headroom.hear(number, 10.0 + number, of=0, last=9)
    assert len(headroom._caps) == CAPS_MAX
    assert headroom.left(0.0) == 0
