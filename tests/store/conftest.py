"""Every test that asks for `store` runs once with each engine."""

from __future__ import annotations

import pytest

from .engines import Engine, engines


@pytest.fixture(params=sorted(engines))
def engine(request) -> Engine:
    return engines[request.param]


@pytest.fixture
async def store(engine, tmp_path):
    async with engine.open(tmp_path, 30.0) as opened:
        yield opened
