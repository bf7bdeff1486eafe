"""The store's place in the tree: opened by its child, found by everybody else here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, cast, final

import trio

from duckservice.errors import HAS_ENDED
from duckservice.events import EventSink, StoreFailed, StoreRecovered
from duckservice.store.base import Health, Store, StoreUnavailable

_TAKES_ON = frozenset({"insert", "create_file", "append_to_file"})
"""What would put more into a store; a damaged one takes nothing on."""


@final
class StoreSlot:
    """Stands for the store of today; while there is none, it is unavailable.

    Each incarnation of the child opens the store anew, so that whoever holds
    `store` need not know that it was restarted. That the store fails is told to the
    operators once, and again once it works (see `actors.store_keeper`): those who
    ask it meanwhile get their errors, and none of them says so for all.
    """

    def __init__(
        self, open_: Callable[[], AbstractAsyncContextManager[Store]], emit: EventSink
    ) -> None:
        self._open = open_
        self._emit = emit
        self._opened: Store | None = None
        self._failed_at = 0.0
        self._ended = False
        self.failure: StoreUnavailable | None = None
        """Why it cannot do its work, since it last could."""

    @property
    def store(self) -> Store:
        """What looks like the store, before and after every restart."""
        return cast(Store, self)

    def __getattr__(self, name: str) -> Any:
        store = self._opened
        if store is None:
            msg = (
                HAS_ENDED
                if self._ended
                else "the store is not open: it is being started"
            )
            raise StoreUnavailable(msg, may_recover=not self._ended)
        if name in _TAKES_ON and self._damaged is not None:
            raise StoreUnavailable(self._damaged.message, may_recover=False)
        return partial(self._watched, store, getattr(store, name))

    async def run(
        self,
        prepare: Callable[[], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Keep the store open; the body of its child.

        *prepare* reads what others need of it, before anybody else is started.
        """
        async with self._open() as store:
            self._opened = store
            try:
                await prepare()
                self._forget_failure()
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._opened = None

    def stopped_for_good(self) -> None:
        """Take note that the tree is gone, and nobody will open the store again."""
        self._ended = True

    @property
    def _damaged(self) -> StoreUnavailable | None:
        """Why it will not recover: a write that succeeds elsewhere in it heals nothing."""
        its = self.failure
        return None if its is None or its.may_recover else its

    def _forget_failure(self) -> None:
        if self.failure is not None:
            self.failure = None
            seconds = trio.current_time() - self._failed_at
            self._emit(StoreRecovered(failed_for=seconds))

    async def _watched(
        self,
        store: Store,
        method: Callable[..., Awaitable[Any]],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        try:
            result = await method(*args, **kwargs)
        except StoreUnavailable as error:
            # Not where it is being closed, and those who wait are sent away.
            if self._opened is store:
                self._failed(error)
            raise
        return self._checked(result) if isinstance(result, Health) else result

    def _checked(self, its: Health) -> Health:
        if not its.ok:
            self._failed(StoreUnavailable(its.detail, may_recover=its.may_recover))
        elif self._damaged is not None:
            return Health(ok=False, detail=self._damaged.message, may_recover=False)
        else:
            self._forget_failure()
        return its

    def _failed(self, error: StoreUnavailable) -> None:
        before = self.failure
        if self._damaged is not None:
            return
        self.failure = StoreUnavailable(error.message, may_recover=error.may_recover)
        if before is None:
            self._failed_at = trio.current_time()
        if before is None or before.may_recover != error.may_recover:
            self._emit(StoreFailed(reason=error.message, may_recover=error.may_recover))
