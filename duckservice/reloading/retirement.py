"""What a reload has replaced, and what still uses it: kept until that is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, final

import attrs
import structlog
import trio

from duckservice.actors.request_queue import RequestQueue
from duckservice.calls.asking import tell
from duckservice.providers.base import Provider
from duckservice.tree import Guarded, Parts, Seams, patient, provider_spec
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
    seams: Seams
    ending: trio.Lock = attrs.field(factory=trio.Lock)
    """Whoever changes providers has it: none of them ends meanwhile."""
    _retired: list[_Retired] = attrs.field(factory=list[_Retired])
    _something: trio.Event = attrs.field(factory=trio.Event)

    def retire(self, guarded: Guarded) -> None:
        """End a provider that nobody is to be sent to, once nobody is there."""
        board, client = guarded.board, guarded.client

        def is_over() -> bool:
            return not board.turns and not board.queued and not client.is_used()

        async def end() -> None:
            await self._end(guarded)

        self._add(_Retired(is_over, end, guarded))

    def close_later(self, guarded: Guarded, provider: Provider) -> None:
        """Close connections of *guarded* once those are over that use them now."""
        client, board = guarded.client, guarded.board
        users = frozenset(board.turns)

        def is_over() -> bool:
            return users.isdisjoint(board.turns) and not client.is_used(provider)

        async def end() -> None:
            await client.close(provider)

        self._add(_Retired(is_over, end))

    def leaving(self) -> list[Guarded]:
        """Return the providers that are to end, and have not."""
        return [its.guarded for its in self._retired if its.guarded is not None]

    def recall(self, guarded: Guarded) -> None:
        """Have a provider not end, if it was to."""
        self._retired = [its for its in self._retired if its.guarded is not guarded]

    def keep_tree(self) -> None:
        """Have the tree start those again that are there, should all of it crash."""
        there = (*self.parts.providers.values(), *self.leaving())
        self.parts.providers_root.spec = patient(
            [provider_spec(its, self.parts.board, self.seams) for its in there]
        )

    async def run(self) -> None:
        """End what is not used any more, until cancelled."""
        while True:
            await self._something.wait()
            while self._retired:
                await trio.sleep(LOOKS_EACH)
                async with self.ending:
                    await self._end_unused()
            self._something = trio.Event()

    def _add(self, its: _Retired) -> None:
        self._retired.append(its)
        self._something.set()

    async def _end_unused(self) -> None:
        for its in [its for its in self._retired if its.is_over()]:
            try:
                await its.end()
            except ActorStopped:
                continue  # all of them are being started anew; it ends another time
            except Exception as error:
                # What this one has left open is lost: the others must end all the same.
                log.warning("provider.not_ended_well", exc_info=error)
            self._retired.remove(its)
            self.keep_tree()

    async def _end(self, guarded: Guarded) -> None:
        name, board = guarded.board.name, self.parts.board
        await end_parts(self.parts, name)
        board.providers = {n: its for n, its in board.providers.items() if n != name}
        tell(self.seams.emit, lambda: self.parts.queue.cast(RequestQueue.refresh))
        log.info("provider.ended", provider=name)


async def end_parts(parts: Parts, name: str) -> None:
    """Stop what runs for a provider, and forget it; its client closes connections.

    Raises:
        ActorStopped: the tree of providers does not run at this moment.
    """
    with suppress(ChildNotFound):
        await parts.providers_root.terminate_child(name)
        await parts.providers_root.delete_child(name)
