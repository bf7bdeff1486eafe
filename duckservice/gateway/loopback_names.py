"""The names of a loopback listener: who asks for another one was led here by a page.

Every page in a browser can reach a port of this machine: by a name that leads here
(DNS rebinding), or by this address itself. Browsers say the one in ``Host``, and whose
page it is in ``Origin``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

_HTTP_PORT = 80
"""Browsers leave it out."""


@final
class LoopbackNames:
    """Some host names with one port."""

    def __init__(self, names: Iterable[str], port: int) -> None:
        hosts = set[str]()
        for name in names:
            hosts.add(f"{name}:{port}")
            if port == _HTTP_PORT:
                hosts.add(name)
        self._hosts = frozenset(host.encode() for host in hosts)
        self._origins = frozenset(f"http://{host}".encode() for host in hosts)

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return why a request with these headers is not served; None: it is.

        It names one of these hosts, and comes from a page of theirs or from none.
        """
        asked = list[bytes]()
        for name, value in headers:
            if name == b"host":
                asked.append(value.lower())
            elif name == b"origin" and value.lower() not in self._origins:
                return "this listener serves no pages of other sites (Origin)"
        if len(asked) != 1 or asked[0] not in self._hosts:
            return "this listener has another name (Host)"
        return None
