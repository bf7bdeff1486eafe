"""Messages that come later: once, at intervals, or when a state has lasted too long.

A timer costs no task: it stands in the inbox of the actor that it is for, whose
loop waits for messages no longer than until the first timer is due. A timer
that is cancelled never comes, however late the cancellation. Timers survive
the actor's restart, unless `Timer.until_restart` says otherwise, and end when
nobody will come to handle them.

    send_after(30.0, ref, Cache.forget, key)
    send_interval(60.0, ref, Cache.sweep)

An actor whose states have deadlines (gen_statem's ``state_timeout``) keeps one
`StateTimeout` and sets it wherever it changes its state:

    def connect(self) -> None:
        self.state = "connecting"
        self._timeout.set(5.0, Connection.give_up)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, final

import trio

from supervisors._inbox import Envelope, Inbox
from supervisors._ref import ActorRef

A = TypeVar("A")
P = ParamSpec("P")

_numbers = itertools.count()


@final
class Timer:
    """A message on its way; `cancel` keeps it from coming."""

    __slots__ = (
        "_inbox",
        "_number",
        "_period",
        "cancelled",
        "envelope",
        "of_incarnation",
        "round",
        "when",
    )

    def __init__(
        self, inbox: Inbox, when: float, envelope: Envelope, period: float | None = None
    ) -> None:
        self.of_incarnation = False
        """It is about the state of one incarnation, and ends with it."""
        self.round = -1
        """When it came last; see the inbox."""
        self._inbox = inbox
        self._number = next(_numbers)
        self._period = period
        self.when = when
        self.envelope = envelope
        self.cancelled = False

    def cancel(self) -> None:
        """See to it that the message does not come (any more)."""
        if not self.cancelled:
            self.cancelled = True
            self._inbox.timer_cancelled()

    def until_restart(self) -> Self:
        """Have the timer end with the incarnation that runs now; return the timer.

        For what an actor sets itself in its init, and sets again in the next one:

            send_interval(60.0, self.me, Cache.sweep).until_restart()
        """
        self.of_incarnation = True
        return self

    def advance(self, now: float) -> bool:
        """Move on to the next time, if there is one; ticks that were missed stay so."""
        if self._period is None:
            self.cancelled = True
            return False
        missed = (now - self.when) // self._period
        self.when += (missed + 1) * self._period
        if self.when <= now:
            # By rounding: it would be one more tick for the same beat.
            self.when += self._period
        return True

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self._number) < (other.when, other._number)


def send_after(
    seconds: float,
    ref: ActorRef[A],
    method: Callable[Concatenate[A, P], object],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Timer:
    """Cast ``method(actor, *args, **kwargs)`` after *seconds*.

    It comes ahead of the messages that wait by then, and a full inbox does not
    keep it off.

    Raises:
        ActorStopped: the actor does not run and will not be restarted.
        ValueError: *seconds* is no time from now on.
    """
    return _send_at(
        trio.current_time() + _checked(seconds, 0.0), ref, method, args, kwargs
    )


def send_at(
    when: float,
    ref: ActorRef[A],
    method: Callable[Concatenate[A, P], object],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Timer:
    """Cast ``method(actor, *args, **kwargs)`` at *when* on trio's clock.

    As `send_after`; a time that has passed means now, and only NaN is no time.
    """
    return _send_at(when, ref, method, args, kwargs)


def send_interval(
    seconds: float,
    ref: ActorRef[A],
    method: Callable[Concatenate[A, P], object],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Timer:
    """Cast ``method(actor, *args, **kwargs)`` every *seconds*, first after *seconds*.

    The beat is kept: a tick that comes late does not shift the next. An actor
    that was busy for several gets one of them.

    Raises:
        ActorStopped: the actor does not run and will not be restarted.
        ValueError: *seconds* is not above 0.
    """
    period = _checked(seconds, 1e-9)
    return _send_at(trio.current_time() + period, ref, method, args, kwargs, period)


@final
class StateTimeout(Generic[A]):
    """The one deadline of the state that an actor is in.

    It ends with the incarnation, whose state it is about.
    """

    __slots__ = ("_ref", "_timer")

    def __init__(self, ref: ActorRef[A]) -> None:
        self._ref = ref
        self._timer: Timer | None = None

    def set(
        self,
        seconds: float,
        method: Callable[Concatenate[A, P], object],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Have *method* called after *seconds*, unless `set` or `cancel` comes before.

        Raises as `send_after`.
        """
        when = trio.current_time() + _checked(seconds, 0.0)
        self.set_at(when, method, *args, **kwargs)

    def set_at(
        self,
        when: float,
        method: Callable[Concatenate[A, P], object],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """As `set`, for the time *when* on trio's clock."""
        self.cancel()
        self._timer = _send_at(when, self._ref, method, args, kwargs)
        self._timer.of_incarnation = True

    def cancel(self) -> None:
        """Have nothing called: the state has been left."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def _send_at(
    when: float,
    ref: ActorRef[A],
    method: Callable[..., object],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    period: float | None = None,
) -> Timer:
    if math.isnan(when):
        # It would crash the actor, and every next incarnation of it.
        msg = f"when must be a time on trio's clock, not {when!r}"
        raise ValueError(msg)
    if ref.is_retired:
        raise ref.inbox.stopped()
    envelope = Envelope(method, args, kwargs)
    timer = Timer(ref.inbox, when, envelope, period)
    ref.inbox.add_timer(timer)
    return timer


def _checked(seconds: float, least: float) -> float:
    if not seconds >= least:
        what = "at least 0" if least == 0 else "above 0"
        msg = f"seconds must be {what}, not {seconds!r}"
        raise ValueError(msg)
    return seconds
