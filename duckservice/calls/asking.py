"""How a request's task talks to the actors: it gets an answer or a typed error, at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from duckservice.errors import InternalError, Unavailable
from duckservice.events import EventSink, MessageDropped
from supervisors import ActorDied, ActorStopped, CallError, InboxFull

T = TypeVar("T")

#: How often in a row an actor may die as soon as it is asked: then it dies of that.
TRIES = 5

#: Seconds after which it has died of something else.
AT_ONCE = 0.1


async def ask(call: Callable[[], Awaitable[T]], *, provider: str | None = None) -> T:
    """Make a call; make it again if the actor was restarted meanwhile.

    Only for calls whose effect dies with the actor, or is undone by a `forget`.
    *provider* is the one whose actor it is; the errors name it.

    Raises:
        Unavailable: the actor does not run, or cannot take more.
        InternalError: it died of this again and again.
    """
    tries = 0
    while True:
        tries, asked = tries + 1, trio.current_time()
        try:
            return await call()
        except ActorDied as error:
            if trio.current_time() - asked > AT_ONCE:
                tries = 0
            if tries == TRIES:
                msg = f"{error.actor} died {TRIES} times while it was asked"
                # The crash is its supervisor's, which may still have to log it: whoever
                # forgets the frames of our error must not come upon those of the crash.
                error.__cause__ = None
                raise InternalError(msg, provider=provider) from error
        except (ActorStopped, InboxFull) as error:
            msg = f"{error.actor} cannot take the request now"
            raise Unavailable(msg, provider=provider) from error


def tell(emit: EventSink, cast: Callable[[], None]) -> None:
    """Make a cast; that it cannot be taken must not turn a success into a failure."""
    try:
        cast()
    except CallError as error:
        emit(MessageDropped(actor=error.actor, reason=type(error).__name__))
