"""What a reload has replaced, and what still uses it: kept until that is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, final

import attrs
import structlog
import trio

from duckservice.actors.request_queue import RequestQueue
from duckservice.asking import tell
from duckservice.events import EventSink
from duckservice.providers.base import Provider
from duckservice.tree import Guarded, Parts
from supervisors import ActorStopped, ChildNotFound

LOOKS_EACH: Final = 0.5
"""Seconds between two looks at what is still used."""

log = structlog.get_logger("duckd")


@attrs.frozen(eq=False)
class _Retired:
    is_over: Callable[[], bool]
    end: Callable[[], Awaitable[None]]
    guarded: Guarded | None = None
    """The provider that ends with it."""


@final
@attrs.define(eq=False)
class Retirement:
    """Ends providers and connections that requests under way still have."""

    parts: Parts
    emit: EventSink
    ending: trio.Lock = attrs.field(factory=trio.Lock)
    """Whoever changes providers has it: none of them ends meanwhile."""
    _retired: list[_Retired] = attrs.field(factory=list[_Retired])
    _something: trio.Event = attrs.field(factory=trio.Event)

    def retire(self, guarded: Guarded) -> None:
        """End a provider that nobody is to be sent to, once nobody is there."""
        board = guarded.board

        def is_over() -> bool:
            return not board.turns and not board.queued

        async def end() -> None:
            await self._end(guarded)

        self._add(_Retired(is_over, end, guarded))

    def close_later(self, guarded: Guarded, provider: Provider) -> None:
        """Close connections of *guarded* once those are over that have a turn now."""
        users = frozenset(guarded.board.turns)

        def is_over() -> bool:
            return users.isdisjoint(guarded.board.turns)

        self._add(_Retired(is_over, provider.aclose))

    def ending_one(self, name: str) -> Guarded | None:
        """Return the provider of that name that is to end, and has not."""
        found = (its.guarded for its in self._retired if its.guarded is not None)
        return next((its for its in found if its.board.name == name), None)

    def recall(self, guarded: Guarded) -> None:
        """Have a provider not end, if it was to."""
        self._retired = [its for its in self._retired if its.guarded is not guarded]

    async def run(self) -> None:
        """End what is not used any more, until cancelled; and then what is left."""
        try:
            while True:
                await self._something.wait()
                while self._retired:
                    await trio.sleep(LOOKS_EACH)
                    async with self.ending:
                        await self._end_unused()
                self._something = trio.Event()
        finally:
            # A provider's client closes what it has itself.
            with trio.move_on_after(2, shield=True):
                for its in self._retired:
                    if its.guarded is None:
                        await its.end()

    def _add(self, its: _Retired) -> None:
        self._retired.append(its)
        self._something.set()

    async def _end_unused(self) -> None:
        for its in [its for its in self._retired if its.is_over()]:
            self._retired.remove(its)
            await its.end()

    async def _end(self, guarded: Guarded) -> None:
        await end_parts(self.parts, guarded)
        name, board = guarded.board.name, self.parts.board
        board.providers = {n: its for n, its in board.providers.items() if n != name}
        tell(self.emit, lambda: self.parts.queue.cast(RequestQueue.refresh))
        log.info("provider.ended", provider=name)


async def end_parts(parts: Parts, guarded: Guarded) -> None:
    """Stop what runs for a provider, and forget it; its client closes connections."""
    name, root = guarded.board.name, parts.providers_root
    with suppress(ActorStopped, ChildNotFound):
        await root.terminate_child(name)
        await root.delete_child(name)
