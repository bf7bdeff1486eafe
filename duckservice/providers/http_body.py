"""The body of an answer while it comes in: what it may cost, and how it may fail."""

from __future__ import annotations

from typing import final

import httpx
import trio

from duckservice.config import TimeoutConfig
from duckservice.errors import (
    BadProviderResponse,
    DuckError,
    ProviderTimeout,
    Unavailable,
)
from duckservice.providers.connection import ClosedHere
from duckservice.providers.redaction import BodyMask, MaskedForms


class AheadStream(httpx.AsyncByteStream):
    """A body of which a piece may have come before it is asked for."""

    __slots__ = ()

    @property
    def is_here(self) -> bool:
        """Whether the next piece, or the end, can be had without a wait or a failure."""
        raise NotImplementedError


@final
class Body:
    """The body of one answer: counted, timed, without our keys, its failures ours."""

    __slots__ = (
        "_ahead",
        "_bytes_left",
        "_bytes_max",
        "_deadline",
        "_delivered_at",
        "_ended",
        "_mask",
        "_next",
        "_provider",
        "_stream",
        "_timeout",
    )

    def __init__(
        self,
        stream: httpx.AsyncByteStream,
        *,
        provider: str,
        timeout: TimeoutConfig,
        started: float,
        bytes_max: int,
        masked: MaskedForms,
    ) -> None:
        """Take what a transport gave; *started* is when the request began."""
        self._stream = stream
        self._ahead = stream if isinstance(stream, AheadStream) else None
        self._next = aiter(stream).__anext__
        self._provider = provider
        self._timeout = timeout
        self._deadline = started + timeout.total
        self._delivered_at = trio.current_time()
        self._bytes_max = self._bytes_left = bytes_max
        self._mask = BodyMask(masked)
        self._ended = False

    def __aiter__(self) -> Body:
        """Return itself: it can be read once."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece; none is empty."""
        while not self._ended:
            try:
                piece = self._mask.feed(await self._receive())
            except StopAsyncIteration:
                self._ended = True
                piece = self._mask.finish()
            if piece:
                return piece
        raise StopAsyncIteration

    async def _receive(self) -> bytes:
        now = trio.current_time()
        # What the reader did in the meantime took its time, not the provider's.
        self._deadline += now - self._delivered_at
        if self._ahead is not None and self._ahead.is_here:
            # A small answer comes with its head: nothing waits for its piece and its end,
            # and a scope for each would take 11 µs.
            piece, self._delivered_at = await self._next(), now
        else:
            piece = await self._wait_for_piece(now)
            self._delivered_at = trio.current_time()
        self._bytes_left -= len(piece)
        if self._bytes_left < 0:
            raise self._bad(f"sent a body of more than {self._bytes_max} bytes")
        return piece

    async def _wait_for_piece(self, now: float) -> bytes:
        idle_deadline = now + self._timeout.idle
        with trio.CancelScope(deadline=min(idle_deadline, self._deadline)):
            try:
                return await self._next()
            except ClosedHere as error:
                raise closed_here(self._provider) from error
            except httpx.TransportError as error:
                raise self._bad("broke off in the middle of its answer") from error
        if self._deadline <= idle_deadline:
            raise total_is_over(self._provider, self._timeout)
        raise ProviderTimeout(
            f"{self._provider} was silent for {self._timeout.idle:g} s in the middle "
            "of its answer (timeout.idle)",
            provider=self._provider,
        )

    async def read(self) -> bytes:
        """Return the whole body."""
        try:
            pieces = [piece async for piece in self]
        except BaseException:
            await self.aclose()
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read_start(self, bytes_max: int) -> bytes:
        """Return the first *bytes_max* bytes, or what came of them, and close."""
        start = bytearray()
        try:
            while len(start) < bytes_max:
                start += await anext(self)
        except (StopAsyncIteration, DuckError):
            pass
        finally:
            await self.aclose()
        return bytes(start[:bytes_max])

    async def aclose(self) -> None:
        """Close the connection, unless the body has been read to its end."""
        with trio.CancelScope(shield=True):
            await self._stream.aclose()

    def _bad(self, what: str) -> BadProviderResponse:
        return BadProviderResponse(f"{self._provider} {what}", provider=self._provider)


def total_is_over(provider: str, timeout: TimeoutConfig) -> ProviderTimeout:
    """Return the error for an answer that did not end in time."""
    return ProviderTimeout(
        f"{provider} did not finish its answer within {timeout.total:g} s "
        "(timeout.total)",
        provider=provider,
    )


def closed_here(provider: str) -> Unavailable:
    """Return the error for a request whose connection we have closed ourselves."""
    # No failure of the provider's: its breaker must not count it.
    return Unavailable(f"the client of {provider} was restarted", provider=provider)
