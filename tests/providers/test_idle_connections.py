"""The free list of connections, as a machine against a plain model."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from duckservice.providers.idle_connections import IdleConnections

EXPIRY = 10.0
MOST = 3
origins = st.sampled_from("ab")


class FreeList(RuleBasedStateMachine):
    """The model is a flat list of (origin, connection, when it was put)."""

    def __init__(self):
        super().__init__()
        self.real = IdleConnections(connections_max=MOST, expiry=EXPIRY)
        self.model = []
        self.now = 0.0
        self.number = 0

    @rule(origin=origins)
    def put(self, origin):
        self.number += 1
        self.model.append((origin, self.number, self.now))
        surplus = self.real.put(origin, self.number, self.now)
        if len(self.model) > MOST:
            oldest = next(entry for entry in self.model if entry[0] == origin)
            self.model.remove(oldest)
            assert surplus == oldest[1]
        else:
            assert surplus is None

    @rule(origin=origins)
    def take(self, origin):
        mine = [entry for entry in self.model if entry[0] == origin]
        if mine:
            self.model.remove(mine[-1])
        assert self.real.take(origin) == (mine[-1][1] if mine else None)

    @rule()
    def take_expired(self):
        old = [entry for entry in self.model if self.now >= entry[2] + EXPIRY]
        self.model = [entry for entry in self.model if entry not in old]
        assert sorted(self.real.take_expired(self.now)) == [
            number for _, number, _ in old
        ]

    @rule()
    def take_all(self):
        assert sorted(self.real.take_all()) == [number for _, number, _ in self.model]
        self.model = []

    @rule(seconds=st.sampled_from([0.0, 0.5, EXPIRY / 2, EXPIRY]))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def never_more_than_allowed(self):
        assert len(self.real) == len(self.model) <= MOST


test_the_free_list_is_last_in_first_out_bounded_and_expires = FreeList.TestCase
