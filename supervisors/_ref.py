"""The address of an actor: typed calls and casts into its inbox.

A ref is made once and wired into whoever needs it. It is valid before the
actor starts, while it runs, and after every restart.

    waiting    no incarnation yet, or between two: messages wait
    running    an incarnation reads the inbox
    retired    nobody will come: calls fail at once with `ActorStopped`
"""

from __future__ import annotations

import abc
import math
from collections.abc import Awaitable, Callable
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    TypeVar,
    final,
    overload,
)

import trio

from supervisors._errors import AlreadyStarted, CallExpired, CallingSelf, InboxFull
from supervisors._inbox import (
    Awaited,
    Envelope,
    Inbox,
    InboxStatistics,
    OnFull,
    handling,
)
from supervisors._reply import Reply

if TYPE_CHECKING:
    from supervisors._process import Process

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_MAX_INBOX = 1000


class Address(abc.ABC, Generic[A]):
    """What calls and casts can be sent to: an `ActorRef`, or its lane ahead.

    ``await ref.call(Class.method, *args)`` runs the method in the actor and
    returns what it returned; ``ref.cast(...)`` only leaves the message. Time
    limits are cancel scopes around the call.
    """

    __slots__ = ()

    _has_deadlines: bool = False

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
            CallExpired: the deadline had passed (for refs with ``deadlines``).
            CallingSelf: the actor is waiting, through this call, for itself.
        """
        envelope, reply = self._request(method, args, kwargs)
        try:
            self._post(envelope)
        except InboxFull:
            inbox = self._actor().inbox
            if inbox.on_full is not OnFull.WAIT:
                raise
            inbox.refused -= 1
            await self._wait_post(envelope)
        try:
            return await reply.wait()
        except CallExpired as error:
            expired = error
        # The cancel scope that set the deadline ends the caller, if it still is
        # the caller's: the error is for a deadline that was moved.
        await trio.lowlevel.checkpoint()
        raise expired

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
        message is raised by the reply. An actor that sends one counts as waiting
        for it until it has been handled: a call back to it is `CallingSelf`.
        """
        envelope, reply = self._request(method, args, kwargs)
        self._post(envelope)
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
        if self._has_deadlines:
            deadline = self._deadline()
            self._post(Awaited(method, args, kwargs, None, (), deadline))
        else:
            self._post(Envelope(method, args, kwargs))

    async def wait_cast(
        self,
        method: Callable[Concatenate[A, P], object],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Leave the message as soon as there is room for it.

        For a sender that is to be no faster than the actor. The wait counts
        as a call: an actor cannot wait for room in an inbox that waits for it.

        Raises:
            ActorStopped: the actor does not run and will not be restarted.
            CallingSelf: the actor would wait for itself.
        """
        envelope, _ = self._request(method, args, kwargs)
        # It is only left: nobody waits for it once it is in.
        envelope.reply, envelope.chain = None, ()
        await self._wait_post(envelope)

    def _request(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Awaited, Reply[Any]]:
        context = handling.get()
        chain: tuple[ActorRef[Any], ...] = ()
        if context is not None and context[0] is trio.lowlevel.current_task():
            chain = context[1]
            this = self._actor()
            if this in chain:
                path = " -> ".join(ref.name for ref in (*chain, this))
                raise CallingSelf(this.name, f"a call would wait for itself: {path}")
        reply: Reply[Any] = Reply()
        deadline = self._deadline() if self._has_deadlines else None
        return Awaited(method, args, kwargs, reply, chain, deadline), reply

    @abc.abstractmethod
    def _actor(self) -> ActorRef[A]: ...

    @abc.abstractmethod
    def _post(self, envelope: Envelope) -> None: ...

    async def _wait_post(self, envelope: Awaited) -> None:
        self._post(envelope)
        await trio.lowlevel.checkpoint()

    def _deadline(self) -> float | None:
        deadline = trio.current_effective_deadline()
        # In a scope that has been cancelled, what is sent belongs to its cleanup.
        return None if math.isinf(deadline) else deadline


@final
class ActorRef(Address[A]):
    """The address of an actor of type *A*, valid across its restarts.

    Args:
        name: for people, reports and errors; it need not be unique.
        max_inbox: how many messages may wait.
        on_full: what happens to one more.
        deadlines: messages carry the deadline of the cancel scopes that they are
            sent in, and are skipped when it has passed before their turn.
    """

    __slots__ = (
        "__weakref__",
        "_has_deadlines",
        "_retired",
        "inbox",
        "name",
        "process",
    )

    def __init__(
        self,
        name: str,
        *,
        max_inbox: float = DEFAULT_MAX_INBOX,
        on_full: OnFull = OnFull.RAISE,
        deadlines: bool = False,
    ) -> None:
        self.name = name
        self.inbox = Inbox(name, max_inbox, on_full)
        self.process: Process | None = None
        """The incarnation that runs, or the last one that did."""
        self._has_deadlines = deadlines
        self._retired = False

    @property
    def max_inbox(self) -> float:
        """How many messages may wait."""
        return self.inbox.max_messages

    @property
    def ahead(self) -> Address[A]:
        """The actor's lane for control messages: they are handled before all others.

        It has no limit, and is meant for the few that must not wait.
        """
        return _Ahead(self)

    # Debugging, as OTP's ``sys``.

    async def suspend(self) -> None:
        """Have the actor handle control messages only, until `resume`.

        It can still be stopped. A restart resumes it. Raises as `call` does.
        """
        await self.ahead.call(self._set_suspended, True)

    async def resume(self) -> None:
        """Go on after `suspend`. Raises as `call` does."""
        await self.ahead.call(self._set_suspended, False)

    async def get_state(self) -> A:
        """Return the actor itself, for a look between two messages.

        It is no copy: whoever changes it, or keeps it, breaks what actors are for.
        Works on a suspended actor too. Raises as `call` does.
        """
        return await self.ahead.call(_itself)

    def _set_suspended(self, _actor: A, suspended: bool) -> None:
        self.inbox.suspend(suspended)

    # For `Address`.

    def _actor(self) -> ActorRef[A]:
        return self

    def _post(self, envelope: Envelope) -> None:
        if self._retired:
            raise self.inbox.stopped()
        self.inbox.put(envelope)

    async def _wait_post(self, envelope: Awaited) -> None:
        if self._retired:
            raise self.inbox.stopped()
        await self.inbox.wait_put(envelope)

    # For the actor's loop and its supervisor.

    @property
    def is_retired(self) -> bool:
        """Whether nobody will come to handle messages."""
        return self._retired

    @property
    def depth(self) -> int:
        """How many messages wait."""
        return self.inbox.depth

    def statistics(self) -> InboxStatistics:
        """Return how the inbox fares."""
        return self.inbox.statistics()

    def revive(self, process: Process) -> None:
        """Take messages (again): *process* is about to start.

        Raises:
            AlreadyStarted: an actor runs behind this ref; it goes on undisturbed.
        """
        if (other := self._running()) is not None:
            msg = (
                f"the ref {self.name!r} has an actor that runs, at {other.path!r};"
                " another one needs a ref of its own"
            )
            raise AlreadyStarted(self.name, msg)
        self._retired = False
        self.inbox.new_incarnation()
        self.process = process

    def retire(self) -> None:
        """Refuse what waits and what comes, until `revive`."""
        if self._running() is not None:
            return  # a child that did not start, as this ref was another's already
        self._retired = True
        self.inbox.refuse_all()

    def _running(self) -> Process | None:
        process = self.process
        return None if process is None or process.exit is not None else process

    def __repr__(self) -> str:
        return f"<ActorRef {self.name!r}>"


class _Ahead(Address[A]):
    """The control lane of an actor."""

    __slots__ = ("_ref",)

    def __init__(self, ref: ActorRef[A]) -> None:
        self._ref = ref

    def _actor(self) -> ActorRef[A]:
        return self._ref

    def _post(self, envelope: Envelope) -> None:
        if self._ref.is_retired:
            raise self._ref.inbox.stopped()
        self._ref.inbox.put_ahead(envelope)

    def __repr__(self) -> str:
        return f"<ActorRef {self._ref.name!r}, ahead>"


def _itself(actor: A) -> A:
    return actor
