"""The daemon, asked from trio: the blocking client, in threads.

A thread cannot be cancelled. One that nobody waits for any more ends when the daemon
says something next, or with the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Final, TypeVar, final

import trio

from duckservice.gateway.client import FOLLOW_SILENCE, Answer, DaemonClient, Event

_AT_ONCE: Final = 16
"""Requests to the daemon under way, for all pages."""

_WAITING_MAX: Final = 1000
"""Events on their way out of a thread; then it waits."""

T = TypeVar("T")


@final
class Asking:
    """Asks the daemon that *client* reaches.

    Everything raises what `DaemonClient` raises.
    """

    def __init__(self, client: DaemonClient) -> None:
        self._client = client
        self.socket = client.path
        self._at_once = trio.CapacityLimiter(_AT_ONCE)
        # Of their own: forwarded requests may all wait for a slow provider.
        self._own = trio.CapacityLimiter(_AT_ONCE)

    async def request(self, method: str, target: str, patience: float) -> Answer:
        """Return the answer to a request without a body, for a page.

        *patience*: seconds that the daemon may be silent.
        """
        ask = partial(self._client.request, method, target, timeout=patience)
        return await _in_thread(ask, self._at_once)

    async def get_all(self, targets: Sequence[str], patience: float) -> list[Answer]:
        """Return the answers to some GETs, one after the other."""

        def ask() -> list[Answer]:
            return [
                self._client.request("GET", target, timeout=patience)
                for target in targets
            ]

        return await _in_thread(ask, self._own)

    async def follow(
        self,
        target: str,
        last_id: str,
        on_open: Callable[[Mapping[str, str]], None],
        on_event: Callable[[Event], None],
    ) -> None:
        """Call *on_event* for each event of a stream; return at its regular end.

        *on_open* is given the headers of the answer. It begins after *last_id*.
        """
        headers = {"Last-Event-ID": last_id} if last_id else None
        trio_token = trio.lowlevel.current_trio_token()
        waiting = deque[Event]()

        def take() -> None:
            while waiting:
                on_event(waiting.popleft())

        def opened(headers: Mapping[str, str]) -> None:
            trio.from_thread.run_sync(on_open, headers)

        def read() -> None:
            stream = self._client.stream(
                "GET",
                target,
                None,
                headers,
                timeout=FOLLOW_SILENCE,
                on_headers=opened,
            )
            with closing(stream) as events:
                for event in events:
                    waiting.append(event)
                    trio.from_thread.check_cancelled()
                    if len(waiting) < _WAITING_MAX:
                        # Those that come together are taken together: to wait for
                        # each would cost 80 µs, ten times what it costs to take it.
                        trio_token.run_sync_soon(take, idempotent=True)
                    else:
                        trio.from_thread.run_sync(take)

        try:
            await _in_thread(read, self._own)
        finally:
            take()


async def _in_thread(work: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
