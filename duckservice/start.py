"""The entry of duckd: it sees to it that the daemon imports no more than it needs."""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Run the daemon."""
    _import_structlog_without_rich()
    from duckservice import process  # noqa: PLC0415 - after the above

    process.main()


def _import_structlog_without_rich() -> None:
    """Save 40 ms and 5 MB: structlog imports rich wherever it is installed.

    It wants it for tracebacks with the locals of every frame, which would print
    secrets and are not used here.
    """
    hidden = "rich" not in sys.modules
    if hidden:
        sys.modules["rich"] = None  # type: ignore[assignment] # the documented way to hide a module
    try:
        importlib.import_module("structlog")
    finally:
        if hidden:
            del sys.modules["rich"]
