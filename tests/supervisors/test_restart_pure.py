"""The restart decision, without a tree."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from supervisors import (
    AutoShutdown,
    Crashed,
    Exit,
    Killed,
    Normal,
    Restart,
    ShutDown,
    Shutdown,
    Strategy,
)
from supervisors._restart import (
    RestartWindow,
    Verdict,
    affected,
    is_orderly_stop,
    is_reported,
    shuts_down_with,
    verdict,
)

CRASH = Crashed(ValueError())
ENDS: list[Exit] = [Normal(), ShutDown(), ShutDown("t"), CRASH, Killed()]
CLEAN = ENDS[:3]


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_the_verdict_table(end: Exit) -> None:
    clean = end in CLEAN
    assert verdict(Restart.PERMANENT, end) is Verdict.RESTART
    assert verdict(Restart.TEMPORARY, end) is Verdict.FORGET
    assert verdict(Restart.TRANSIENT, end) is (
        Verdict.KEEP if clean else Verdict.RESTART
    )
    assert is_reported(Restart.PERMANENT, end)
    assert is_reported(Restart.TRANSIENT, end) is not clean
    assert is_reported(Restart.TEMPORARY, end) is not clean


@pytest.mark.parametrize(
    ("end", "permanent", "other", "permanent_brutal", "other_brutal"),
    [
        (Normal(), False, True, False, True),
        (ShutDown(), True, True, False, True),
        (ShutDown("t"), False, True, False, True),
        (CRASH, False, False, False, False),
        (Killed(), False, False, True, True),
    ],
    ids=repr,
)
def test_which_end_of_a_stopped_child_is_orderly(
    end: Exit,
    permanent: bool,
    other: bool,
    permanent_brutal: bool,
    other_brutal: bool,
) -> None:
    for shutdown in (0, 5.0, Shutdown.INFINITY):
        assert is_orderly_stop(Restart.PERMANENT, shutdown, end) is permanent
        assert is_orderly_stop(Restart.TRANSIENT, shutdown, end) is other
        assert is_orderly_stop(Restart.TEMPORARY, shutdown, end) is other
    brutal = Shutdown.BRUTAL_KILL
    assert is_orderly_stop(Restart.PERMANENT, brutal, end) is permanent_brutal
    assert is_orderly_stop(Restart.TRANSIENT, brutal, end) is other_brutal


def test_who_is_restarted_with_a_child() -> None:
    assert tuple(affected(Strategy.ONE_FOR_ONE, "abc", "b")) == ("b",)
    assert tuple(affected(Strategy.ONE_FOR_ALL, "abc", "b")) == ("a", "b", "c")
    assert tuple(affected(Strategy.REST_FOR_ONE, "abc", "b")) == ("b", "c")


@pytest.mark.parametrize("significant", [False, True])
@pytest.mark.parametrize("others_alive", [False, True])
def test_when_a_supervisor_ends_with_its_children(
    significant: bool, others_alive: bool
) -> None:
    def ends(when: AutoShutdown) -> bool:
        return shuts_down_with(when, significant=significant, others_alive=others_alive)

    assert not ends(AutoShutdown.NEVER)
    assert ends(AutoShutdown.ANY_SIGNIFICANT) is significant
    assert ends(AutoShutdown.ALL_SIGNIFICANT) is (significant and not others_alive)


class OtpWindow:
    """OTP's ``add_restart``: a list of all restarts in the period."""

    def __init__(self, intensity: int, period: float) -> None:
        self.intensity = intensity
        self.period = period
        self.restarts = list[float]()

    def admit(self, now: float) -> bool:
        recent = [then for then in self.restarts if now - then <= self.period]
        self.restarts = [*recent, now]
        return len(self.restarts) <= self.intensity


@given(
    intensity=st.integers(0, 5),
    period=st.sampled_from([1, 2, 5]),
    # Few different steps, so that many restarts meet the border of the period.
    steps=st.lists(st.sampled_from([0, 0.5, 1, 1.5, 2, 5, 6]), max_size=60),
)
def test_the_window_admits_what_otps_list_admits(
    intensity: int, period: float, steps: list[float]
) -> None:
    window, otp = RestartWindow(intensity, period), OtpWindow(intensity, period)
    now = 0.0
    for step in steps:
        now += step
        assert window.admit(now) is otp.admit(now)


def test_the_window_keeps_no_more_than_it_needs() -> None:
    window = RestartWindow(3, 5)
    for now in range(10_000):
        window.admit(now / 1000)
    assert len(window._times) == 4
