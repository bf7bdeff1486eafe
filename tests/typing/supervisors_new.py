"""What type checkers must infer of lanes, continuations, timers and monitors.

Not run, but checked: mypy with ``warn_unused_ignores`` says if a line that must
be an error has become none, and so does pyright with the line below.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

from supervisors import (
    ActorRef,
    Address,
    Backoff,
    ChildSpec,
    Continue,
    Down,
    Exit,
    InboxStatistics,
    Monitor,
    NotRunning,
    OnFull,
    Reply,
    StateTimeout,
    Timer,
    actor,
    monitor,
    notify,
    send_after,
    send_at,
    send_interval,
)
from supervisors._actor import actor_spec


class Store:
    """An actor that goes on after its answers, and learns of ends."""

    def put(self, item: str, *, twice: bool = False) -> Continue[int]:
        """Answer, then flush."""
        return Continue(len(item), Store.flush, seconds=1.0)

    def get(self, key: str) -> str | None:
        """Answer at once."""
        return key

    def ask(self) -> Reply[bytes]:
        """Answer later."""
        return Reply()

    async def flush(self, seconds: float) -> None:
        """What follows."""

    def down(self, down: Down, worker: int) -> None:
        """Learn of an end."""

    def handle_continue(self) -> None:
        """What follows init."""


class Other:
    """Not a store."""

    def work(self) -> int:
        """Answer at once."""
        return 1


async def ahead(ref: ActorRef[Store]) -> None:
    """The lane ahead is typed as the ref is."""
    assert_type(ref.ahead, Address[Store])
    assert_type(await ref.ahead.call(Store.get, "k"), str | None)
    assert_type(await ref.ahead.call(Store.put, "k", twice=True), int)
    assert_type(await ref.ahead.call(Store.ask), bytes)
    reply = assert_type(ref.ahead.send_request(Store.get, "k"), Reply[str | None])
    assert_type(reply.unwrap(), str | None)
    assert_type(ref.ahead.cast(Store.get, "k"), None)
    assert_type(await ref.ahead.wait_cast(Store.get, "k"), None)
    await ref.ahead.call(Store.get, 1)  # type: ignore[call-overload] # an int is no str
    await ref.ahead.call(Other.work)  # type: ignore[call-overload] # another class's
    ref.ahead.cast(Store.get)  # type: ignore[call-arg] # the key is missing


async def debugging(ref: ActorRef[Store]) -> None:
    """The state of an actor is the actor."""
    assert_type(await ref.get_state(), Store)
    assert_type(await ref.suspend(), None)
    assert_type(await ref.resume(), None)
    assert_type(ref.statistics(), InboxStatistics)
    await ref.ahead.get_state()  # type: ignore[attr-defined] # of the ref, not its lane


async def continues(ref: ActorRef[Store]) -> None:
    """A call's answer is the value that the actor goes on after."""
    assert_type(await ref.call(Store.put, "k"), int)
    assert_type(ref.send_request(Store.put, "k").unwrap(), int)
    text = Continue("x", Store.flush, 1.0)
    assert_type(text.value, str)
    _ = Continue(1, Store.flush)  # type: ignore[call-arg] # seconds are missing
    _ = Continue(1, Store.flush, "1")  # type: ignore[arg-type] # a str is no float
    _ = Continue(1, Store.flush, second=1.0)  # type: ignore[call-arg] # no such name
    answer: str = await ref.call(Store.put, "k")  # type: ignore[call-overload] # an int
    del answer


async def room(ref: ActorRef[Store]) -> None:
    """Waiting for room checks as a cast does."""
    assert_type(await ref.wait_cast(Store.put, "k", twice=True), None)
    await ref.wait_cast(Store.put)  # type: ignore[call-arg] # the item is missing
    await ref.wait_cast(Store.put, 1)  # type: ignore[arg-type] # an int is no str
    await ref.wait_cast(Store.put, "k", thrice=True)  # type: ignore[call-arg] # no such name
    await ref.wait_cast(Other.work)  # type: ignore[arg-type] # another class's
    ActorRef[Store]("a", max_inbox=1, on_full=OnFull.WAIT, deadlines=True)
    ActorRef[Store]("a", on_full="wait")  # type: ignore[arg-type] # a member of OnFull


def timers(ref: ActorRef[Store], timeout: StateTimeout[Store]) -> None:
    """A timer's message is checked when the timer is set."""
    assert_type(send_after(1.0, ref, Store.get, "k"), Timer)
    assert_type(send_at(1.0, ref, Store.put, "k", twice=True), Timer)
    assert_type(send_interval(1, ref, Store.flush, seconds=1.0), Timer)
    assert_type(timeout.set(1.0, Store.get, "k"), None)
    assert_type(timeout.set_at(1.0, Store.get, key="k"), None)
    assert_type(StateTimeout(ref), StateTimeout[Store])
    send_after(1.0, ref, Store.get)  # type: ignore[call-arg] # the key is missing
    send_at(1.0, ref, Store.get, 1)  # type: ignore[arg-type] # an int is no str
    send_interval(1.0, ref, Other.work)  # type: ignore[misc] # another class's
    send_after("1s", ref, Store.get, "k")  # type: ignore[arg-type] # seconds are floats
    timeout.set(1.0, Store.get)  # type: ignore[call-arg] # the key is missing
    timeout.set(1.0, Other.work)  # type: ignore[arg-type] # another class's


async def monitors(ref: ActorRef[Store], me: ActorRef[Store]) -> None:
    """A listener's method takes the `Down` first, then what it was set up with."""
    with monitor(ref) as watch:
        assert_type(watch, Monitor)
        assert_type(await watch.wait(), Down)
        assert_type(watch.down, Down | None)
    assert_type(notify(ref, me, Store.down, 7), Monitor)
    assert_type(notify(ref, me, Store.down, worker=7).demonitor(), None)
    notify(ref, me, Store.down)  # type: ignore[call-arg] # the worker is missing
    notify(ref, me, Store.down, "7")  # type: ignore[arg-type] # a str is no int
    notify(ref, me, Store.get)  # type: ignore[arg-type] # it takes no Down
    notify(ref, me, Other.work)  # type: ignore[arg-type, misc] # another class's


def reasons(down: Down) -> None:
    """An end has a reason, or there was nothing to end."""
    assert_type(down.reason, Exit | NotRunning)


def specs(ref: ActorRef[Store]) -> None:
    """A backoff belongs to a child spec."""
    spec = actor_spec(ref, Store, backoff=Backoff(first=1, factor=2))
    assert_type(spec, ChildSpec)
    assert_type(spec.backoff, Backoff | None)
    actor(ref, Other)  # type: ignore[call-overload] # another class
    actor_spec(ref, Store, backoff=1.0)  # type: ignore[arg-type] # no Backoff
    Backoff(1.0)  # type: ignore[call-arg] # by keyword only
