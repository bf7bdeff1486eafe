"""The address of an actor: typed calls and casts over a bounded inbox.

A ref is made once and wired into whoever needs it. It is valid before the
actor starts, while it runs, and after every restart: the inbox belongs to the
ref, not to the incarnation, so what waits in it survives a crash.

    waiting    no incarnation yet, or between two: messages wait
    running    an incarnation reads the inbox
    retired    nobody will come: calls fail at once with `ActorStopped`
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, final, overload

import attrs
import trio

from supervisors._errors import ActorStopped, CallingSelf, InboxFull
from supervisors._reply import Reply

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_MAX_INBOX = 1000


class Envelope:
    """A message on its way: which method, with what, and where the answer goes."""

    __slots__ = ("args", "chain", "kwargs", "method", "reply")

    def __init__(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        reply: Reply[Any] | None,
        chain: tuple[ActorRef[Any], ...],
    ) -> None:
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.reply = reply
        self.chain = chain


#: The task that handles a message, and the actors whose calls led to it. Tasks
#: that a handler starts inherit the variable, but it does not speak of them.
handling: ContextVar[tuple[trio.lowlevel.Task, tuple[ActorRef[Any], ...]] | None] = (
    ContextVar("handling", default=None)
)


@attrs.frozen
class InboxStatistics:
    """How an inbox fares."""

    depth: int
    max_inbox: int
    refused: int
    """Messages that found it full, since the ref was made."""


@final
class ActorRef(Generic[A]):
    """The address of an actor of type *A*.

    ``await ref.call(Class.method, *args)`` runs the method in the actor and
    returns what it returned; ``ref.cast(...)`` only leaves the message. Time
    limits are cancel scopes around the call.
    """

    __slots__ = (
        "__weakref__",
        "_refused",
        "_retired",
        "_send",
        "inbox",
        "max_inbox",
        "name",
        "unread",
    )

    def __init__(self, name: str, *, max_inbox: int = DEFAULT_MAX_INBOX) -> None:
        self.name = name
        self.max_inbox = max_inbox
        self._send: trio.MemorySendChannel[Envelope]
        self._send, self.inbox = trio.open_memory_channel[Envelope](max_inbox)
        self.unread: Envelope | None = None
        """Taken from the inbox, but not handled: first in line."""
        self._retired = False
        self._refused = 0

    @overload
    async def call(
        self,
        method: Callable[Concatenate[A, P], Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    async def call(
        self,
        method: Callable[Concatenate[A, P], R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    async def call(
        self, method: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Run ``method(actor, *args, **kwargs)`` in the actor; return its result.

        A handler that returns a `Reply` answers later; the reply's value is
        returned. If the caller is cancelled before its turn, the message is
        skipped; after that, it is carried out and its result dropped.

        Raises:
            ActorDied: the handler raised, or the actor died before a late reply.
            ActorStopped: the actor does not run and will not be restarted.
            InboxFull: ``max_inbox`` messages wait already.
            CallingSelf: the actor is waiting, through this call, for itself.
        """
        reply: Reply[Any] = self._send_request(method, args, kwargs)
        return await reply.wait()

    @overload
    def send_request(
        self,
        method: Callable[Concatenate[A, P], Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Reply[R]: ...
    @overload
    def send_request(
        self,
        method: Callable[Concatenate[A, P], R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Reply[R]: ...
    def send_request(
        self, method: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Make a call, and wait for its `Reply` later, or for several at once.

        OTP's ``gen_server:send_request``. Whoever does not want the reply any
        more should `abandon` it. Raises as `call` does; what becomes of the
        message is raised by the reply.
        """
        return self._send_request(method, args, kwargs)

    def _send_request(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Reply[Any]:
        context = handling.get()
        chain: tuple[ActorRef[Any], ...] = ()
        if context is not None and context[0] is trio.lowlevel.current_task():
            chain = context[1]
            if self in chain:
                path = " -> ".join(ref.name for ref in (*chain, self))
                raise CallingSelf(self.name, f"a call would wait for itself: {path}")
        reply: Reply[Any] = Reply()
        self._post(Envelope(method, args, kwargs, reply, chain))
        return reply

    def cast(
        self,
        method: Callable[Concatenate[A, P], object],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Leave the message and go on; never blocks.

        A handler's result is dropped, and its crash is the supervisor's business.

        Raises:
            ActorStopped: the actor does not run and will not be restarted.
            InboxFull: ``max_inbox`` messages wait already.
        """
        self._post(Envelope(method, args, kwargs, None, ()))

    def _post(self, envelope: Envelope) -> None:
        if self._retired:
            raise ActorStopped(self.name, f"actor {self.name!r} is not running")
        try:
            self._send.send_nowait(envelope)
        except trio.WouldBlock:
            self._refused += 1
            raise InboxFull(
                self.name,
                f"actor {self.name!r} has {self.max_inbox} messages waiting",
            ) from None

    @property
    def depth(self) -> int:
        """How many messages wait."""
        waiting = self._send.statistics().current_buffer_used
        return waiting if self.unread is None else waiting + 1

    def statistics(self) -> InboxStatistics:
        """Return how the inbox fares."""
        return InboxStatistics(self.depth, self.max_inbox, self._refused)

    def revive(self) -> None:
        """Take messages (again): an incarnation is about to start."""
        self._retired = False

    def retire(self) -> None:
        """Refuse what waits and what comes, until `revive`."""
        self._retired = True
        waiting = [] if self.unread is None else [self.unread]
        self.unread = None
        while True:
            try:
                waiting.append(self.inbox.receive_nowait())
            except trio.WouldBlock:
                break
        for envelope in waiting:
            if envelope.reply is not None:
                envelope.reply.fail(
                    ActorStopped(self.name, f"actor {self.name!r} has been stopped")
                )

    def __repr__(self) -> str:
        return f"<ActorRef {self.name!r}>"
