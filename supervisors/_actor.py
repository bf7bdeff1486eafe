"""The loop of one incarnation of an actor: take a message, run the method, answer.

A polite stop is looked for between two messages, so it overtakes all that
wait, and lets the message at hand be finished. When the loop ends, for
whatever reason, the caller whose message was at hand and those who were
promised a late `Reply` learn it at once; messages not yet taken stay in the
ref's inbox.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, cast, overload

import trio

from supervisors._errors import ActorDied
from supervisors._probe import Probe
from supervisors._process import Process
from supervisors._ref import ActorRef, Envelope, handling
from supervisors._reply import Reply
from supervisors._spec import ChildSpec, Restart, ShutdownTime

A = TypeVar("A")
P = ParamSpec("P")

_Pending: TypeAlias = "types.CoroutineType[Any, None, Any]"

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
    return actor_spec(ref, lambda: factory(*args, **kwargs))


def actor_spec(
    ref: ActorRef[A],
    factory: Callable[[], A | AbstractAsyncContextManager[A]],
    *,
    id: str | None = None,  # noqa: A002 - OTP's word, and the field's name
    restart: Restart = Restart.PERMANENT,
    shutdown: ShutdownTime = 5.0,
    significant: bool = False,
) -> ChildSpec:
    """Describe an actor as a child, with all that a child spec can say."""

    async def body(process: Process) -> None:
        ref.revive()
        made: Any = factory()
        if isinstance(made, AbstractAsyncContextManager):
            async with cast("AbstractAsyncContextManager[A]", made) as this:
                await _Loop(ref, this, process).run()
        else:
            await _Loop(ref, made, process).run()

    return ChildSpec(
        id=ref.name if id is None else id,
        body=body,
        restart=restart,
        shutdown=shutdown,
        significant=significant,
        address=ref,
    )


class _Loop(Generic[A]):
    """One incarnation."""

    __slots__ = (
        "_at_hand",
        "_methods",
        "_parked",
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
        self._scope = trio.CancelScope()
        self._parked = False
        self._at_hand: Envelope | None = None
        self._promised = set[Reply[Any]]()
        self._methods = dict[Callable[..., Any], Callable[..., Any]]()

    async def run(self) -> None:
        process = self._process
        process.on_stop = self._stop
        process.on_crash = self._scope.cancel
        process.on_abandon = self._fail_pending
        error: BaseException | None = None
        try:
            process.started()
            with self._scope:
                await self._serve()
            process.raise_if_crashed()
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._fail_pending(error)

    def _stop(self) -> None:
        if self._parked:
            self._scope.cancel()

    async def _serve(self) -> None:
        ref, process = self._ref, self._process
        probe = process.tree.probe
        receive_nowait = ref.inbox.receive_nowait
        turns = MESSAGES_PER_TURN
        envelope: Envelope | None = None
        if not process.stopping:
            # What the last incarnation was given and could not begin comes first.
            envelope, ref.unread = ref.unread, None
        while not process.stopping:
            try:
                if envelope is None:
                    envelope = receive_nowait()
            except trio.WouldBlock:
                turns = MESSAGES_PER_TURN
                self._parked = True
                envelope = await ref.inbox.receive()
                self._parked = False
                if self._scope.cancel_called:
                    # The stop came between the message and our waking up.
                    ref.unread = envelope
                    return
            if probe is not None:
                await self._handle_watched(probe, envelope)
            else:
                pending = self._handle(envelope)
                if pending is not None:
                    await self._finish(envelope, pending)
            # It may be large, and the wait for the next one long.
            envelope = pending = None
            turns -= 1
            if not turns:
                turns = MESSAGES_PER_TURN
                await trio.lowlevel.checkpoint()

    def _handle(self, envelope: Envelope) -> _Pending | None:
        """Run a message; return the handler's coroutine if it has to wait."""
        reply = envelope.reply
        if reply is not None and reply.abandoned:
            return None
        self._at_hand = envelope
        method = self._methods.get(envelope.method) or self._look_up(envelope.method)
        result: Any = method(self._this, *envelope.args, **envelope.kwargs)
        if type(result) is types.CoroutineType:
            return cast("_Pending", result)
        if reply is not None:
            self._answer(reply, result)
        self._at_hand = None
        return None

    async def _handle_watched(self, probe: Probe, envelope: Envelope) -> None:
        """Handle a message as often as the probe says; see `supervisors.testing`."""
        if envelope.reply is not None and envelope.reply.abandoned:
            return
        self._at_hand = envelope
        for _ in range(await probe.before(self._process, envelope)):
            pending = self._handle(envelope)
            if pending is not None:
                await self._finish(envelope, pending)
        self._at_hand = None
        probe.after(self._process, envelope)

    async def _finish(self, envelope: Envelope, pending: _Pending) -> None:
        task = trio.lowlevel.current_task()
        token = handling.set((task, (*envelope.chain, self._ref)))
        try:
            result = await pending
        finally:
            handling.reset(token)
        if envelope.reply is not None:
            self._answer(envelope.reply, result)
        self._at_hand = None

    def _answer(self, reply: Reply[Any], result: Any) -> None:
        if isinstance(result, Reply):
            late = cast("Reply[object]", result)
            late.forward_to(reply, self._promised.discard)
            if not (late.settled or late.abandoned):
                self._promised.add(late)
        else:
            reply.send(result)

    def _look_up(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Find the actor's own version of *method*, as an ordinary call would."""
        qualified = getattr(method, "__qualname__", "")
        owner, _, name = qualified.rpartition(".")
        if not owner or owner.endswith("<locals>"):
            # A function that is no method. It may be a new one for every call,
            # so it must not be kept.
            return method
        found = self._methods[method] = getattr(type(self._this), name, method)
        return found

    def _fail_pending(self, error: BaseException | None = None) -> None:
        ref, at_hand = self._ref, self._at_hand
        if at_hand is not None and at_hand.reply is not None:
            name = getattr(at_hand.method, "__qualname__", repr(at_hand.method))
            at_hand.reply.fail(_died(ref, f"died in {name}", error))
        for reply in list(self._promised):
            reply.fail(_died(ref, "ended before it could answer", error))


def _died(ref: ActorRef[Any], what: str, error: BaseException | None) -> ActorDied:
    if error is None or isinstance(error, trio.Cancelled):
        return ActorDied(ref.name, f"actor {ref.name!r} {what}")
    # The name only: what an exception says may be a secret of the caller's.
    died = ActorDied(ref.name, f"actor {ref.name!r} {what}: {type(error).__name__}")
    died.__cause__ = error
    return died
