"""What waits for an actor, in which order it is taken, and what happens when it is full.

Taken first are control messages (suspend, `Down`, whatever is sent ahead), then
timers whose time has come, then messages in the order of their arrival:

    control    unbounded, but each has one who waits for it, or is one of a few
    timers     a heap; no task sleeps for them, the wait for messages has a deadline
    messages   a bounded trio memory channel; when it is full, `OnFull` decides

The inbox belongs to the ref and not to an incarnation, so it outlives a crash.
"""

from __future__ import annotations

import contextlib
import enum
import heapq
import math
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import attrs
import trio

from supervisors._errors import (
    ActorStopped,
    CallError,
    CallExpired,
    InboxFull,
    MessageDropped,
)
from supervisors._reply import Reply

if TYPE_CHECKING:
    from supervisors._ref import ActorRef
    from supervisors._timer import Timer

#: The task that handles a message, and the actors whose calls led to it. Tasks
#: that a handler starts inherit the variable, but it does not speak of them.
handling: ContextVar[tuple[trio.lowlevel.Task, tuple[ActorRef[Any], ...]] | None] = (
    ContextVar("handling", default=None)
)

#: So many cancelled timers may stand in a heap, whatever its size.
STALE_TIMERS = 16


class OnFull(enum.Enum):
    """What happens to a message that finds the inbox full."""

    RAISE = "raise"
    """`InboxFull` at the sender."""
    WAIT = "wait"
    """``call`` waits for room; ``cast`` cannot, and raises `InboxFull`."""
    DROP_OLDEST = "drop_oldest"
    """The message that has waited longest gives way."""
    DROP_NEWEST = "drop_newest"
    """The message is not taken; a cast ends silently, a call raises `MessageDropped`."""


class Envelope:
    """A message on its way: which method, with what. This one is a cast."""

    __slots__ = ("args", "kwargs", "method")

    reply: Reply[Any] | None = None
    """Where the answer goes."""
    chain: tuple[ActorRef[Any], ...] = ()
    """The actors that wait for it, through their calls."""
    deadline: float | None = None
    """When nobody wants it any more."""

    def __init__(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.method = method
        self.args = args
        self.kwargs = kwargs


class Awaited(Envelope):
    """A message that somebody waits for, or that has a deadline."""

    __slots__ = ("chain", "deadline", "refused", "reply")

    def __init__(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        reply: Reply[Any] | None,
        chain: tuple[ActorRef[Any], ...],
        deadline: float | None = None,
    ) -> None:
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.reply = reply
        self.chain = chain
        self.deadline = deadline
        self.refused = False
        """It was in the inbox when the actor was stopped for good."""


@attrs.frozen
class InboxStatistics:
    """How an inbox fares. Counts are since the ref was made."""

    depth: int
    """Messages that wait now."""
    max_inbox: float
    refused: int
    """Messages that found it full, and whose sender was told."""
    dropped: int = 0
    """Messages lost to ``drop_oldest`` or ``drop_newest``."""
    expired: int = 0
    """Messages skipped because their deadline had passed."""
    abandoned: int = 0
    """Calls skipped because their caller had given up."""
    waiting_senders: int = 0
    """Calls and ``wait_cast`` that wait for room now."""


class Inbox:
    """The messages of one actor; the actor's loop is their only reader."""

    __slots__ = (
        "_reader",
        "_round",
        "_send",
        "_stale_timers",
        "abandoned",
        "control",
        "dropped",
        "expired",
        "max_messages",
        "name",
        "on_full",
        "receive_nowait",
        "refused",
        "special",
        "suspended",
        "timers",
    )

    def __init__(self, name: str, max_messages: float, on_full: OnFull) -> None:
        if max_messages != math.inf and not (
            isinstance(max_messages, int) and max_messages >= 1
        ):
            msg = f"max_inbox must be at least 1 message, or math.inf, not {max_messages!r}"
            raise ValueError(msg)
        self._send: trio.MemorySendChannel[Envelope] | None = None
        """Opened by the first message: it is a third of what an idle actor costs."""
        self.receive_nowait: Callable[[], Envelope] = _nothing_yet
        """Takes a message, raises `trio.WouldBlock`; only while nothing is ``special``."""
        self.special = False
        """There is, or may be, more to look at than messages: then `take`."""
        self._reader: trio.lowlevel.Task | None = None
        self.name = name
        self.max_messages = max_messages
        self.on_full = on_full
        self.control: deque[Envelope] | None = None
        self.timers: list[Timer] | None = None
        self.suspended = False
        self._round = 0
        """Counts the messages, as far as timers have to take turns with them."""
        self._stale_timers = 0
        self.refused = self.dropped = self.expired = self.abandoned = 0

    # The senders' side.

    def put(self, envelope: Envelope) -> None:
        """Leave a message.

        Raises:
            InboxFull, MessageDropped: there is no room; see `OnFull`.
        """
        send = self._send
        try:
            if send is None:
                send = self._open()
            send.send_nowait(envelope)
        except trio.WouldBlock:
            self._put_in_full(envelope)
        reader = self._reader
        if reader is not None:
            self._reader = None
            trio.lowlevel.reschedule(reader)

    async def wait_put(self, envelope: Awaited) -> None:
        """Leave a message as soon as there is room.

        Raises:
            ActorStopped: the actor has been stopped for good meanwhile.
        """
        await (self._send or self._open()).send(envelope)
        if envelope.refused:
            raise self.stopped()
        self.wake()

    def _open(self) -> trio.MemorySendChannel[Envelope]:
        self._send, receive = trio.open_memory_channel[Envelope](self.max_messages)
        self.receive_nowait = receive.receive_nowait
        return self._send

    def put_ahead(self, envelope: Envelope) -> None:
        """Leave a control message: it is taken before all others."""
        if self.control is None:
            self.control = deque[Envelope]()
        self.control.append(envelope)
        self.special = True
        self.wake()

    def _put_in_full(self, envelope: Envelope) -> None:
        match self.on_full:
            case OnFull.DROP_OLDEST:
                self._put_for_the_oldest(envelope)
            case OnFull.DROP_NEWEST if envelope.reply is None:
                self.dropped += 1
            case OnFull.DROP_NEWEST:
                self.dropped += 1
                raise MessageDropped(self.name, self._is_full())
            case _:
                self.refused += 1
                raise InboxFull(self.name, self._is_full())

    def _put_for_the_oldest(self, envelope: Envelope) -> None:
        # A `wait_cast` that waits for room came before, and takes what is made.
        while True:
            self._drop(self.receive_nowait())
            with contextlib.suppress(trio.WouldBlock):
                (self._send or self._open()).send_nowait(envelope)
                return

    def _drop(self, envelope: Envelope) -> None:
        self.dropped += 1
        if envelope.reply is not None:
            envelope.reply.fail(MessageDropped(self.name, self._is_full()))

    def _is_full(self) -> str:
        return f"actor {self.name!r} has {self.max_messages} messages waiting"

    # The reader's side.

    def take(self) -> Envelope | None:
        """Return what is to be handled next, or None if nothing is."""
        if self.control:
            return self.control.popleft()
        if self.suspended:
            return None
        due = None
        if self.timers:
            due = self._take_due(self.timers)
        else:
            self.special = False
        if due is None:
            self._round += 1
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                return self._take_due(self.timers) if self.timers else None
        return due

    def _take_due(self, timers: list[Timer]) -> Envelope | None:
        now = trio.current_time()
        while timers and (timers[0].cancelled or timers[0].when <= now):
            timer = timers[0]
            if timer.cancelled:
                heapq.heappop(timers)
                self._stale_timers -= 1
                continue
            if timer.round == self._round:
                # An interval shorter than its handler is always due. It must not
                # keep all messages waiting for ever.
                return None
            timer.round = self._round
            heapq.heappop(timers)
            if timer.advance(now):
                heapq.heappush(timers, timer)
            return timer.envelope
        return None

    def skips(self, envelope: Envelope) -> bool:
        """Say whether nobody wants *envelope* any more, and take note of it."""
        reply = envelope.reply
        if reply is not None and reply.abandoned:
            self.abandoned += 1
            return True
        deadline = envelope.deadline
        if deadline is not None and deadline <= trio.current_time():
            self.expired += 1
            if reply is not None:
                reply.fail(
                    CallExpired(
                        self.name,
                        f"the deadline of the call had passed before {self.name!r}"
                        " came to it",
                    )
                )
            return True
        return False

    async def park(self) -> None:
        """Wait until there may be something to take, or `wake` is called."""
        self._reader = trio.lowlevel.current_task()
        if self.timers and not self.suspended:
            with trio.CancelScope(deadline=self.timers[0].when):
                await trio.lowlevel.wait_task_rescheduled(self._abort)
        else:
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    def wake(self) -> None:
        """Have the reader look again."""
        reader, self._reader = self._reader, None
        if reader is not None:
            trio.lowlevel.reschedule(reader)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    # Timers.

    def add_timer(self, timer: Timer) -> None:
        """Have the timer's message taken when its time has come."""
        if self.timers is None:
            self.timers = []
        heapq.heappush(self.timers, timer)
        self.special = True
        if self.timers[0] is timer:
            self.wake()

    def suspend(self, suspended: bool) -> None:
        """Hand out control messages only, or everything again."""
        self.suspended = suspended
        self.special = True

    def new_incarnation(self) -> None:
        """Forget what was about the last one."""
        self.suspended = False
        if self.timers:
            for timer in list(self.timers):
                if timer.of_incarnation:
                    timer.cancel()

    def timer_cancelled(self) -> None:
        """Take note of it: a heap must not fill up with what will not come."""
        self._stale_timers += 1
        timers = self.timers
        if timers and self._stale_timers > max(STALE_TIMERS, len(timers) // 2):
            timers[:] = [timer for timer in timers if not timer.cancelled]
            heapq.heapify(timers)
            self._stale_timers = 0

    # For all.

    @property
    def depth(self) -> int:
        """How many messages wait."""
        ahead = len(self.control) if self.control else 0
        if self._send is None:
            return ahead
        return ahead + self._send.statistics().current_buffer_used

    def refuse_all(self) -> None:
        """Drop everything, for nobody will come; callers get `ActorStopped`."""
        waiting = list(self.control or ())
        self.control = self.timers = None
        self._stale_timers = 0
        self.suspended = self.special = False
        while True:
            try:
                waiting.append(self.receive_nowait())
            except trio.WouldBlock:
                break
        for envelope in waiting:
            if isinstance(envelope, Awaited):
                envelope.refused = True
            if envelope.reply is not None:
                envelope.reply.fail(self.stopped())

    def stopped(self) -> CallError:
        """Return the error for those who call nobody."""
        return ActorStopped(self.name, f"actor {self.name!r} is not running")

    def statistics(self) -> InboxStatistics:
        """Return how the inbox fares."""
        return InboxStatistics(
            depth=self.depth,
            max_inbox=self.max_messages,
            refused=self.refused,
            dropped=self.dropped,
            expired=self.expired,
            abandoned=self.abandoned,
            waiting_senders=0
            if self._send is None
            else self._send.statistics().tasks_waiting_send,
        )


def _nothing_yet() -> Envelope:
    raise trio.WouldBlock
