"""What the daemon tells systemd, by the protocol of sd_notify(3); elsewhere nothing.

Each message is one datagram of ``NAME=value`` lines to the socket of
``$NOTIFY_SOCKET``. Nothing here waits, and nothing raises: a service manager that
does not listen is no reason to fail a request.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final, Self, final

import attrs
import structlog

STATUS_CHARS_MAX: Final = 500

log = structlog.get_logger("duckd")


@final
@attrs.define(eq=False)
class Notifier:
    """Tells the service manager how the daemon is; without one, does nothing."""

    address: str | None = None
    """A path, or ``@name`` for a name in the abstract namespace."""
    watchdog: float | None = None
    """Within so many seconds it wants to be told that we live; None: it does not."""
    _failed: bool = False

    @classmethod
    def take(cls, environ: MutableMapping[str, str], pid: int | None = None) -> Self:
        """Return the notifier that *environ* asks for, and remove it from there.

        What is left in it would make a child process speak for the daemon.
        """
        address = environ.pop("NOTIFY_SOCKET", "") or None
        period = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", "")
        ours = not watched or watched == str(os.getpid() if pid is None else pid)
        asked = ours and period.isascii() and period.isdigit() and int(period) > 0
        return cls(address, int(period) / 1e6 if asked else None)

    def ready(self, status: str) -> bool:
        """Tell that requests are served; also after `reloading`."""
        return self._send("READY=1", _status(status))

    def status(self, text: str) -> bool:
        """Tell, in one line for people, what the daemon does."""
        return self._send(_status(text))

    def reloading(self) -> bool:
        """Tell that the config is read again; `ready` tells that this is over."""
        # systemd compares it with its own clock, to know which reload was meant.
        now = time.monotonic_ns() // 1000
        return self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self, status: str, within: float) -> bool:
        """Tell that the daemon is about to end, and takes up to *within* seconds."""
        return self._send(
            "STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within * 1e6)}", _status(status)
        )

    def alive(self) -> bool:
        """Tell the watchdog that the daemon does its work."""
        return self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> bool:
        """Return whether the message is sent, or nobody wants it."""
        if self.address is None:
            return True
        name = self.address
        target = f"\0{name[1:]}" if name.startswith("@") else name
        message = "\n".join(lines).encode("utf-8", "replace")
        flags = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, flags) as sender:
                sender.sendto(message, target)
        except (OSError, ValueError) as error:
            if not self._failed:
                log.warning("systemd.not_told", socket=name, error=str(error))
            self._failed = True
            return False
        self._failed = False
        return True


def _status(text: str) -> str:
    line = " ".join(text.split())
    return f"STATUS={line[:STATUS_CHARS_MAX]}"
