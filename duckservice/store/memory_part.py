"""What the parts of the memory engine share: whether it is open."""

from __future__ import annotations

import trio

from duckservice.store.errors import StoreUnavailable


class Part:
    """One part of an engine that can be closed."""

    closed: bool = False

    async def ready(self) -> None:
        """Let others run; what follows is done at one go.

        Raises:
            StoreUnavailable: the store is closed.
        """
        await trio.lowlevel.checkpoint()
        self.must_be_open()

    def must_be_open(self) -> None:
        """Do nothing, if the store is open.

        Raises:
            StoreUnavailable: it is closed.
        """
        if self.closed:
            msg = "the store is closed"
            raise StoreUnavailable(msg, may_recover=False)
