"""Which hosts are this machine: what goes there, nobody on the way can read."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

_ADDRESS: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})", re.ASCII
)
_PORT_MAX: Final = 65535


class LoopbackAddress(NamedTuple):
    """Where a listener on this machine is; port 0: where the system chooses."""

    host: str
    port: int


def is_loopback(host: str) -> bool:
    """Say whether *host*, a name or an address, is this machine, as its form says."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def loopback_address(text: str) -> LoopbackAddress | None:
    """Return the address that *text* is, as in ``127.0.0.1:8731`` or ``[::1]:8731``.

    None if it is another, or a name: names may be told to lead anywhere.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    host, port = match["v6"] or match["v4"], int(match["port"])
    if not is_loopback(host) or port > _PORT_MAX:
        return None
    return LoopbackAddress(host, port)
