from __future__ import annotations

import attrs
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from duckservice.core.response_cache import CacheLimits, CacheSize, ResponseCache

A, B, C = b"a", b"b", b"c"


def cache(ttl=10.0, max_entries=3, max_bytes=100) -> ResponseCache[str]:
    limits = CacheLimits(ttl=ttl, max_entries=max_entries, max_bytes=max_bytes)
    return ResponseCache(limits)


def test_what_is_put_is_there_until_its_time_is_up() -> None:
    its = cache(ttl=10.0)
    assert its.put(A, "x", 1, now=5.0)
    assert its.get(A, now=14.999) == "x"
    assert its.get(A, now=15.0) is None
    assert its.size(now=15.0) == CacheSize(entries=0, bytes=0)


def test_a_use_does_not_make_it_younger() -> None:
    its = cache(ttl=10.0)
    its.put(A, "x", 1, now=0.0)
    its.get(A, now=9.0)
    assert its.get(A, now=10.0) is None


def test_the_one_used_longest_ago_leaves_first() -> None:
    its = cache(max_entries=2)
    its.put(A, "x", 1, now=0.0)
    its.put(B, "y", 1, now=0.0)
    its.get(A, now=1.0)
    its.put(C, "z", 1, now=2.0)
    assert [its.get(key, 2.0) for key in (A, B, C)] == ["x", None, "z"]


def test_the_bytes_of_all_never_exceed_the_limit() -> None:
    its = cache(max_bytes=100)
    its.put(A, "x", 60, now=0.0)
    its.put(B, "y", 41, now=0.0)
    assert its.size(0.0) == CacheSize(entries=1, bytes=41)
    its.put(C, "z", 59, now=0.0)
    assert its.size(0.0) == CacheSize(entries=2, bytes=100)


def test_what_is_too_large_is_not_kept_and_evicts_nothing_else() -> None:
    its = cache(max_bytes=100)
    its.put(A, "x", 60, now=0.0)
    assert not its.put(B, "y", 101, now=0.0)
    assert its.get(A, 0.0) == "x"
    assert not its.put(A, "larger", 101, now=0.0), "nor does the old one stay"
    assert its.get(A, 0.0) is None


def test_a_new_value_takes_the_place_the_size_and_the_time_of_the_old() -> None:
    its = cache(ttl=10.0)
    its.put(A, "old", 60, now=0.0)
    its.put(A, "new", 50, now=5.0)
    assert its.size(5.0) == CacheSize(entries=1, bytes=50)
    assert its.get(A, 14.0) == "new"


def test_a_shorter_time_can_be_given_and_a_longer_one_cannot() -> None:
    its = cache(ttl=10.0)
    its.put(A, "x", 1, now=0.0, ttl=3.0)
    its.put(B, "y", 1, now=0.0, ttl=30.0)
    assert not its.put(C, "z", 1, now=0.0, ttl=0.0)
    assert its.get(A, 3.0) is None
    assert its.get(B, 9.9) == "y"
    assert its.get(B, 10.0) is None


def test_refreshing_one_key_for_ever_takes_no_memory() -> None:
    its = cache(ttl=1e9)
    for n in range(5000):
        its.put(A, "x", 1, now=float(n))
    assert len(its._expiries) < 100


@pytest.mark.parametrize("bad", [{"ttl": 0.0}, {"max_entries": 0}, {"max_bytes": 0}])
def test_a_limit_of_nothing_is_a_mistake(bad) -> None:
    with pytest.raises(ValueError, match="must be"):
        cache(**bad)


@attrs.define
class Seen:
    value: int
    size: int
    put_at: float
    ttl: float
    used: int


KEYS = st.sampled_from([b"%d" % n for n in range(6)])


class Machine(RuleBasedStateMachine):
    """The cache against a list that is searched and sorted at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.step = 0
        self.model: dict[bytes, Seen] = {}
        self.cache = ResponseCache[int](
            CacheLimits(ttl=10.0, max_entries=4, max_bytes=20)
        )

    def alive(self) -> dict[bytes, Seen]:
        return {
            key: its
            for key, its in self.model.items()
            if self.now < its.put_at + its.ttl
        }

    @rule(key=KEYS, size=st.integers(1, 22), ttl=st.none() | st.sampled_from([3.0]))
    def put(self, key, size, ttl) -> None:
        self.step += 1
        kept = self.cache.put(key, self.step, size, self.now, ttl)
        assert kept == (size <= 20)
        model = self.alive()
        model.pop(key, None)
        if kept:
            model[key] = Seen(self.step, size, self.now, ttl or 10.0, self.step)
        # Take the most recently used ones for as long as all of them fit.
        self.model, room = {}, 20
        for name, its in sorted(model.items(), key=lambda pair: -pair[1].used):
            if len(self.model) == 4 or its.size > room:
                break
            self.model[name] = its
            room -= its.size

    @rule(key=KEYS)
    def get(self, key) -> None:
        self.step += 1
        its = self.alive().get(key)
        assert self.cache.get(key, self.now) == (None if its is None else its.value)
        if its is not None:
            its.used = self.step

    @rule(key=KEYS)
    def remove(self, key) -> None:
        self.cache.remove(key)
        self.model.pop(key, None)

    @rule(seconds=st.sampled_from([0.5, 3.0, 7.0]))
    def wait(self, seconds) -> None:
        self.now += seconds

    @precondition(lambda self: self.alive())
    @rule()
    def wait_for_the_next_to_expire(self) -> None:
        self.now = min(its.put_at + its.ttl for its in self.alive().values())

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        alive = self.alive()
        size = self.cache.size(self.now)
        assert size.entries == len(alive) <= 4
        assert size.bytes == sum(its.size for its in alive.values()) <= 20


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
