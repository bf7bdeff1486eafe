"""Settings for all tests: how long Hypothesis searches."""

from __future__ import annotations

import os

import pytest
import structlog
from hypothesis import HealthCheck, settings

_SLOW_MACHINE = [HealthCheck.too_slow]

settings.register_profile(
    "default", deadline=None, max_examples=100, suppress_health_check=_SLOW_MACHINE
)
settings.register_profile(
    "soak", deadline=None, max_examples=5000, suppress_health_check=_SLOW_MACHINE
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def structlog_as_it_was():
    """Undo what a test does to structlog: others may rely on its being untouched."""
    configured, before = structlog.is_configured(), structlog.get_config()
    yield
    if configured:
        structlog.configure(**before)
    else:
        structlog.reset_defaults()
