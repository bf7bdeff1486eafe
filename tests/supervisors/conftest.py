"""What all tests of the library share: a note of every event."""

from __future__ import annotations

import pytest

from supervisors import Event


@pytest.fixture
def events() -> list[Event]:
    """Return a list; give its ``append`` to a tree as ``on_event``."""
    return []
