"""Which hosts are this machine: what goes there, nobody on the way can read."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Say whether *host*, a name or an address, is this machine, as its form says."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
