"""One small file for each adapter; see `duckservice.providers.adapter`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from duckservice.config import AdapterName
    from duckservice.providers.adapter import Adapter


def adapter_of(name: AdapterName) -> Adapter:
    """Return the adapter of that name; only what is configured is ever imported."""
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    return cast("Adapter", module.ADAPTER)
