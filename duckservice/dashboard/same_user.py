"""Whose process is at the other end of a TCP connection of this machine.

Over TCP the kernel sends no credentials along, but it lists each socket with its owner
in ``/proc/net/tcp``. So the URL of the dashboard is of no use to other users, who may
see it in the list of processes while the browser starts; nor is the cookie, which a
browser shows to every port of this machine.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import attrs

TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ROOT: Final = 0
_ESTABLISHED: Final = b"01"
_NO_INODE: Final = b"0"

Address = tuple[str, int]


@attrs.frozen(kw_only=True)
class _Row:
    """What the kernel says of a socket."""

    state: bytes
    uid: int
    inode: bytes

    def is_held(self) -> bool:
        """Say whether a process has it open, both ways.

        One that was closed stays listed until the other side has closed too, and for a
        minute after that: as root's, whoever it belonged to.
        """
        return self.state == _ESTABLISHED and self.inode != _NO_INODE


def is_same_user(
    client: Address, server: Address, *, tables: Iterable[Path] = TABLES
) -> bool:
    """Say whether *client* is of the user who runs this process, or root.

    It must still be there, and not have shut down its sending side. What is said holds
    as long as the connection: a socket keeps its owner. Reads files that may be long;
    call it in a thread.

    Where the kernel shows no table, everybody is taken for that: what keeps others out
    are the token and the cookie alone.
    """
    readable = False
    wanted = [_start_of_row(client, server, mapped=its) for its in (False, True)]
    for table in tables:
        try:
            row = _find_row(table, wanted)
        except (FileNotFoundError, PermissionError):
            continue
        except OSError:
            # There is a table, but for once no descriptor or memory to read it.
            return False
        readable = True
        if row is not None:
            return row.is_held() and row.uid in {_ROOT, os.geteuid()}
    return not readable


def _find_row(table: Path, wanted: Sequence[bytes]) -> _Row | None:
    """Return the first row that has one of *wanted* in it.

    The kernel makes the table while it is read: what comes later costs nothing.
    """
    with table.open("rb") as lines:
        for line in lines:
            if any(its in line for its in wanted):
                _, _, _, state, _, _, _, uid, _, inode, *_ = line.split()
                return _Row(state=state, uid=int(uid), inode=inode)
    return None


def _start_of_row(client: Address, server: Address, *, mapped: bool) -> bytes:
    """Return how the row of *client*'s socket begins, behind its number."""
    its = (_as_listed(address, mapped=mapped) for address in (client, server))
    return f": {' '.join(its)} ".encode()


def _as_listed(address: Address, *, mapped: bool) -> str:
    """Return an IPv4 address as the kernel writes it: words in its own byte order.

    *mapped*: as a socket for IPv6 has it, ``::ffff:127.0.0.1``.
    """
    host, port = address
    packed = socket.inet_aton(host)
    if mapped:
        packed = socket.inet_pton(socket.AF_INET6, f"::ffff:{host}")
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
