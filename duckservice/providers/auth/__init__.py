"""How a request proves whose it is: keys, tokens that expire, signatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, final

from duckservice.errors import DuckError, ProviderError


@final
class Again(ProviderError):
    """A key or a token was refused, and the next one may do: send it again, at once.

    It goes no further than `HttpClient`, which raises `refusal` where it has sent
    the request often enough.
    """

    def __init__(self, refusal: DuckError) -> None:
        super().__init__(refusal.message, provider=refusal.provider, retry_after=0.0)
        self.refusal = refusal


class Credentials(Protocol):
    """What makes one provider's requests ours. Many tasks may use it at once."""

    async def headers(self, method: str, url: str, body: bytes) -> Mapping[str, str]:
        """Return the headers that authenticate this request; names in lower case.

        *url* is what is sent, to the letter. They are secret. It may wait for a token;
        raises `DuckError` if there is none. The same mapping, as long as it holds,
        is cheaper than an equal one.
        """
        ...

    def refused(self, headers: Mapping[str, str], error: DuckError) -> DuckError:
        """Hear that a request with those *headers* failed with *error*; return what to raise.

        It is asked about refused keys, used up ones and rate limits. A token that was
        refused is not used again; where another key or a new token may do better, it
        returns `Again`, and the request is sent once more. *headers* are the very
        mapping that `headers` returned.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...
