"""A thread that does what tasks ask for, many askers at a time.

One thread serves a queue for as long as the store is open: a hop to it costs a few
microseconds, where a thread for each call costs some fifty. What has gathered while
it was busy is its next group. While it is idle, what tasks ask for in one pass of
trio's scheduler is handed over at its end: a hop for each would wake the thread for
the first, and have the others wait for its commit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Generic, Protocol, TypeVar, final

import trio

from duckservice.store.errors import StoreUnavailable

C = TypeVar("C")
T = TypeVar("T")

GROUP_MAX: Final = 1024
"""So many wait for one commit at most."""


class Item(Generic[C]):
    """What one task asks for, and then what came of it."""

    __slots__ = ("error", "op", "task", "value")

    def __init__(self, op: Callable[[C], Any], task: trio.lowlevel.Task) -> None:
        self.op = op
        self.task: trio.lowlevel.Task | None = task
        """Who waits for it; None once nobody does."""
        self.value: Any = None
        self.error: Exception | None = None


class Worker(Protocol[C]):
    """What a thread runs; all its methods are called on that thread."""

    def open(self) -> None:
        """Get ready, or raise."""
        ...

    def run(self, items: list[Item[C]]) -> Callable[[], None] | None:
        """Give each item its value or error.

        What is returned is called on trio's side, just before the tasks go on.
        """
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


@final
class StoreThread(Generic[C]):
    """Runs a worker on a thread of its own."""

    def __init__(self, worker: Worker[C], *, name: str) -> None:
        """*name* is the thread's, for debuggers."""
        self._worker = worker
        self._token = trio.lowlevel.current_trio_token()
        self._asked = list[Item[C]]()
        """What is yet to be handed over."""
        self._under_way = 0
        """So many times something was handed over, and is not done yet."""
        self._alone = True
        """Whether the last group was of one: it is not worth a pass to wait then."""
        self._queue: SimpleQueue[list[Item[C]] | None] = SimpleQueue()
        """None: it is to end."""
        self._opened = trio.Event()
        self._ended = trio.Event()
        self._error: Exception | None = None
        self._closed = False
        self._ending = False
        # Not to be waited for at exit, should the event loop have died.
        self._thread = Thread(target=self._main, name=name, daemon=True)

    async def start(self) -> None:
        """Open the worker; raise what it raises.

        When cancelled, it is closed again.
        """
        self._thread.start()
        try:
            await self._opened.wait()
        except trio.Cancelled:
            await self.aclose()
            raise
        if self._error is not None:
            raise self._error

    async def run(self, op: Callable[[C], T]) -> T:
        """Have *op* run on the thread; return what it returns, or raise.

        Whoever is cancelled while waiting does not know whether it was run.

        Raises:
            StoreUnavailable: the thread has ended, or cannot work.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise _closed()
        item: Item[C] = Item(op, trio.lowlevel.current_task())
        self._asked.append(item)
        # Who waits behind a group that is under way is handed over after it.
        if not self._under_way:
            if self._alone:
                self._hand_over()
            elif len(self._asked) == 1:
                self._token.run_sync_soon(self._hand_over)

        def abandon(_: object) -> trio.lowlevel.Abort:
            item.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abandon)
        if item.error is not None:
            raise item.error
        value: T = item.value
        return value

    def refuse(self) -> None:
        """Take on nothing more."""
        self._closed = True

    async def aclose(self) -> None:
        """Do what was asked for so far, and end the thread."""
        self.refuse()
        if not self._ending:
            self._ending = True
            self._hand_over()
            self._queue.put(None)
        with trio.CancelScope(shield=True):
            if self._thread.ident is not None:
                await self._ended.wait()

    def _hand_over(self) -> None:
        if self._asked:
            asked, self._asked = self._asked, []
            self._under_way += 1
            self._queue.put(asked)

    def _main(self) -> None:
        try:
            self._worker.open()
        # Whatever it is, it belongs to who opens the store.
        except Exception as error:  # noqa: BLE001
            self._error = error
        self._tell(self._opened.set)
        try:
            if self._error is None:
                while self._serve():
                    pass
            self._worker.close()
        finally:
            self._tell(self._ended.set)

    def _serve(self) -> bool:
        """Run what was handed over; say whether there is more to come."""
        asked = self._queue.get()
        if asked is None:
            return False
        # Who has given up meanwhile waits for nothing any more.
        items = [item for item in asked if item.task is not None]
        while len(items) > GROUP_MAX:
            self._run_group(items[:GROUP_MAX], last=False)
            items = items[GROUP_MAX:]
        self._run_group(items, last=True)
        return True

    def _run_group(self, items: list[Item[C]], *, last: bool) -> None:
        news = self._run(items) if items else None
        self._tell(lambda: self._deliver(items, news, last=last))

    def _deliver(
        self, items: list[Item[C]], news: Callable[[], None] | None, *, last: bool
    ) -> None:
        self._alone = len(items) == 1
        if last:
            self._under_way -= 1
            if self._asked:
                # After those who go on now: what they ask for next may come with it.
                self._token.run_sync_soon(self._hand_over)
        if news is not None:
            news()
        for item in items:
            if item.task is not None:
                task, item.task = item.task, None
                trio.lowlevel.reschedule(task)

    def _run(self, items: list[Item[C]]) -> Callable[[], None] | None:
        try:
            return self._worker.run(items)
        # A bug in the worker is for all who have asked: whoever waits for a thread
        # that has died would wait for ever.
        except Exception as error:  # noqa: BLE001
            for item in items:
                item.error = error
            return None

    def _tell(self, what: Callable[[], object]) -> None:
        # Should the event loop have died with its tasks, nobody waits any more.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(what)


def _closed() -> StoreUnavailable:
    return StoreUnavailable("the store is closed", may_recover=False)
