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
from collections.abc import Iterable
from pathlib import Path
from typing import Final

TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ROOT: Final = 0
_UID_COLUMN: Final = 7

Address = tuple[str, int]


def is_same_user(
    client: Address, server: Address, *, tables: Iterable[Path] = TABLES
) -> bool:
    """Say whether *client* is of the user who runs this process, or root.

    Where the kernel shows no table, everybody is taken for that: what keeps others out
    are the token and the cookie alone.
    """
    readable = False
    for table in tables:
        try:
            lines = table.read_text("ascii").splitlines()
        except OSError:
            continue
        readable = True
        uid = _owner(lines, client, server)
        if uid is not None:
            return uid in {_ROOT, os.geteuid()}
    return not readable


def _owner(lines: Iterable[str], client: Address, server: Address) -> int | None:
    """Return the user of the socket that *client* holds; None: it is not listed."""
    wanted = {
        (_as_listed(client, mapped=mapped), _as_listed(server, mapped=mapped))
        for mapped in (False, True)
    }
    for line in lines:
        columns = line.split()
        if len(columns) > _UID_COLUMN and tuple(columns[1:3]) in wanted:
            return int(columns[_UID_COLUMN])
    return None


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
