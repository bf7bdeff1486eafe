from __future__ import annotations

from collections import Counter

import attrs
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

from duckservice import errors
from duckservice.core.breaker_policy import BreakerPolicy
from duckservice.core.circuit_breaker import (
    BreakerState,
    Closed,
    Disabled,
    HalfOpen,
    Open,
    Outcome,
    Permit,
    admit,
    disable,
    eligible,
    enable,
    outcome_of,
    phase_name,
    reset,
    retry_at,
    settle,
)

RESET, TTL = 10, 20
SUCCESS, FAILURE, NEITHER = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEITHER

REACHED: Counter[str] = Counter()


@attrs.define(eq=False)
class Sent:
    """One request, as the model remembers it."""

    permit: Permit
    period: int
    at: int
    probe: bool
    ended: bool = False


class BreakerMachine(RuleBasedStateMachine):
    """Follows a breaker with a model of its own, which never looks into the state."""

    sent = Bundle("sent")

    @initialize(
        failures=st.integers(1, 3),
        successes=st.integers(1, 3),
        places=st.integers(1, 3),
        era=st.integers(0, 5),
    )
    def start(self, failures, successes, places, era):
        self.policy = BreakerPolicy(
            failure_threshold=failures,
            success_threshold=successes,
            half_open_max=places,
            reset_timeout=RESET,
            probe_timeout=TTL,
        )
        self.state: BreakerState = Closed(era=era)
        self.now = 1000
        self.phase = "closed"
        self.period = 0  # counts the phases, half open as its own
        self.failures_in_a_row = 0
        self.succeeded = 0
        self.opened_at = 0
        self.probes: list[Sent] = []

    def enter(self, phase: str) -> None:
        REACHED[phase] += 1
        self.phase = phase
        self.period += 1
        self.failures_in_a_row = 0
        self.succeeded = 0
        self.probes = []
        if phase == "open":
            self.opened_at = self.now

    def live(self) -> list[Sent]:
        return [p for p in self.probes if not p.ended and self.now - p.at < TTL]

    def expects_a_permit(self) -> bool:
        match self.phase:
            case "closed":
                return True
            case "open":
                return self.now - self.opened_at >= RESET
            case "half_open":
                k, s = self.policy.half_open_max, self.policy.success_threshold
                out = len(self.live())
                return out < k and out + self.succeeded < max(k, s)
            case _:
                return False

    @rule(seconds=st.integers(0, 25))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(early=st.sampled_from([0, 1]))
    def wait_for_a_deadline(self, early):
        deadlines = [p.at + TTL for p in self.live()]
        if self.phase == "open":
            deadlines.append(self.opened_at + RESET)
        if deadlines:
            self.now = max(self.now, min(deadlines) - early)

    @rule(target=sent)
    def request(self):
        expected = self.expects_a_permit()
        assert eligible(self.state, self.now) == expected
        self.state, permit = admit(self.state, self.policy, self.now)
        assert (permit is not None) == expected
        if permit is None:
            return multiple()
        if self.phase == "open":
            self.enter("half_open")
        request = Sent(permit, self.period, self.now, self.phase == "half_open")
        if request.probe:
            self.probes.append(request)
            out = len(self.live())
            assert out <= self.policy.half_open_max
            REACHED[f"{out} probes out"] += 1
        return request

    @rule(target=sent, number=st.integers(2, 5))
    def herd(self, number):
        return multiple(
            *[r for _ in range(number) if isinstance(r := self.request(), Sent)]
        )

    @rule(request=consumes(sent), outcome=st.sampled_from(Outcome))
    def request_ends(self, request, outcome):
        self.end(request, outcome)

    @rule(request=sent, outcome=st.sampled_from(Outcome))
    def probe_ends_and_may_end_again(self, request, outcome):
        if request.probe:
            self.end(request, outcome)

    def end(self, request: Sent, outcome: Outcome) -> None:
        before = self.state
        self.state = settle(before, self.policy, self.now, request.permit, outcome)
        expired = request.probe and self.now - request.at >= TTL
        if request.period != self.period or request.ended or expired:
            REACHED["stale end"] += 1
            REACHED["expired probe ends"] += expired and request.period == self.period
            assert self.state == before, "an old request changed the state"
            return
        request.ended = request.probe
        if outcome is NEITHER:
            return
        if self.phase == "closed":
            row = 0 if outcome is SUCCESS else self.failures_in_a_row + 1
            self.failures_in_a_row = row
            if row == self.policy.failure_threshold:
                self.enter("open")
        elif outcome is FAILURE:
            self.enter("open")
        else:
            self.succeeded += 1
            if self.succeeded == self.policy.success_threshold:
                self.enter("closed")

    @rule()
    def provider_goes_down(self):
        while self.phase == "closed":
            self.end(self.request(), FAILURE)

    @rule(target=sent)
    def half_open_is_reached_and_full(self):
        self.provider_goes_down()
        if self.phase == "open":
            self.wait_for_a_deadline(early=0)
        return self.herd(5)

    @rule(outcome=st.sampled_from(Outcome))
    def all_probes_hang_and_end_too_late(self, outcome):
        if self.phase == "half_open":
            self.herd(5)
            self.now = max(self.now, *(p.at + TTL for p in self.probes))
            REACHED["all hung"] += 1
            for probe in self.probes:
                self.end(probe, outcome)

    @rule(switch=st.sampled_from([reset, disable, enable]))
    def operator(self, switch):
        before = self.state
        self.state = switch(before)
        disabled = self.phase == "disabled"
        if switch is disable and not disabled:
            self.enter("disabled")
        elif (switch is enable and disabled) or (switch is reset and not disabled):
            self.enter("closed")
        else:
            assert self.state is before

    @invariant()
    def it_shows_the_phase_that_it_is_in(self):
        assert phase_name(self.state) == self.phase

    @invariant()
    def it_says_when_to_ask_again(self):
        at = retry_at(self.state)
        if self.expects_a_permit() or self.phase == "disabled":
            assert at is None or at <= self.now
        else:
            assert at is not None
            assert not eligible(self.state, at - 1)
            assert eligible(self.state, at)

    @invariant()
    def it_is_never_stuck(self):
        """Once every request succeeds, it closes, whatever hung or failed before."""
        state, now = self.state, self.now + RESET + TTL
        for _ in range(self.policy.success_threshold):
            if isinstance(state, Closed | Disabled):
                break
            state, permit = admit(state, self.policy, now)
            assert permit is not None
            state = settle(state, self.policy, now, permit, SUCCESS)
        assert isinstance(state, Closed | Disabled)


def test_no_order_of_requests_endings_and_pauses_breaks_a_promise():
    REACHED.clear()
    run_state_machine_as_test(
        BreakerMachine,
        settings=settings(max_examples=150, stateful_step_count=40, deadline=None),
    )
    for event in ("open", "half_open", "stale end", "expired probe ends", "all hung"):
        assert REACHED[event], REACHED
    assert REACHED["3 probes out"], REACHED


POLICY = BreakerPolicy(
    failure_threshold=2,
    success_threshold=2,
    half_open_max=2,
    reset_timeout=RESET,
    probe_timeout=TTL,
)


def half_open(now: float = 100.0) -> tuple[BreakerState, Permit]:
    state, permit = admit(Open(7, until=now), POLICY, now)
    assert permit is not None
    return state, permit


def test_an_open_breaker_whose_time_is_up_is_eligible_though_nobody_has_called_it():
    assert not eligible(Open(1, until=60.0), 59.999)
    assert eligible(Open(1, until=60.0), 60.0)


def test_looking_for_routing_changes_nothing_and_needs_no_permit():
    state, _ = half_open()
    assert [eligible(state, 100.0) for _ in range(3)] == [True] * 3
    state, _ = admit(state, POLICY, 100.0)
    assert [eligible(state, 100.0) for _ in range(3)] == [False] * 3


def test_one_success_does_not_close_a_breaker_that_asks_for_two():
    state, permit = half_open()
    state = settle(state, POLICY, 101.0, permit, SUCCESS)
    assert phase_name(state) == "half_open"


def test_failures_count_only_in_a_row():
    state: BreakerState = Closed()
    for outcome in (FAILURE, SUCCESS, FAILURE, SUCCESS, FAILURE):
        state = settle(state, POLICY, 0.0, Permit(0), outcome)
    assert state == Closed(0, failures=1)


def test_a_cancelled_request_ends_no_run_of_failures():
    state: BreakerState = Closed()
    for outcome in (FAILURE, NEITHER, FAILURE):
        state = settle(state, POLICY, 0.0, Permit(0), outcome)
    assert phase_name(state) == "open"


def test_a_cancelled_probe_gives_its_place_back():
    state, first = half_open()
    state, second = admit(state, POLICY, 100.0)
    assert admit(state, POLICY, 100.0)[1] is None
    state = settle(state, POLICY, 100.0, first, NEITHER)
    state, third = admit(state, POLICY, 100.0)
    assert third is not None
    assert len({first, second, third}) == 3


def test_each_probe_expires_by_its_own_time():
    state, _ = half_open(100.0)
    state, _ = admit(state, POLICY, 110.0)
    assert not eligible(state, 119.9)
    state, third = admit(state, POLICY, 120.0)
    assert third is not None
    assert admit(state, POLICY, 129.9)[1] is None
    assert admit(state, POLICY, 130.0)[1] is not None


def test_who_finds_all_places_taken_is_told_when_the_first_of_them_expires():
    state, _ = half_open(100.0)
    state, _ = admit(state, POLICY, 110.0)
    assert retry_at(state) == 100.0 + TTL


@pytest.mark.parametrize("outcome", Outcome)
def test_the_late_end_of_an_expired_probe_changes_nothing(outcome):
    state, permit = half_open(100.0)
    assert settle(state, POLICY, 100.0 + TTL, permit, outcome) is state
    state, _ = admit(state, POLICY, 100.0 + TTL)
    assert settle(state, POLICY, 100.0 + TTL, permit, outcome) is state


@pytest.mark.parametrize("outcome", Outcome)
def test_a_permit_of_an_earlier_incarnation_changes_nothing(outcome):
    reborn = Closed(era=1000, failures=1)
    for era in range(10):
        assert settle(reborn, POLICY, 0.0, Permit(era), outcome) is reborn


@pytest.mark.parametrize("state", [Open(3, until=9.0), Disabled(3)])
def test_a_made_up_permit_changes_nothing(state):
    assert settle(state, POLICY, 5.0, Permit(3), FAILURE) is state


def test_a_disabled_breaker_refuses_until_it_is_enabled_whatever_ends_meanwhile():
    state = disable(Closed())
    state = settle(state, POLICY, 0.0, Permit(0), SUCCESS)
    assert not eligible(state, 1e9)
    assert retry_at(state) is None
    assert admit(reset(state), POLICY, 1e9)[1] is None
    assert isinstance(enable(state), Closed)


def test_probes_that_cannot_matter_any_more_are_not_sent():
    policy = attrs.evolve(POLICY, half_open_max=3, success_threshold=3)
    state, first = admit(Open(1, until=0.0), policy, 0.0)
    assert first is not None
    state = settle(state, policy, 0.0, first, SUCCESS)
    state, second = admit(state, policy, 0.0)
    state, third = admit(state, policy, 0.0)
    assert second is not None
    assert third is not None
    assert admit(state, policy, 0.0)[1] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failure_threshold", 0),
        ("success_threshold", 0),
        ("half_open_max", 0),
        ("probe_timeout", 0),
        ("reset_timeout", -1),
    ],
)
def test_a_policy_that_could_never_open_or_close_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        BreakerPolicy(**{field: value})


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, SUCCESS),
        (errors.ProviderError("502"), FAILURE),
        (errors.BadProviderResponse("cut off"), FAILURE),
        (errors.ProviderTimeout("slow"), FAILURE),
        (errors.QuotaExceeded("no money"), FAILURE),
        (errors.RateLimited("429"), NEITHER),
        (errors.ProviderAuthError("401"), NEITHER),
        (errors.InvalidRequest("400"), NEITHER),
        (errors.ContextLengthExceeded("long"), NEITHER),
        (errors.ModelNotFound("404"), NEITHER),
        (errors.Cancelled("gone"), NEITHER),
        (errors.InternalError("ours"), NEITHER),
        (errors.QueueFull("ours"), NEITHER),
    ],
)
def test_only_the_providers_own_failures_count_against_it(error, outcome):
    assert outcome_of(error) is outcome


@pytest.mark.parametrize(
    ("kind", "status", "outcome"),
    [
        (errors.ProviderError, 399, FAILURE),
        *((errors.ProviderError, s, NEITHER) for s in (400, 404, 405, 409, 418, 499)),
        *((errors.ProviderError, s, FAILURE) for s in (500, 501, 503, 529)),
        (errors.ProviderTimeout, 408, FAILURE),
        (errors.ProviderTimeout, 504, FAILURE),
        (errors.QuotaExceeded, 402, FAILURE),
        (errors.QuotaExceeded, 429, FAILURE),
        (errors.RateLimited, 429, NEITHER),
        (errors.RateLimited, 503, NEITHER),
        (errors.ProviderAuthError, 403, NEITHER),
        (errors.InvalidRequest, 400, NEITHER),
    ],
)
def test_a_provider_that_refuses_a_request_has_not_failed(kind, status, outcome):
    error = kind("no")
    error.upstream_status = status
    assert outcome_of(error) is outcome


@pytest.mark.parametrize("outcome", Outcome)
def test_a_probe_that_ends_after_the_recovery_changes_nothing(outcome):
    state, late = half_open()
    state, other = admit(state, POLICY, 100.0)
    state = settle(state, POLICY, 100.0, other, SUCCESS)
    state, third = admit(state, POLICY, 100.0)
    assert third is None, "the late one may be the last that is needed"
    state = settle(state, POLICY, 100.0, late, NEITHER)
    state, last = admit(state, POLICY, 100.0)
    state = settle(state, POLICY, 100.0, last, SUCCESS)
    assert phase_name(state) == "closed"
    state = settle(state, POLICY, 100.0, Permit(state.era), FAILURE)
    for permit in (late, other, last):
        assert settle(state, POLICY, 100.0, permit, outcome) is state


def test_half_open_shares_the_era_of_open_and_no_other():
    eras = [Closed(3).era]
    state = settle(Closed(3, failures=1), POLICY, 0.0, Permit(3), FAILURE)
    eras.append(state.era)
    state, permit = admit(state, POLICY, RESET)
    assert isinstance(state, HalfOpen)
    assert permit is not None
    eras.append(state.era)
    state = settle(state, POLICY, RESET, permit, FAILURE)
    eras.append(state.era)
    assert eras == [3, 4, 4, 5]
