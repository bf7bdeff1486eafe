"""The daemon's stderr, so that whoever does not read it cannot stop the daemon.

A pipe that nobody reads is full after 64 KiB, and whoever writes then waits: with
an event loop, everybody waits. So nothing here waits. What does not fit is kept
until the next line comes, and what would be too much to keep is counted and dropped,
line by line; the next line that fits says how many were lost.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from functools import partial
from typing import Final, final

KEPT_BYTES_MAX: Final = 1024 * 1024
LAST_WAIT: Final = 0.5
"""Seconds that the end waits for a reader of what is kept."""


@final
class PatientOutput:
    """Takes lines of text for a descriptor, and never waits for its reader."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._send, self._close = _sender(fd)
        self._kept = bytearray()
        self.dropped = 0
        """Lines that are lost."""

    def isatty(self) -> bool:
        """Say whether somebody sits in front of it."""
        return os.isatty(self._fd)

    def write(self, line: str) -> int:
        """Take one line; an OSError says that nobody will ever read it."""
        data = line.encode("utf-8", "backslashreplace")
        if len(self._kept) + len(data) > KEPT_BYTES_MAX:
            self.flush()
        if len(self._kept) + len(data) > KEPT_BYTES_MAX:
            self.dropped += 1
            return len(line)
        if self.dropped:
            lost, self.dropped = self.dropped, 0
            self._kept += b'{"event":"log.lost","lines":%d}\n' % lost
        self._kept += data
        return len(line)

    def flush(self) -> None:
        """Write what the reader has room for."""
        try:
            while self._kept:
                del self._kept[: self._send(bytes(self._kept[:65536]))]
        except BlockingIOError:
            return
        except OSError:
            self._kept.clear()
            raise

    def finish(self) -> None:
        """Write what is kept, if somebody reads it soon; nothing may come after it."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        try:
            self.flush()
            if self._kept and poll.poll(LAST_WAIT * 1000):
                self.flush()
        except OSError:
            pass
        finally:
            self._kept.clear()
            self._close()
            self._close = _nothing


def _sender(fd: int) -> tuple[Callable[[bytes], int], Callable[[], object]]:
    """Return what writes to *fd* without waiting, and what ends that.

    ``O_NONBLOCK`` belongs to the open file, which our parent and our siblings share:
    a shell whose terminal does not block is broken. So it is not set on *fd*.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):  # the journal's
        sock = socket.socket(fileno=os.dup(fd))
        return partial(_send_nowait, sock), sock.close
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        # Opened anew it is another open file of the same pipe or terminal.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            own = os.open(f"/proc/self/fd/{fd}", flags)
            return partial(os.write, own), partial(os.close, own)
    return partial(os.write, fd), _nothing


def _nothing() -> None:
    """Close nothing: it is not ours, or closed."""


def _send_nowait(sock: socket.socket, data: bytes) -> int:
    return sock.send(data, socket.MSG_DONTWAIT)


def open_standard_streams() -> None:
    """Have descriptors 0 to 2 lead somewhere.

    Where one is closed, the next file that is opened would get its number: what is
    meant for stderr would be written into the store.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            assert opened == fd, "the lowest free number is given"
            os.set_inheritable(fd, True)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for good
