"""The exit codes of `duck`, and which error ends with which."""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NO_DAEMON: Final = 69
TRY_AGAIN: Final = 75
NOT_PERMITTED: Final = 77
BAD_CONFIG: Final = 78
INTERRUPTED: Final = 130

_TRY_AGAIN_CODES: Final = frozenset(
    {"queue_full", "timeout", "deadline_exceeded", "draining", "unavailable"}
)


class Exit(Exception):
    """Ends the program with a message on stderr and an exit code."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def status_of(code: str) -> int:
    """Return the exit code for an error code of the HTTP API."""
    if code in _TRY_AGAIN_CODES:
        return TRY_AGAIN
    return NOT_PERMITTED if code == "permission_denied" else FAILED
