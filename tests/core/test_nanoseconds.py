from __future__ import annotations

import math

from hypothesis import example, given, strategies as st

from duckservice.core.nanoseconds import instant, seconds_until, to_ns

# Beyond 10**15 ns, two months after the clock began, floats are too coarse.
TIMES = st.one_of(st.integers(0, 10**13), st.integers(10**16, 10**17))
CLOCK = st.one_of(st.floats(0, 1e5), st.floats(1e7, 1e8))


@given(st.integers(0, 10**15))
def test_whole_nanoseconds_survive_being_seconds(ns):
    assert to_ns(ns / 10**9) == ns


@given(TIMES)
def test_an_instant_is_never_early_and_the_float_before_it_always_is(ns):
    at = instant(ns)
    assert to_ns(at) >= ns
    # At 1e8 s and more, one step of a float is more than a nanosecond.
    assert to_ns(at) - ns <= 1 + to_ns(math.ulp(at))


@given(CLOCK, TIMES)
@example(52521.96159053594, 84140800516397547 - 52521961590536)
def test_who_waits_so_many_seconds_is_there_and_not_late(now, wait):
    ns = to_ns(now) + wait
    seconds = seconds_until(ns, now)
    assert to_ns(now + seconds) >= ns
    assert seconds <= wait / 1e9 + 4 * math.ulp(now + wait / 1e9) + 2e-9


def test_there_is_nothing_to_wait_for_what_has_passed():
    assert seconds_until(5, 1.0) == 0.0
