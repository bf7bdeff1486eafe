"""How a request proves whose it is: keys, tokens that expire, signatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from duckservice.errors import DuckError


class Credentials(Protocol):
    """What makes one provider's requests ours. Many tasks may use it at once."""

    async def headers(self, method: str, url: str, body: bytes) -> Mapping[str, str]:
        """Return the headers that authenticate this request; names in lower case.

        They are secret. It may wait for a token; raises `DuckError` if there is none.
        """
        ...

    def refused(self, headers: Mapping[str, str], error: DuckError) -> DuckError:
        """Hear that a request with those *headers* failed with *error*; return what to raise.

        A token that was refused is not used again; where another key may do better,
        the error that is returned is one to be retried at once.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...
