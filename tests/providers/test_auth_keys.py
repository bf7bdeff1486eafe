"""Which of several keys a request takes, and what becomes of a key that is refused."""

import math

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from duckservice.config import Secret
from duckservice.errors import (
    DuckError,
    InvalidRequest,
    ProviderAuthError,
    ProviderError,
    QuotaExceeded,
    RateLimited,
)
from duckservice.providers.auth import Again
from duckservice.providers.auth.keys import Keys
from duckservice.redaction import masked

NAMES = ("first", "second", "third")
KEYS = {name: f"sk-canary-{name:_>16}" for name in NAMES}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ring(count=3, header="authorization"):
    clock = Clock()
    keys = [Secret(key) for key in list(KEYS.values())[:count]]
    return Keys("duck", keys, header=header, clock=clock), clock


def run(coroutine):
    """Return what comes of a coroutine that waits for nothing."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


def proof(keys):
    return run(keys.headers("POST", "https://x/v1/chat", b"{}"))


def name_of(headers) -> str:
    [value] = headers.values()
    return next(name for name, key in KEYS.items() if key in value)


def error(kind=RateLimited, status=None, message="no", **more) -> DuckError:
    made = kind(message, provider="duck", **more)
    made.upstream_status = status
    return made


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("authorization", f"Bearer {KEYS['first']}"),
        ("x-api-key", KEYS["first"]),
        ("api-key", KEYS["first"]),
    ],
)
def test_a_key_goes_into_the_providers_own_header(header, value):
    keys, _ = ring(1, header)
    assert dict(proof(keys)) == {header: value}
    assert proof(keys) is proof(keys), "one mapping for ever is cheap"


def test_one_key_is_used_until_it_is_refused_and_then_the_next():
    keys, clock = ring()
    seen = []
    for _ in range(5):
        headers = proof(keys)
        seen.append(name_of(headers))
        assert proof(keys) is headers, "it stays with a key, as long as that works"
        assert isinstance(keys.refused(headers, error(retry_after=3.0)), Again) is (
            len(seen) % 3 != 0
        )
        if len(seen) % 3 == 0:
            clock.now += 3.0
    assert seen == ["first", "second", "third", "first", "second"]


def test_the_key_is_taken_whose_last_refusal_is_the_longest_ago():
    keys, clock = ring()
    for name in ("first", "second"):
        assert name_of(proof(keys)) == name
        keys.refused(proof(keys), error(retry_after=1.0))
        clock.now += 5.0
    assert name_of(proof(keys)) == "third"
    keys.refused(proof(keys), error(retry_after=1.0))
    assert name_of(proof(keys)) == "first"


@pytest.mark.parametrize(
    ("met", "pause"),
    [
        (error(retry_after=7.0), 7.0),
        (error(), 10.0),
        (error(retry_after=0.0), 1.0),
        (error(retry_after=86_400.0), 3600.0),
        (error(message="no tokens per day left", retryable=False), 600.0),
        (error(QuotaExceeded), 600.0),
        (error(ProviderAuthError, 401), 600.0),
        (error(ProviderAuthError, 400), 600.0),
        (error(ProviderAuthError, 403), 60.0),
    ],
)
def test_a_key_is_set_aside_for_as_long_as_fits_its_trouble(met, pause):
    keys, clock = ring(2)
    assert isinstance(keys.refused(proof(keys), met), Again)
    clock.now += pause * 0.999
    keys.refused(proof(keys), error(retry_after=3600.0))
    state = keys.states()[0]
    assert state.state != "ok"
    assert state.wait == pytest.approx(pause * 0.001)
    clock.now += pause * 0.001
    assert keys.states()[0].state == "ok"
    assert name_of(proof(keys)) == "first"


@pytest.mark.parametrize(
    "met",
    [
        error(retryable=False, message="Request too large"),
        error(ProviderError, 500),
        error(InvalidRequest, 400),
    ],
)
def test_what_is_not_the_keys_fault_sets_no_key_aside(met):
    keys, _ = ring()
    assert keys.refused(proof(keys), met) is met
    assert [state.state for state in keys.states()] == ["ok"] * 3


def test_one_key_alone_keeps_its_error_and_is_used_again():
    keys, _ = ring(1)
    for met in (error(ProviderAuthError, 401), error(retry_after=0.0), error()):
        assert keys.refused(proof(keys), met) is met
        assert name_of(proof(keys)) == "first"


def test_where_all_are_refused_the_error_is_that_of_the_key():
    keys, _ = ring(2)
    assert isinstance(keys.refused(proof(keys), error(ProviderAuthError, 401)), Again)
    met = error(ProviderAuthError, 401)
    assert keys.refused(proof(keys), met) is met
    assert not met.retryable


def test_where_all_are_limited_the_wait_is_for_the_first_that_is_free():
    keys, clock = ring(2)
    keys.refused(proof(keys), error(retry_after=5.0))
    clock.now += 2.0
    found = keys.refused(proof(keys), error(retry_after=30.0))
    assert type(found) is RateLimited
    assert found.retry_after == 3.0
    shorter = error(retry_after=1.0)
    assert keys.refused(proof(keys), shorter) is shorter


def test_a_refused_key_beside_a_limited_one_is_a_limit_that_passes():
    keys, _ = ring(2)
    keys.refused(proof(keys), error(retry_after=5.0))
    found = keys.refused(proof(keys), error(ProviderAuthError, 401))
    assert type(found) is RateLimited
    assert found.retryable
    assert (found.retry_after, found.upstream_status) == (5.0, 401)


def test_a_late_refusal_of_a_key_that_is_aside_already_only_finds_the_next():
    keys, _ = ring()
    headers = proof(keys)
    for _ in range(10):
        assert isinstance(keys.refused(headers, error()), Again)
    assert [state.state for state in keys.states()] == ["limited", "ok", "ok"]


def test_a_late_limit_does_not_make_a_refused_key_one_that_is_worth_waiting_for():
    keys, _ = ring(2)
    headers = proof(keys)
    keys.refused(headers, error(ProviderAuthError, 401))
    keys.refused(headers, error(retry_after=5.0))
    met = error(ProviderAuthError, 401)
    assert keys.refused(proof(keys), met) is met
    assert [state.state for state in keys.states()] == ["refused"] * 2


def test_keys_are_shown_by_their_ends_alone():
    keys, _ = ring()
    keys.refused(proof(keys), error(ProviderAuthError, 401))
    assert [(s.key, s.state) for s in keys.states()] == [
        ("…irst", "refused"),
        ("…cond", "ok"),
        ("…hird", "ok"),
    ]
    assert "canary" not in f"{keys!r} {keys.states()} {vars(keys)}"
    assert masked("not-needed") == "…"
    alone, _ = ring(1)
    assert "canary" not in f"{alone!r} {vars(alone)}"


@pytest.mark.parametrize("key", ["a\nb", "ä" * 20, "a\0b"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key):
    with pytest.raises(ValueError, match="authorization") as caught:
        Keys("duck", [Secret(key)])
    assert key not in str(caught.value)


# A config that is read again


def renewed(old, *names, header="authorization"):
    keys = [Secret(KEYS[name]) for name in names]
    return Keys("duck", keys, header=header, clock=old._clock).after(old)


def states(keys):
    return {state.key.removeprefix("…"): state.state for state in keys.states()}


def test_the_same_keys_in_the_same_order_are_the_same_object():
    keys, _ = ring()
    assert renewed(keys, *NAMES) is keys
    assert renewed(keys, "second", "first", "third") is not keys
    assert renewed(keys, "first", "second") is not keys
    assert renewed(keys, *NAMES, header="x-api-key") is not keys


def test_a_key_that_stays_keeps_its_state_wherever_it_stands_now():
    keys, clock = ring(2)
    keys.refused(proof(keys), error(ProviderAuthError, 401))
    keys.refused(proof(keys), error(retry_after=50.0))
    clock.now += 20.0
    new = renewed(keys, "third", "second", "first")
    assert [(its.state, its.wait) for its in new.states()] == [
        ("ok", None),
        ("limited", 30.0),
        ("refused", 580.0),
    ]
    assert name_of(proof(new)) == "third"
    assert len(keys.states()) == 2, "who uses the old ones on sees nothing of it"
    alone = renewed(new, "first")
    assert [its.state for its in alone.states()] == ["refused"]
    assert name_of(proof(alone)) == "first"


def test_of_a_key_that_is_gone_nothing_is_kept():
    keys, _ = ring(2)
    keys.refused(proof(keys), error(ProviderAuthError, 401))
    without = renewed(keys, "second")
    assert states(renewed(without, "first", "second")) == {"irst": "ok", "cond": "ok"}


def test_what_a_request_under_way_meets_with_a_key_holds_for_the_new_ones_too():
    keys, _ = ring(2)
    headers = proof(keys)
    new = renewed(keys, "second", "first", "third")
    assert isinstance(keys.refused(headers, error(ProviderAuthError, 401)), Again)
    assert states(new) == {"cond": "ok", "irst": "refused", "hird": "ok"}


def test_a_key_in_another_header_is_another_key():
    keys, _ = ring(2)
    keys.refused(proof(keys), error(ProviderAuthError, 401))
    new = renewed(keys, "first", "second", header="x-api-key")
    assert set(states(new).values()) == {"ok"}
    assert dict(proof(new)) == {"x-api-key": KEYS["first"]}


def test_keys_that_are_handed_over_are_shown_by_their_ends_alone():
    keys, _ = ring(2)
    keys.refused(proof(keys), error(ProviderAuthError, 401))
    new = renewed(keys, "second", "first", "third")
    assert "canary" not in f"{new!r} {new.states()} {vars(new)}"


class Ring(RuleBasedStateMachine):
    """Against a model that keeps, for each key, two times and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.clock = ring()
        self.free_at = dict.fromkeys(NAMES, -math.inf)
        self.refused_at = dict.fromkeys(NAMES, -math.inf)
        self.under_way = []

    @rule(seconds=st.sampled_from([0.5, 1.0, 9.0, 60.0, 600.0]))
    def time_passes(self, seconds):
        self.clock.now += seconds

    @rule()
    def a_request_begins(self):
        self.under_way.append(proof(self.keys))

    @rule(
        which=st.integers(0, 20),
        met=st.sampled_from(
            [
                (RateLimited, 429, 2.0, 2.0),
                (RateLimited, 429, None, 10.0),
                (ProviderAuthError, 401, None, 600.0),
                (ProviderAuthError, 403, None, 60.0),
            ]
        ),
    )
    def a_request_is_refused(self, which, met):
        if not self.under_way:
            return
        headers = self.under_way.pop(which % len(self.under_way))
        kind, status, asked, pause = met
        name, now = name_of(headers), self.clock.now
        self.refused_at[name] = now
        self.free_at[name] = max(self.free_at[name], now + pause)
        found = self.keys.refused(headers, error(kind, status, retry_after=asked))
        others = [at for other, at in self.free_at.items() if other != name]
        assert isinstance(found, Again) is any(at <= now for at in others)

    @invariant()
    def the_best_key_is_taken(self):
        now = self.clock.now
        free = [name for name in NAMES if self.free_at[name] <= now]
        best = (
            min(free, key=self.refused_at.__getitem__)
            if free
            else min(NAMES, key=self.free_at.__getitem__)
        )
        assert name_of(proof(self.keys)) == best

    @invariant()
    def what_is_shown_is_how_it_is(self):
        waits = [max(0.0, self.free_at[name] - self.clock.now) for name in NAMES]
        shown = [state.wait or 0.0 for state in self.keys.states()]
        assert shown == pytest.approx(waits)


TestRing = Ring.TestCase


@given(st.lists(st.booleans(), max_size=40))
def test_asking_for_another_key_always_comes_to_an_end(limited):
    keys, _ = ring()
    for number, is_limited in enumerate(limited):
        met = error(retry_after=0.0) if is_limited else error(ProviderAuthError, 401)
        if not isinstance(keys.refused(proof(keys), met), Again):
            break
        assert number < 2, "three keys are refused three times"
