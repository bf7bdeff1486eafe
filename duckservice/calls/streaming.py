"""Streams of replies: opened, read in the caller's task, or by a task of their own.

    open_stream    the caller reads the provider's stream itself: the short way
    relay          a task reads it, for who must be able to stop waiting for it: to
                   hold its beginning back for a moment, or to ask two at once

A provider's stream dies with the task that reads it, if that is cancelled while it
waits; a channel between the two does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self, TypeAlias, final

import attrs
import trio

from duckservice.calls.attempt import Attempt, settled
from duckservice.completion import ChatRequest, Chunk, Finished
from duckservice.errors import BadProviderResponse

Batch: TypeAlias = Sequence[Chunk]


@final
@attrs.define(eq=False)
class OpenStream:
    """A stream whose first chunks are here; leaving it ends the attempt.

    It is an iterator and no generator, so one that is left early leaks nothing.
    """

    attempt: Attempt
    first: Batch | None
    rest: AsyncIterator[Batch]
    _stack: AsyncExitStack

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        first = self.first
        if first is not None:
            self.first = None
            return first
        attempt = self.attempt
        try:
            batch = await anext(self.rest)
        except StopAsyncIteration:
            if not attempt.closed:
                attempt.succeeded(attempt.meter.total(attempt.request))
            raise
        except Exception as error:
            if not attempt.closed:
                attempt.broken_off(error)
            raise
        attempt.meter.read(batch)
        return batch

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._stack.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - what it closes shields itself
        finally:
            if not self.attempt.closed:
                self.attempt.abandoned()


async def open_stream(attempt: Attempt, request: ChatRequest) -> OpenStream:
    """Send *request*; return its stream when the first of the reply is here.

    What only announces a reply is not it: a provider that falls silent after that can
    still be replaced, and nobody has seen a word.

    Raises:
        DuckError: the provider failed before; the attempt has ended.
    """
    with settled(attempt, unless_open=True):
        await attempt.begin()
        async with AsyncExitStack() as stack:
            batches = await stack.enter_async_context(attempt.provider.stream(request))
            first = list[Chunk]()
            async for batch in batches:
                attempt.answered()
                attempt.meter.read(batch)
                first += batch
                if attempt.meter.first_content is not None or _is_over(batch):
                    break
            if not first:
                msg = "the stream ended before it began"
                raise BadProviderResponse(msg, provider=attempt.guarded.config.name)
            return OpenStream(attempt, first, batches, stack.pop_all())


def _is_over(batch: Batch) -> bool:
    return any(isinstance(chunk, Finished) for chunk in batch)


@final
@attrs.define(eq=False)
class RelayedStream:
    """A stream that another task reads."""

    _channel: trio.MemoryReceiveChannel[Batch | Exception]
    _reader: trio.CancelScope
    _held: deque[Batch] = attrs.field(factory=deque[Batch])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        if self._held:
            return self._held.popleft()
        item = await self._next()
        if item is None:
            raise StopAsyncIteration
        return item

    async def hold(self, seconds: float) -> None:
        """Return when the first chunks are here, and *seconds* later, or at the end.

        Raises:
            DuckError: it has failed by then; nothing of it was delivered.
        """
        first = await self._next()
        if first is None:
            return
        self._held.append(first)
        with trio.move_on_after(seconds):
            while seconds and (batch := await self._next()) is not None:
                self._held.append(batch)

    def leave(self) -> None:
        """Stop reading it; the attempt ends."""
        self._reader.cancel(reason="nobody waits for the stream")

    async def _next(self) -> Batch | None:
        try:
            item = await self._channel.receive()
        except trio.EndOfChannel:
            return None
        if isinstance(item, Exception):
            raise item
        return item


async def relay(
    nursery: trio.Nursery, hold: float, attempt: Attempt, request: ChatRequest
) -> RelayedStream:
    """Send *request* in a task of *nursery*; return its stream, held back for *hold* s.

    Raises:
        DuckError: the provider failed before; the attempt has ended.
    """
    send, receive = trio.open_memory_channel[Batch | Exception](0)
    stream = RelayedStream(receive, trio.CancelScope())
    nursery.start_soon(_read, attempt, request, send, stream._reader)  # noqa: SLF001 - of its own module
    try:
        await stream.hold(hold)
    except BaseException:
        stream.leave()
        raise
    return stream


async def _read(
    attempt: Attempt,
    request: ChatRequest,
    channel: trio.MemorySendChannel[Batch | Exception],
    scope: trio.CancelScope,
) -> None:
    """Read a stream into *channel*; what goes wrong goes there, too, as a value."""
    with scope, channel:
        try:
            async with await open_stream(attempt, request) as opened:
                async for batch in opened:
                    await channel.send(batch)
        except Exception as error:  # noqa: BLE001 - it is raised by who reads the channel
            await channel.send(error)


@asynccontextmanager
async def background() -> AsyncGenerator[trio.Nursery]:
    """Open a nursery that ends with its block, whose errors come out as they are."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:  # noqa: BLE001 - raised below, and not in a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
