"""A log that nobody reads, for daemons in the tests' own process; and a `duck`."""

from __future__ import annotations

import io
import logging
import tempfile
from pathlib import Path

import pytest
import structlog

from duckservice import log
from duckservice.config import LogConfig
from tests.cli.conftest import Duck


@pytest.fixture
def quiet():
    handlers = list(logging.getLogger().handlers)
    log.setup(LogConfig(), io.StringIO())
    # A logger that has been kept would write there for ever.
    structlog.configure(cache_logger_on_first_use=False)
    yield
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()


@pytest.fixture
def duck():
    # Not tmp_path: its name may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="duck-") as directory:
        yield Duck(Path(directory))
