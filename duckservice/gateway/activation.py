"""A listening Unix socket that systemd has made and hands on: socket activation.

Its path, owner and mode are the business of the ``.socket`` unit; who connects is
still told by the kernel, so that what they may do is the same. systemd goes on
listening when the daemon ends: whoever connects meanwhile waits for the next one.
So there is no lock on the path, and nothing is removed at the end. That two daemons
never share a store is seen to by the store's own lock.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

import attrs
import structlog

from duckservice.paths import StartupError

FIRST_FD: Final = 3
"""Where systemd puts the first descriptor; see sd_listen_fds(3)."""

log = structlog.get_logger("duckd")


@final
@attrs.define(eq=False)
class InheritedListener:
    """A listening socket that somebody else owns; close it, or use it as a context."""

    socket: socket.socket
    """Non-blocking, listening."""
    path: Path

    def close(self) -> None:
        """Stop accepting here; the socket itself goes on. A second call does nothing."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def take_inherited(
    environ: MutableMapping[str, str], *, first: int = FIRST_FD
) -> InheritedListener | None:
    """Return the socket that *environ* says we were given; None if there is none.

    What says so is removed from *environ*, so that no child believes it too.

    Raises:
        StartupError: it is not exactly one listening Unix stream socket at a path.
    """
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not count or pid != str(os.getpid()):
        return None
    if count != "1":
        raise _refused(f"$LISTEN_FDS is {count!r}", "give it one ListenStream=")
    try:
        os.set_inheritable(first, False)
        given = socket.socket(fileno=first)
    except OSError as error:
        why = f"descriptor {first} is no socket: {error.strerror}"
        raise _refused(why, "give it one ListenStream=") from error
    try:
        return InheritedListener(given, _checked(given))
    except BaseException:
        given.close()
        raise


def _checked(given: socket.socket) -> Path:
    """Make the socket ready for use, and return its path."""
    if given.family != socket.AF_UNIX:
        why = f"it is of the family {_name(given.family)}"
        raise _refused(why, "ListenStream= must be a path")
    if given.type != socket.SOCK_STREAM:
        why = f"it is of the type {_name(given.type)}"
        raise _refused(why, "use ListenStream=")
    if not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise _refused("it does not listen", "set Accept=no")
    name = given.getsockname()
    if not isinstance(name, str) or not name.startswith("/"):
        # No file mode guards an abstract name: all of the machine could connect.
        raise _refused("it has no path in the file system", "use ListenStream=/path")
    given.setblocking(False)
    return Path(name)


def say_who_may_connect(path: Path) -> None:
    """Write to the log that the socket is systemd's; warn if anybody can use it."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        log.warning("daemon.socket_path_lost", socket=str(path), error=error.strerror)
        return
    log.info("daemon.socket_inherited", socket=str(path), mode=f"{mode:04o}")
    if mode & stat.S_IWOTH:
        log.warning(
            "daemon.socket_open_to_all",
            message="the mode of the socket lets every user of this machine connect;"
            " set SocketMode=0600, or 0660 with SocketGroup=, in the .socket unit",
            socket=str(path),
        )


def _name(kind: int) -> str:
    return getattr(kind, "name", str(kind))


def _refused(found: str, remedy: str) -> StartupError:
    return StartupError(
        f"the service manager must hand on one listening Unix stream socket: {found};"
        f" {remedy} in the .socket unit"
    )
