"""An upstream dies under load, and no client of the official SDK notices."""

from __future__ import annotations

import pytest

from tests.e2e.failover import run


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "hang", "500"])
async def test_an_upstream_that_dies_under_load_fails_no_request(how) -> None:
    report = await run(requests=150, clients=8, how=how)
    assert not report.failed
    assert len(report.asked) == 150
    # It has served some, the other one the rest; and few were asked twice: those
    # that were under way, and those that found the breaker still closed.
    assert {one.provider for one in report.asked} == {"first", "second"}
    assert report.caught
    again = sum(one.attempts for one in report.asked) - 150
    assert 0 < again <= 20
