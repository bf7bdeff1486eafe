from __future__ import annotations

from itertools import accumulate

from hypothesis import given, settings, strategies as st

from duckservice.core.running_sums import RunningSums

NUMBERS = st.lists(st.integers(0, 5), max_size=40)


@given(NUMBERS, NUMBERS, st.lists(st.tuples(st.integers(0, 79), st.integers(0, 9))))
@settings(max_examples=60)
def test_it_sums_as_a_list_does(first, later, changes):
    sums, numbers = RunningSums(first), [*first, *later]
    for number in later:
        sums.append(number)
    for index, change in changes:
        if index < len(numbers):
            numbers[index] += change
            sums.add(index, change)
    totals = [0, *accumulate(numbers)]
    assert len(sums) == len(numbers)
    assert [sums.before(index) for index in range(len(numbers) + 1)] == totals
    for least in range(1, totals[-1] + 2):
        expected = sum(total < least for total in totals[1:])
        assert sums.reaching(least) == expected
