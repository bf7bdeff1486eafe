"""The engines that must keep the store's promises: add yours here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs

from duckservice.store.base import Store
from duckservice.store.memory import open_memory
from duckservice.store.sqlite import open_sqlite


@attrs.frozen(kw_only=True)
class Engine:
    """How one engine is opened in an empty directory, or in one it was used in."""

    open: Callable[[Path, float], AbstractAsyncContextManager[Store]]
    """The directory, and `aging` in seconds."""
    survives: bool
    """Whether what was committed is there again when the directory, or a copy of it
    that was taken while the store was open, is opened next."""


def _memory(_place: Path, aging: float) -> Any:
    return open_memory(aging=aging)


def _sqlite(place: Path, aging: float) -> Any:
    return open_sqlite(place / "jobs.sqlite3", aging=aging)


engines: dict[str, Engine] = {
    "memory": Engine(open=_memory, survives=False),
    "sqlite": Engine(open=_sqlite, survives=True),
}
