"""Tells systemd's watchdog that the daemon works, after having made sure of it."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from duckservice.errors import DuckError
from duckservice.host.systemd import Notifier
from duckservice.running import RunningService
from duckservice.store.base import StoreUnavailable

AGAIN: Final = 1.0
"""Seconds until the next try, where a part did not answer."""

log = structlog.get_logger("duckd")


async def keep_watchdog(service: RunningService, notifier: Notifier) -> None:
    """Tell the watchdog twice in each of its periods, if all parts answer.

    Where one does not, nothing is told: systemd then ends the daemon, and starts it
    again. It returns at once where there is no watchdog.
    """
    period = notifier.watchdog
    if period is None:
        return
    half = period / 2
    silent = False
    while True:
        since = trio.current_time()
        stuck = await find_stuck(service, within=half / 2)
        if stuck is None:
            silent = False
            notifier.alive()
            await trio.sleep_until(since + half)
            continue
        if not silent:
            log.error("watchdog.not_told", message=stuck, period_s=period)
        silent = True
        await trio.sleep(min(AGAIN, half / 4))


async def find_stuck(service: RunningService, *, within: float) -> str | None:
    """Make a round trip through root supervisor, queue and store; say what is stuck.

    None: all have answered. A store that answers that its disk is full is not stuck:
    another process would find the same disk, and end what works without it.
    """
    asked = "the root supervisor"
    with trio.move_on_after(within):
        try:
            state = service.tree()["state"]
            if state != "running":
                return f"the root supervisor is {state}"
            asked = "the request queue"
            await service.queue()
            asked = "the store"
            await service.jobs.store.check()
        except StoreUnavailable:
            return None
        except DuckError as error:
            return f"{asked}: {error.message}"
        return None
    return f"{asked} did not answer within {within:g} s"
