"""The bench programs, small: every figure that is promised is looked at."""

from __future__ import annotations

import errno
import os

import httpx
import pytest
import trio

from duckservice.providers.connection import Connection, NothingLeft
from tests.pressure import (
    descriptors,
    idle,
    memory,
    slow_readers,
    slow_writers,
    soak,
    toxics,
)


@pytest.mark.slow
async def test_idle_connections_cost_little_and_are_closed_in_time():
    found = await idle.measure(200, idle=3.0, requests=100)
    assert found.kib_each < 64
    assert found.cpu_idle < 0.1
    assert (found.accepted_max, found.refused_status) == (1024, 503)
    assert found.closed_after[1] < 3.0 + 4
    assert not found.tracebacks
    assert found.after.tasks <= found.before.tasks


@pytest.mark.slow
async def test_readers_that_stop_are_cut_off_and_nothing_of_them_is_left():
    found = await slow_readers.measure(45, stall=1.5, requests=100)
    assert found.whole == 0
    assert found.upstreams_left <= 2
    assert found.after.tasks <= found.before.tasks
    assert found.peak_mib - found.before.rss_mib < 45 * 3
    assert not found.tracebacks


@pytest.mark.slow
async def test_writers_that_are_slow_get_a_408_and_disturb_nobody():
    found = await slow_writers.measure(
        80, head=1.0, silence=3.0, grace=2.0, watch=6.0, requests=100
    )
    for ends in (found.heads, found.stopped, found.trickling):
        assert set(ends) == {"408 timeout, closed"}
    assert sum(found.heads.values()) == 40
    assert found.after.tasks <= found.before.tasks
    assert not found.tracebacks


@pytest.mark.slow
async def test_without_descriptors_it_refuses_does_not_spin_and_recovers():
    found = await descriptors.measure(64, clients=128, watch=2.0)
    assert 20 < found.served < 64
    assert found.cpu < 0.3
    assert found.warnings <= 1
    assert set(found.outcomes) <= {"chat 200", "chat 503 unavailable", "job 202"}
    assert found.outcomes["chat 503 unavailable"]
    assert set(found.jobs) <= {"completed", "scheduled"}
    assert not found.tracebacks


@pytest.mark.slow
async def test_vast_and_compressed_answers_are_refused_in_bounded_memory():
    found = await memory.measure(4, body_mb=10, limit_mb=None, answers=4)
    assert found.bodies == {"200": 4}
    assert set(found.vast) == set(found.bomb) == {"502 bad_provider_response"}
    assert found.bomb_peak_mib < found.vast_peak_mib + 100
    assert (found.ended, found.jobs_lost, found.errors) == (None, 0, [])


@pytest.mark.slow
async def test_no_toxic_hangs_a_client_nor_passes_for_a_whole_answer():
    names = ("reset_peer in mid-answer", "limit_data 20 B", "slicer, 1 byte")
    for row in await toxics.measure(names):
        assert not row.hangs, row
        for seen in (row.whole, row.stream):
            assert "WRONG" not in seen.outcome
            assert "CUT" not in seen.outcome
        if row.providers == 2:
            assert row.whole.outcome == "whole", row


@pytest.mark.slow
async def test_nothing_is_left_behind_by_requests_of_every_kind():
    found = await soak.measure(1000, every=500, prune=False)
    first, last = found.samples[0].vitals, found.samples[-1].vitals
    assert found.wrong == {}
    assert not found.tracebacks
    assert last.tasks <= first.tasks + 1
    assert last.threads <= first.threads + 2
    assert last.rss_mib < first.rss_mib + 30


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
async def test_a_lack_of_our_own_is_not_the_providers_failure(number, monkeypatch):
    async def none_left(*_: object) -> None:
        group = ExceptionGroup("", [OSError(number, os.strerror(number))])
        raise OSError("all attempts to connect failed") from group

    monkeypatch.setattr(trio, "open_tcp_stream", none_left)
    with pytest.raises(NothingLeft, match=os.strerror(number)):
        await Connection.open("127.0.0.1", 1, None)


async def test_a_refusal_of_the_providers_is():
    with pytest.raises(httpx.ConnectError) as caught:
        await Connection.open("127.0.0.1", 1, None)
    assert not isinstance(caught.value, NothingLeft)
