"""Breakers that break a promise, each in one way: what the conformance must catch.

Most of these mistakes have been made: breakers are known that wait for ever in half
open, close on a late result, count failures for life, or lose a probe's place when
its sender is cancelled.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import attrs

from duckservice.actors.board import ProviderBoard
from duckservice.actors.circuit_breaker import CircuitBreaker
from duckservice.core import breaker_scopes, breaker_words, circuit_breaker as core
from duckservice.core.breaker_policy import why_open
from duckservice.core.breaker_window import SLICES, Window
from duckservice.core.circuit_breaker import (
    Closed,
    Disabled,
    HalfOpen,
    Open,
    Outcome,
    Permit,
    Probe,
)

Patches = list[tuple[Any, str, Any]]

admit, settle, stands = core.admit, core.settle, core.stands
count, judge, probe, places = core._count, core._judge, core._probe, core._places
eligible, revive = core.eligible, breaker_scopes.revive
at, add = Window.at, Window.add
actor_settle, actor_admit = CircuitBreaker.settle, CircuitBreaker.admit
actor_revive = CircuitBreaker.revive
FAILURE, SUCCESS, NEITHER = Outcome.FAILURE, Outcome.SUCCESS, Outcome.NEITHER


def stuck_half_open() -> Patches:
    return [(core, "outstanding", lambda state, now: state.probes)]


def unlimited_probes() -> Patches:
    def unlimited(state, policy, now):
        return probe(attrs.evolve(state, places=1000), policy, now)

    return [(core, "_probe", unlimited)]


def one_probe_too_many() -> Patches:
    def one_more(policy, *, successes):
        return places(policy, successes=successes) + 1

    return [(core, "_places", one_more)]


def successes_hold_no_place() -> Patches:
    return [(core, "_places", lambda policy, *, successes: policy.half_open_max)]


def permit_leaks_on_cancel() -> Patches:
    def leaks(state, policy, now, permit, outcome, *, slow):
        if outcome is NEITHER:
            return state
        return judge(state, policy, now, permit, outcome, slow=slow)

    return [(core, "_judge", leaks)]


def cancelled_probe_closes() -> Patches:
    def closes(state, policy, now, permit, outcome, *, slow):
        outcome = SUCCESS if outcome is NEITHER else outcome
        return judge(state, policy, now, permit, outcome, slow=slow)

    return [(core, "_judge", closes)]


def stale_result_counts() -> Patches:
    def any_era(state, now, permit):
        return stands(state, now, attrs.evolve(permit, era=state.era))

    def count_it(state, policy, now, permit, outcome, *, slow=False):
        permit = attrs.evolve(permit, era=state.era)
        if isinstance(state, HalfOpen) and not permit.serial:
            state = attrs.evolve(state, probes=(*state.probes, Probe(0, 1e9)))
        return settle(state, policy, now, permit, outcome, slow=slow)

    return [(core, "settle", count_it), (core, "stands", any_era)]


def expired_probe_counts() -> Patches:
    def settle_expired(state, policy, now, permit, outcome, *, slow=False):
        if isinstance(state, HalfOpen) and permit.era == state.era:
            return judge(state, policy, now, permit, outcome, slow=slow)
        return settle(state, policy, now, permit, outcome, slow=slow)

    return [(core, "settle", settle_expired)]


def probe_counts_twice() -> Patches:
    def twice(state, policy, now, permit, outcome, *, slow):
        before = state.probes
        state = judge(state, policy, now, permit, outcome, slow=slow)
        if isinstance(state, HalfOpen) and outcome is SUCCESS:
            return attrs.evolve(state, probes=before)
        return state

    return [(core, "_judge", twice)]


def failed_probe_is_ignored() -> Patches:
    def ignored(state, policy, now, permit, outcome, *, slow):
        outcome = NEITHER if outcome is FAILURE else outcome
        return judge(state, policy, now, permit, outcome, slow=slow)

    return [(core, "_judge", ignored)]


def first_success_closes() -> Patches:
    def closes(state, policy, now, permit, outcome, *, slow):
        policy = attrs.evolve(policy, success_threshold=1)
        return judge(state, policy, now, permit, outcome, slow=slow)

    return [(core, "_judge", closes)]


def slow_probes_close() -> Patches:
    def closes(state, policy, now, permit, outcome, *, slow):
        return judge(state, policy, now, permit, outcome, slow=False)

    return [(core, "_judge", closes)]


def failures_count_for_life() -> Patches:
    def for_life(state, policy, now, outcome, *, slow):
        after = count(state, policy, now, outcome, slow=slow)
        if outcome is SUCCESS and isinstance(after, Closed):
            return attrs.evolve(after, failures=state.failures)
        return after

    return [(core, "_count", for_life)]


def cancelled_counts_as_failure() -> Patches:
    def counts(state, policy, now, outcome, *, slow):
        outcome = FAILURE if outcome is NEITHER else outcome
        return count(state, policy, now, outcome, slow=slow)

    return [(core, "_count", counts)]


def cancelled_ends_the_row() -> Patches:
    def counts(state, policy, now, outcome, *, slow):
        outcome = SUCCESS if outcome is NEITHER else outcome
        return count(state, policy, now, outcome, slow=slow)

    return [(core, "_count", counts)]


def one_failure_more() -> Patches:
    def later(policy, failures, window):
        return why_open(policy, failures - 1, window)

    return [(core, "why_open", later)]


def opens_a_moment_late() -> Patches:
    def too_late(state, policy, now):
        if isinstance(state, Open) and now == state.until:
            return state, None
        return admit(state, policy, now)

    return [(core, "admit", too_late)]


def passes_a_moment_early() -> Patches:
    def too_early(state, policy, now):
        return admit(state, policy, now + 1 if isinstance(state, Open) else now)

    return [(core, "admit", too_early)]


def open_is_never_eligible() -> Patches:
    def never(state, now):
        return not isinstance(state, Open) and eligible(state, now)

    return [(core, "eligible", never)]


def the_same_era_after_a_trip() -> Patches:
    def same(state, policy, now, why):
        return Open(state.era, now + policy.reset_timeout, why)

    return [(core, "_open", same)]


def the_same_era_after_recovery() -> Patches:
    def same(state, policy, now, permit, outcome, *, slow):
        after = judge(state, policy, now, permit, outcome, slow=slow)
        return Closed(state.era) if isinstance(after, Closed) else after

    return [(core, "_judge", same)]


def the_window_never_slides() -> Patches:
    return [(Window, "at", lambda self, now, length: self)]


def the_window_is_a_slice_short() -> Patches:
    def shorter(self, now, length):
        return at(self, now + length / SLICES, length)

    return [(Window, "at", shorter)]


def the_window_is_a_slice_long() -> Patches:
    def longer(self, now, length):
        return at(self, now - length / SLICES, length)

    return [(Window, "at", longer)]


def the_window_starts_anew_with_each_slice() -> Patches:
    def tumbles(self, now, length):
        # As a counter that is set to zero every so often: failures on both sides
        # of that moment are not seen together.
        last = self.slices[-1].number // SLICES if self.slices else None
        return Window() if last != now // length else self

    return [(Window, "at", tumbles)]


def a_rate_of_few_requests() -> Patches:
    def few(policy, failures, window):
        return why_open(attrs.evolve(policy, min_requests=1), failures, window)

    return [(core, "why_open", few)]


def a_rate_must_be_exceeded() -> Patches:
    def more(policy, failures, window):
        rate = policy.failure_rate
        if rate is not None and window.failure_rate == rate:
            policy = attrs.evolve(policy, failure_rate=None)
        return why_open(policy, failures, window)

    return [(core, "why_open", more)]


def only_failures_are_judged() -> Patches:
    def of_a_failure(state, policy, now, outcome, *, slow):
        after = count(state, policy, now, outcome, slow=slow)
        if outcome is SUCCESS and isinstance(after, Open):
            window = state.window.add(now, policy.window, failed=False, slow=slow)
            return Closed(state.era, 0, window)
        return after

    return [(core, "_count", of_a_failure)]


def what_times_out_is_not_slow() -> Patches:
    def settles(self, permit, outcome, latency, *, timed_out=False):
        return actor_settle(self, permit, outcome, latency)

    return [(CircuitBreaker, "settle", settles)]


def a_slow_success_is_a_failure() -> Patches:
    def counts(state, policy, now, outcome, *, slow):
        return count(state, policy, now, FAILURE if slow else outcome, slow=slow)

    return [(core, "_count", counts)]


def a_crash_lifts_the_rest() -> Patches:
    def closes(state, policy, now, eras, *, trusted=True):
        if isinstance(state, Disabled):
            return state
        return Closed(next(eras))

    return [(breaker_scopes, "revive", closes)]


def a_crash_forgets_the_probes() -> Patches:
    def forgets(state, policy, now, eras, *, trusted=True):
        if isinstance(state, HalfOpen):
            return Open(next(eras), until=now)
        return revive(state, policy, now, eras, trusted=trusted)

    return [(breaker_scopes, "revive", forgets)]


def a_crash_enables() -> Patches:
    def enables(state, policy, now, eras, *, trusted=True):
        if isinstance(state, Disabled):
            return Closed(next(eras))
        return revive(state, policy, now, eras, trusted=trusted)

    return [(breaker_scopes, "revive", enables)]


def a_crash_keeps_the_era() -> Patches:
    def keeps(state, policy, now, eras, *, trusted=True):
        if isinstance(state, Closed):
            return Closed(state.era)
        return revive(state, policy, now, eras, trusted=trusted)

    return [(breaker_scopes, "revive", keeps)]


def a_poisoned_state_is_kept_for_ever() -> Patches:
    def trusts(state, policy, now, eras, *, trusted=True):
        return revive(state, policy, now, eras)

    return [(breaker_scopes, "revive", trusts)]


def enable_closes_whatever_it_was() -> Patches:
    return [(core, "enable", lambda state: Closed(state.era + 1))]


def disable_twice_moves_twice() -> Patches:
    return [(core, "disable", lambda state: Closed(state.era))]


def reset_enables() -> Patches:
    return [(core, "reset", lambda state: Closed(state.era + 1))]


def reset_keeps_the_era() -> Patches:
    def keeps(state):
        return state if isinstance(state, Disabled) else Closed(state.era)

    return [(core, "reset", keeps)]


def reset_forgets_the_models() -> Patches:
    return [(CircuitBreaker, "_forget_models", lambda self, now, why: None)]


def models_share_a_breaker() -> Patches:
    return [(CircuitBreaker, "_scope", lambda self, model, now: "")]


def models_share_their_eras() -> Patches:
    init = CircuitBreaker.__init__

    def makes(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self._eras = itertools.repeat(0)

    return [(CircuitBreaker, "__init__", makes)]


def one_that_rests_is_forgotten() -> Patches:
    def first(breakers, policy, now):
        return next(iter(breakers))

    return [(breaker_scopes, "breaker_to_forget", first)]


def nobody_is_forgotten() -> Patches:
    return [(breaker_scopes, "breaker_to_forget", lambda breakers, policy, now: None)]


def routing_looks_at_the_providers_own() -> Patches:
    return [(ProviderBoard, "breaker_of", lambda self, model: self.breaker)]


def a_permit_names_no_model() -> Patches:
    def admits(self, model=""):
        permit = actor_admit(self, model)
        return None if permit is None else Permit(permit.era, permit.serial)

    return [(CircuitBreaker, "admit", admits)]


def a_crash_keeps_the_models_eras() -> Patches:
    def only_its_own(self):
        models, self._board.breakers = self._board.breakers, {}
        actor_revive(self)
        self._board.breakers = models

    return [(CircuitBreaker, "revive", only_its_own)]


def an_expired_permit_is_sent() -> Patches:
    def by_era(self, permit, now):
        scope = permit.scope
        return self.breaker_of(scope).era == permit.era

    return [(ProviderBoard, "stands", by_era)]


def a_move_is_not_told() -> Patches:
    return [(CircuitBreaker, "_tell", lambda self, scope, before, now, why: None)]


def a_wrong_reason_is_told() -> Patches:
    return [(breaker_words, "why_moved", lambda state: "it moved")]


#: By the breaker in which the mistake is made.
MUTANTS: dict[str, list[Callable[[], Patches]]] = {
    "pure": [
        stuck_half_open,
        unlimited_probes,
        one_probe_too_many,
        successes_hold_no_place,
        permit_leaks_on_cancel,
        cancelled_probe_closes,
        stale_result_counts,
        expired_probe_counts,
        probe_counts_twice,
        failed_probe_is_ignored,
        first_success_closes,
        slow_probes_close,
        failures_count_for_life,
        cancelled_counts_as_failure,
        cancelled_ends_the_row,
        one_failure_more,
        opens_a_moment_late,
        passes_a_moment_early,
        open_is_never_eligible,
        the_same_era_after_a_trip,
        the_same_era_after_recovery,
        the_window_never_slides,
        the_window_is_a_slice_short,
        the_window_is_a_slice_long,
        the_window_starts_anew_with_each_slice,
        a_rate_of_few_requests,
        a_rate_must_be_exceeded,
        only_failures_are_judged,
        a_slow_success_is_a_failure,
        a_crash_lifts_the_rest,
        a_crash_forgets_the_probes,
        a_crash_enables,
        a_crash_keeps_the_era,
        a_poisoned_state_is_kept_for_ever,
        enable_closes_whatever_it_was,
        disable_twice_moves_twice,
        reset_enables,
        reset_keeps_the_era,
    ],
    "actor": [
        what_times_out_is_not_slow,
        reset_forgets_the_models,
        models_share_a_breaker,
        models_share_their_eras,
        one_that_rests_is_forgotten,
        nobody_is_forgotten,
        routing_looks_at_the_providers_own,
        a_permit_names_no_model,
        a_crash_keeps_the_models_eras,
        an_expired_permit_is_sent,
        a_move_is_not_told,
        a_wrong_reason_is_told,
    ],
}


@contextmanager
def applied(mutant: Callable[[], Patches]) -> Generator[None]:
    """Make the mistake, for the length of the block."""
    with ExitStack() as stack:
        for of, name, wrong in mutant():
            stack.enter_context(mock.patch.object(of, name, wrong))
        yield
