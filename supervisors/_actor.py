"""The loop of one incarnation of an actor: take a message, run the method, answer.

A polite stop is looked for between two messages, so it overtakes all that
wait, and lets the message at hand be finished. When the loop ends, for
whatever reason, the caller whose message was at hand and those who were
promised a late `Reply` learn it at once; messages not yet taken stay in the
ref's inbox.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, cast, final, overload
from weakref import WeakKeyDictionary

import attrs
import trio

from supervisors._backoff import Backoff
from supervisors._errors import ActorDied
from supervisors._inbox import Envelope, handling
from supervisors._probe import Probe
from supervisors._process import Process
from supervisors._ref import ActorRef
from supervisors._reply import Continue, Reply
from supervisors._spec import ChildSpec, Restart, ShutdownTime

A = TypeVar("A")
P = ParamSpec("P")

_Pending: TypeAlias = "Coroutine[Any, Any, Any]"

#: Messages that are handled in a row before other tasks get their turn.
MESSAGES_PER_TURN = 64


@overload
def actor(
    ref: ActorRef[A],
    factory: Callable[P, AbstractAsyncContextManager[A]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> ChildSpec: ...
@overload
def actor(
    ref: ActorRef[A],
    factory: Callable[P, A],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> ChildSpec: ...
def actor(
    ref: ActorRef[A],
    factory: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> ChildSpec:
    """Describe an actor as a child: every incarnation calls *factory* anew.

    The factory is the actor's init. If it returns an async context manager,
    entering it is the rest of init, and leaving it is the actor's cleanup.
    To choose restart type or shutdown time, use ``attrs.evolve`` or
    `actor_spec`.
    """
    made = partial(factory, *args, **kwargs) if args or kwargs else factory
    return actor_spec(ref, made)


def actor_spec(
    ref: ActorRef[A],
    factory: Callable[[], A | AbstractAsyncContextManager[A]],
    *,
    id: str | None = None,  # noqa: A002 - OTP's word, and the field's name
    restart: Restart = Restart.PERMANENT,
    shutdown: ShutdownTime = 5.0,
    significant: bool = False,
    backoff: Backoff | None = None,
) -> ChildSpec:
    """Describe an actor as a child, with all that a child spec can say.

    The factory takes no arguments: with some, evolve what `actor` returns.
    """
    return ChildSpec(
        id=ref.name if id is None else id,
        body=_Body(ref, factory),
        restart=restart,
        shutdown=shutdown,
        significant=significant,
        backoff=backoff,
        address=ref,
    )


@attrs.frozen
class _Body(Generic[A]):
    """What runs one incarnation after the other."""

    ref: ActorRef[A]
    factory: Callable[[], A | AbstractAsyncContextManager[A]]

    def __call__(self, process: Process) -> Coroutine[Any, Any, None]:
        ref = self.ref
        ref.revive(process)
        made: Any = self.factory()
        if type(made) is types.CoroutineType:
            made.close()
            msg = (
                f"the factory of actor {ref.name!r} is an async function; an init that"
                " waits is an @asynccontextmanager that yields the actor"
            )
            raise TypeError(msg)
        if isinstance(made, AbstractAsyncContextManager):
            entered = cast("AbstractAsyncContextManager[A]", made)
            return _run_entered(ref, entered, process)
        return _Loop(ref, made, process).run()


async def _run_entered(
    ref: ActorRef[A], manager: AbstractAsyncContextManager[A], process: Process
) -> None:
    async with manager as this:
        await _Loop(ref, this, process).run()


#: The methods that were called on actors of each class, by what callers named.
_methods: WeakKeyDictionary[type, dict[Callable[..., Any], Callable[..., Any]]] = (
    WeakKeyDictionary()
)


@final
class _Loop(Generic[A]):
    """One incarnation."""

    __slots__ = (
        "_at_hand",
        "_methods",
        "_next",
        "_process",
        "_promised",
        "_ref",
        "_scope",
        "_this",
    )

    def __init__(self, ref: ActorRef[A], this: A, process: Process) -> None:
        self._ref = ref
        self._this = this
        self._process = process
        self._scope: trio.CancelScope | None = None
        """Around the handler that waits, if one does."""
        self._at_hand: Envelope | None = None
        self._promised: set[Reply[Any]] | None = None
        self._next: Envelope | None = None
        """What the last handler, or init, wants done before anything else."""
        first: Callable[..., Any] | None = getattr(type(this), "handle_continue", None)
        if first is not None:
            self._next = Envelope(first, (), {})
        methods = _methods.get(type(this))
        if methods is None:
            methods = _methods[type(this)] = {}
        self._methods = methods

    async def run(self) -> None:
        process, inbox = self._process, self._ref.inbox
        probe = process.tree.probe
        turns = MESSAGES_PER_TURN
        process.driver = self
        error: BaseException | None = None
        try:
            process.started()
            while not process.halted or (self._next and process.may_finish):
                envelope = self._next
                if envelope is None:
                    try:
                        envelope = (
                            inbox.take() if inbox.special else inbox.receive_nowait()
                        )
                    except trio.WouldBlock:
                        envelope = None
                if envelope is None:
                    turns = MESSAGES_PER_TURN
                    await inbox.park()
                    continue
                self._next = None
                if probe is not None:
                    await self._handle_watched(probe, envelope)
                else:
                    pending = self._handle(envelope)
                    if pending is not None:
                        await self._finish(envelope, pending)
                        # It may be large, and the wait for the next one long.
                        pending = None
                envelope = None
                turns -= 1
                if not turns:
                    turns = MESSAGES_PER_TURN
                    await trio.lowlevel.checkpoint()
            process.raise_if_crashed()
            # What was killed ends as killed, wherever it was.
            await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._fail_pending(error)

    # The driver of the process.

    def stop(self) -> None:
        """End between two messages: what is at hand is finished."""
        self._ref.inbox.wake()

    def crash(self) -> None:
        """Break off the handler that waits."""
        self._ref.inbox.wake()
        if self._scope is not None:
            self._scope.cancel()

    def abandon(self) -> None:
        """Tell those who wait for an answer."""
        self._fail_pending()

    # Messages.

    def _handle(self, envelope: Envelope) -> _Pending | None:
        """Run a message; return what has to be awaited, if anything has to."""
        reply = envelope.reply
        if (
            reply is not None or envelope.deadline is not None
        ) and self._ref.inbox.skips(envelope):
            return None
        self._at_hand = envelope
        method = self._methods.get(envelope.method) or self._look_up(envelope.method)
        result: Any = method(self._this, *envelope.args, **envelope.kwargs)
        if type(result) is types.CoroutineType:
            return cast("_Pending", result)
        self._answer(reply, result)
        self._at_hand = None
        return None

    async def _handle_watched(self, probe: Probe, envelope: Envelope) -> None:
        """Handle a message as often as the probe says; see `supervisors.testing`."""
        if self._ref.inbox.skips(envelope):
            return
        self._at_hand = envelope
        times = 0
        scope = self._scope = trio.CancelScope()
        with scope:
            times = await probe.before(self._process, envelope)
        self._scope = None
        if scope.cancelled_caught:
            self._process.raise_if_crashed()
        for _ in range(times):
            pending = self._handle(envelope)
            if pending is not None:
                await self._finish(envelope, pending)
        self._at_hand = None
        probe.after(self._process, envelope)

    async def _finish(self, envelope: Envelope, pending: _Pending) -> None:
        task = trio.lowlevel.current_task()
        token = handling.set((task, (*envelope.chain, self._ref)))
        result: Any = None
        scope = self._scope = trio.CancelScope()
        try:
            with scope:
                result = await pending
        finally:
            handling.reset(token)
            self._scope = None
        if scope.cancelled_caught:
            self._process.raise_if_crashed()
        self._answer(envelope.reply, result)
        self._at_hand = None

    def _answer(self, reply: Reply[Any] | None, result: Any) -> None:
        if isinstance(result, Continue):
            what = cast("Continue[object]", result)
            self._next = Envelope(what.method, what.args, what.kwargs)
            self._answer(reply, what.value)
        elif reply is None:
            pass
        elif isinstance(result, Reply):
            late = cast("Reply[object]", result)
            if self._promised is None:
                self._promised = set[Reply[Any]]()
            late.forward_to(reply, self._promised.discard)
            if not (late.settled or late.abandoned):
                self._promised.add(late)
        else:
            reply.send(result)

    def _look_up(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Find the actor's own version of *method*, as an ordinary call would."""
        qualified = getattr(method, "__qualname__", "")
        owner, _, name = qualified.rpartition(".")
        if not owner or owner.endswith("<locals>") or hasattr(method, "__self__"):
            # A function that is no method of the actor. It may be a new one for
            # every call, so it must not be kept.
            return method
        found = self._methods[method] = getattr(type(self._this), name, method)
        return found

    def _fail_pending(self, error: BaseException | None = None) -> None:
        ref, at_hand = self._ref, self._at_hand
        if at_hand is not None and at_hand.reply is not None:
            name = getattr(at_hand.method, "__qualname__", repr(at_hand.method))
            at_hand.reply.fail(_died(ref, f"died in {name}", error))
        for reply in list(self._promised or ()):
            reply.fail(_died(ref, "ended before it could answer", error))


def _died(ref: ActorRef[Any], what: str, error: BaseException | None) -> ActorDied:
    if error is None or isinstance(error, trio.Cancelled):
        return ActorDied(ref.name, f"actor {ref.name!r} {what}")
    # The name only: what an exception says may be a secret of the caller's.
    died = ActorDied(ref.name, f"actor {ref.name!r} {what}: {type(error).__name__}")
    died.__cause__ = error
    return died
