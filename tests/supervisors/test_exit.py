"""How a child ended, from what its task raised."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from supervisors import CleanExit, Crashed, Exit, Killed, Normal, ShutDown
from supervisors._exit import cause_of, exit_of, is_clean


def cancelled() -> trio.Cancelled:
    """Return a real `trio.Cancelled`; it cannot be made by hand."""

    async def catch() -> trio.Cancelled:
        caught: trio.Cancelled | None = None
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                caught = error
                raise
        assert caught is not None
        return caught

    return trio.run(catch, clock=MockClock())


BOOM, OTHER = ValueError(), KeyError()


@pytest.mark.parametrize(
    ("error", "exit_"),
    [
        (lambda: None, Normal()),
        (CleanExit, ShutDown()),
        (lambda: CleanExit("why"), ShutDown("why")),
        (lambda: BOOM, Crashed(BOOM)),
        (cancelled, Killed()),
        (lambda: ExceptionGroup("", [BOOM]), Crashed(BOOM)),
        (lambda: ExceptionGroup("", [ExceptionGroup("", [BOOM])]), Crashed(BOOM)),
        (lambda: ExceptionGroup("", [CleanExit("why")]), ShutDown("why")),
        (lambda: BaseExceptionGroup("", [BOOM, cancelled()]), Crashed(BOOM)),
        (lambda: BaseExceptionGroup("", [cancelled(), cancelled()]), Killed()),
    ],
)
def test_one_exception_is_one_exit(
    error: Callable[[], BaseException | None], exit_: Exit
) -> None:
    assert exit_of(error()) == exit_


def test_many_crashes_stay_together() -> None:
    group = BaseExceptionGroup("", [BOOM, ExceptionGroup("", [OTHER])])
    assert exit_of(group) == Crashed(group)


def test_only_a_crash_has_a_cause() -> None:
    assert cause_of(Crashed(BOOM)) is BOOM
    assert cause_of(Killed()) is None


def test_what_is_clean() -> None:
    assert is_clean(Normal())
    assert is_clean(ShutDown("why"))
    assert not is_clean(Killed())
    assert not is_clean(Crashed(BOOM))
