"""What `duck doctor` looks at of the socket: its path, its directory, its lock."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from duckservice.cli.doctor.finding import Finding
from duckservice.paths import SOCKET_PATH_BYTES_MAX


def findings(socket: Path, *, answers: bool) -> Iterator[Finding]:
    """Judge the socket from outside; *answers*: somebody serves it."""
    yield of_path(socket)
    yield of_directory(socket.parent)
    yield of_socket(socket, answers=answers)
    if not answers:
        yield from of_lock("socket lock", socket.with_name(socket.name + ".lock"))


def of_path(path: Path) -> Finding:
    """Say how much of the kernel's room for it the path takes."""
    size = len(os.fsencode(path))
    return Finding("socket path", "ok", f"{size} of {SOCKET_PATH_BYTES_MAX} bytes")


def of_directory(path: Path) -> Finding:
    """Judge whether others could put a socket of their own there."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return Finding("directory", "ok", f"{path} is not there yet: duckd makes it")
    except OSError as error:
        detail = f"{path}: {error.strerror}"
        return Finding("directory", "warning", detail, "ask who runs duckd for the way")
    if stat.S_ISLNK(status.st_mode):
        detail = f"{path} is a symbolic link, which its owner could point elsewhere"
        return Finding(
            "directory", "failed", detail, "name the directory itself as the socket's"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022 and not mode & stat.S_ISVTX:
        detail = f"{path} has mode {mode:04o}: others could replace the socket"
        return Finding("directory", "failed", detail, f"chmod go-w {path}")
    if mode & 0o022:
        return Finding(
            "directory",
            "warning",
            f"{path} has mode {mode:04o}: while duckd is down, another user can put a"
            " socket there, and gets what you send to it",
            "name a socket in a directory of your own",
        )
    if status.st_uid not in (os.geteuid(), 0):
        return Finding(
            "directory",
            "warning",
            f"{path}, mode {mode:04o}, belongs to user {status.st_uid}, who answers"
            " there and sees what you send",
            "if that is not the user who runs duckd for you, choose another --socket",
        )
    return Finding("directory", "ok", f"{path}, mode {mode:04o}")


def of_socket(path: Path, *, answers: bool) -> Finding:
    """Judge what lies at the socket's path."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return Finding("socket", "warning", f"{path}: there is none", "start duckd")
    except OSError as error:
        return Finding(
            "socket",
            "warning",
            f"{path}: {error.strerror}",
            "ask who runs duckd to let you in (service.access)",
        )
    if not stat.S_ISSOCK(status.st_mode):
        return Finding(
            "socket",
            "failed",
            f"{path} is no socket, and duckd leaves it alone",
            "move it away, or choose another place with --socket",
        )
    mode = stat.S_IMODE(status.st_mode)
    told = f"{path}, mode {mode:04o}, of user {status.st_uid}"
    if mode & 0o007:
        return Finding(
            "socket",
            "failed",
            f"{told}: every user of the machine may connect",
            "set service.access, or SocketMode= of duckd.socket, to 0660 and a group",
        )
    if not answers:
        return Finding(
            "socket",
            "warning",
            f"{told}; nobody answers there",
            "if duckd has died, start it: it removes what it left",
        )
    return Finding("socket", "ok", told)


def of_lock(subject: str, path: Path) -> Iterator[Finding]:
    """Judge a lock's file where no daemon answers: it may be held all the same.

    A file that nobody holds says nothing: it is never deleted, and its number may be
    another process's by now.
    """
    import fcntl

    try:
        # A pipe in its place would be waited for, and a link lead anywhere.
        lock = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except OSError as error:
        yield Finding(subject, "skipped", f"{path}: {error.strerror}")
        return
    pid = "unknown"
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            detail = f"{path} is no regular file, and duckd will not start beside it"
            yield Finding(subject, "failed", detail, "find out who made it; remove it")
            return
        pid = os.read(lock, 20).decode("ascii", "replace").strip() or pid
        # For a moment only: a duckd that starts in it would be refused.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        yield Finding(
            subject,
            "failed",
            f"{path} is held by process {pid}, which does not answer",
            f"look at `ps {pid}` and its log; if it hangs, kill it",
        )
    else:
        yield Finding(subject, "ok", f"{path}: free, last held by process {pid}")
    finally:
        os.close(lock)
