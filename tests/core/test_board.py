"""What the board says of a permit that was given some time ago."""

import pytest

from duckservice.actors.board import ProviderBoard
from duckservice.core import circuit_breaker as core
from duckservice.core.breaker_policy import BreakerPolicy
from duckservice.core.circuit_breaker import Closed, Open, Outcome

POLICY = BreakerPolicy(failure_threshold=1, reset_timeout=10.0)


@pytest.fixture
def permitted():
    """A board, and a permit of its breaker."""
    board = ProviderBoard("up", 1)
    board.breaker, permit = core.admit(board.breaker, POLICY, 0.0)
    return board, permit


def test_a_breaker_that_was_started_anew_lets_those_pass_that_it_had_permitted(
    permitted,
):
    board, permit = permitted
    board.breaker = Closed(board.breaker.era + 7)
    assert not board.stands(permit, 1.0)
    assert board.may_send(permit, "m", 1.0)


def test_nothing_is_sent_to_who_rests_since(permitted):
    board, permit = permitted
    board.breaker = Open(board.breaker.era + 7, 100.0, why="it fails")
    assert not board.may_send(permit, "m", 1.0)


def test_only_probes_are_sent_while_it_is_found_out_whether_it_is_back(permitted):
    board, permit = permitted
    board.breaker = core.settle(
        board.breaker, POLICY, 0.0, permit, Outcome.FAILURE, slow=False
    )
    board.breaker, probe = core.admit(board.breaker, POLICY, 11.0)
    assert board.may_send(probe, "m", 11.0)
    assert not board.may_send(permit, "m", 11.0)


def test_the_models_own_breaker_decides(permitted):
    board, permit = permitted
    board.breaker = Closed(board.breaker.era + 7)
    board.breakers["m"] = Open(99, 100.0, why="it fails")
    assert not board.may_send(permit, "m", 1.0)
    assert board.may_send(permit, "n", 1.0)
