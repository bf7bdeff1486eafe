"""A listening Unix socket that nobody else can reach, steal or lose.

The order is what makes it safe:

1. the path fits the kernel; the directory is ours and nobody else writes there;
2. the lock file ``<path>.lock`` is locked for as long as the listener lives, so
   two daemons never pass this point for one path;
3. what lies at the path is examined: a socket that answers is somebody's, one
   that refuses is stale and goes, anything else is not ours to remove;
4. bind with the mode in the umask, then group and mode, and only then listen:
   until then the kernel refuses every connection.

The lock file itself stays for ever: removing it would let a third process lock
the removed file while a fourth locks the new one.

A socket that was inherited (systemd's activation) needs none of this: anything
with ``socket`` and ``close()`` can be given to the server as a listener.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

import attrs

from duckservice.paths import EXIT_UNAVAILABLE, StartupError, checked_socket_path

_BACKLOG: Final = 1024
_CONNECT_TIMEOUT: Final = 1.0


class AlreadyRunning(StartupError):
    """Another process serves this socket."""

    exit_code = EXIT_UNAVAILABLE

    def __init__(self, path: Path, pid: int | None) -> None:
        by = "another process" if pid is None else f"process {pid}"
        super().__init__(f"{path} is already served by {by}")
        self.path = path
        self.pid = pid
        """The other process, where its lock file says."""


@final
@attrs.define(eq=False)
class UnixListener:
    """A listening socket, its path and its lock; close it, or use it as a context."""

    socket: socket.socket
    """Non-blocking, listening."""
    path: Path
    _identity: tuple[int, int]
    _lock: int = attrs.field(repr=False)

    def close(self) -> None:
        """Stop listening, remove the socket if it is still ours, release the lock.

        A second call does nothing.
        """
        if self.socket.fileno() == -1:
            return
        if _identity(self.path) == self._identity:
            self.path.unlink(missing_ok=True)
        self.socket.close()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def bind_unix(path: Path, mode: int = 0o600, group: str = "") -> UnixListener:
    """Return a listener at *path* that has its *mode* from its first moment.

    With *group*, the socket belongs to that group, and a directory made for it
    may be entered by the group. Blocks for a second at most, while it asks
    whether a socket found there is alive; changes the process's umask meanwhile,
    so call it before other threads create files.

    Raises:
        AlreadyRunning: another process holds the lock or answers at *path*.
        StartupError: the path is too long, its directory is unsafe, something
            that is not a socket lies there, or the system refuses.

    """
    checked_socket_path(path)
    try:
        gid = grp.getgrnam(group).gr_gid if group else -1
    except KeyError:
        raise StartupError(f"service.access names an unknown group: {group}") from None
    try:
        _prepare_directory(path.parent, gid)
        lock = _lock(path)
        try:
            _remove_stale(path)
            return _bind(path, mode, gid, lock)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise StartupError(f"cannot listen at {path}: {error.strerror}") from error


def _prepare_directory(directory: Path, gid: int) -> None:
    if not directory.is_symlink() and not directory.exists():
        # A umask that is stricter still would shut ourselves out.
        umask = os.umask(0o077)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        finally:
            os.umask(umask)
        if gid != -1:
            os.chown(directory, -1, gid)
            directory.chmod(0o710)
    found = os.lstat(directory)
    complaint = _unsafe(found)
    if complaint:
        raise StartupError(f"the socket's directory {directory} {complaint}")


def _unsafe(directory: os.stat_result) -> str:
    """Return what is wrong with the directory; empty if nothing is."""
    if stat.S_ISLNK(directory.st_mode):
        return "is a symbolic link, which its owner could point elsewhere"
    if not stat.S_ISDIR(directory.st_mode):
        return "is not a directory"
    if directory.st_uid not in {os.geteuid(), 0}:
        return f"belongs to another user (uid {directory.st_uid})"
    writable_by_others = directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if writable_by_others and not directory.st_mode & stat.S_ISVTX:
        mode = stat.S_IMODE(directory.st_mode)
        return f"can be written by other users (mode {mode:04o}); chmod go-w it"
    return ""


def _lock(path: Path) -> int:
    lock_path = path.with_name(path.name + ".lock")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(lock_path, flags, 0o600)
    complaint = _claim(lock, path)
    if complaint is not None:
        os.close(lock)
        raise complaint
    return lock


def _claim(lock: int, path: Path) -> StartupError | None:
    """Take the lock and write our pid; or return why it cannot be taken."""
    found = os.fstat(lock)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        return StartupError(f"{path}.lock is not a lock file of ours")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return AlreadyRunning(path, _pid_in(lock))
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return None


def _pid_in(lock: int) -> int | None:
    text = os.pread(lock, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _remove_stale(path: Path) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise StartupError(f"{path} exists and is not a socket; it is left alone")
    if _answers(path):
        raise AlreadyRunning(path, None)
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        try:
            probe.connect(os.fspath(path))
        except (BlockingIOError, TimeoutError):
            # A full backlog: somebody listens, and is slow.
            return True
        except OSError as error:
            if error.errno in {errno.ECONNREFUSED, errno.ENOENT}:
                return False
            raise
        return True


def _bind(path: Path, mode: int, gid: int, lock: int) -> UnixListener:
    listening = socket.socket(
        socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    try:
        # Without a group the mode is final at once. With one, it is opened to
        # the group only when it belongs to that group.
        first_mode = mode if gid == -1 else mode & 0o700
        umask = os.umask(0o777 & ~first_mode)
        try:
            listening.bind(os.fspath(path))
        finally:
            os.umask(umask)
        identity = _identity(path)
        assert identity is not None
        if gid != -1:
            os.chown(path, -1, gid)
            path.chmod(mode)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return UnixListener(listening, path, identity, lock)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of what is at the path; None if nothing is."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
