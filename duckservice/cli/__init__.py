"""`duck`: the client on the command line.

Read `program` for the way of a command, `parser` for what there is, and then one
file per command. Everything here is imported when `duck` starts, so what is slow
to import (rich, trio, cattrs) is imported inside the function that needs it.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run `duck`, and return its exit code; see `program`."""
    # Imported here, so that a Ctrl-C meanwhile ends as any other does.
    try:
        from duckservice.cli import program

        return program.main(argv)
    except KeyboardInterrupt:
        return 130
