"""Hedging: a second provider is asked as well, where the first does not answer.

The first answer wins, the other request is broken off, and both are settled: each is
an attempt of its own. That is worth its price only where somebody waits, so it is done
for interactive requests, if the config says so, and for a share of them (the retry
budget of the second provider).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar, final

import attrs
import trio

from duckservice.calls.attempt import Attempt
from duckservice.calls.pursuit import Pursuit, Won
from duckservice.completion import ChatRequest, EmbeddingRequest, ImageRequest
from duckservice.errors import DuckError, forget_frames

T = TypeVar("T")
R = TypeVar("R", ChatRequest, EmbeddingRequest, ImageRequest)


@final
@attrs.define(eq=False)
class Race(Generic[T, R]):
    """One call whose second provider is asked after a while."""

    pursuit: Pursuit[R]
    send: Callable[[Attempt, R], Awaitable[T]]
    after: float
    """Seconds without an answer."""
    drop: Callable[[T], None]
    """What is done with an answer that came second."""
    _won: Won[T, R] | None = None
    _failure: Exception | None = None
    _bug: Exception | None = None
    """What was raised beside the second's failures."""
    _second_runs: bool = False

    async def run(self) -> Won[T, R]:
        """Return the first answer.

        Raises:
            DuckError: what has become of all attempts, as one error.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._first, nursery.cancel_scope)
            nursery.start_soon(self._second, nursery.cancel_scope)
        if self._won is not None:
            return self._won
        assert self._failure is not None, "who runs first wins or fails"
        raise self._failure

    async def _first(self, all_of_it: trio.CancelScope) -> None:
        try:
            self._wins(await self.pursuit.run(self.send))
        except Exception as error:  # noqa: BLE001 - raised by `run`, and not in a group
            if isinstance(error, DuckError):
                forget_frames(error)  # they have all that the race has, and lead here
            self._failure = self._bug or error
            if self._second_runs:
                return  # it may yet answer
        all_of_it.cancel(reason="the request is answered, or has failed")

    async def _second(self, all_of_it: trio.CancelScope) -> None:
        await trio.sleep(self.after)
        step = self.pursuit.stand_in()
        if step is None:
            return
        self._second_runs = True
        won = None
        try:
            won = await self.pursuit.ask_once(step, self.send)
        except Exception as error:  # noqa: BLE001 - raised by `run`, if that is all there is
            # A bug there is no reason to break off the one that may be well.
            self._bug = error
        self._second_runs = False
        if won is not None:
            self._wins(won)
            all_of_it.cancel(reason="the request is answered")
        elif isinstance(self._failure, DuckError):
            self._failure = self._bug or self.pursuit.verdict()

    def _wins(self, won: Won[T, R]) -> None:
        if self._won is None:
            self._won = won
        else:
            self.drop(won.value)
