"""Async functions as children: how they say that they have started."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    ChildStarted,
    CleanExit,
    Event,
    StartFailed,
    SupervisorSpec,
    child,
    open_supervisor,
)


async def late(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    await trio.sleep(5)
    task_status.started()
    await trio.sleep_forever()


async def with_words(*, task_status: Any, wait: float = 5) -> None:
    await trio.sleep(wait)
    task_status.started("a value that nobody asked for")
    await trio.sleep_forever()


class Server:
    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        await late(task_status)

    async def __call__(self, task_status: trio.TaskStatus[None]) -> None:
        await late(task_status)


def decorated(function: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> None:
        await function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    "function",
    [
        late,
        with_words,
        Server().serve,
        Server(),
        functools.partial(with_words, wait=5),
        decorated(late),
    ],
)
async def test_a_function_with_a_task_status_says_when_it_has_started(
    function: Callable[..., Awaitable[None]], autojump_clock: MockClock
) -> None:
    async with open_supervisor(SupervisorSpec(children=[child("c", function)])):
        assert trio.current_time() == pytest.approx(5)


async def asleep(status: str = "task_status") -> None:
    task_status = status
    await trio.sleep_forever()
    raise AssertionError(task_status)


async def test_a_function_without_one_has_started_when_it_begins(
    autojump_clock: MockClock,
) -> None:
    async with open_supervisor(SupervisorSpec(children=[child("c", asleep)])):
        assert trio.current_time() == 0


async def test_one_that_ends_without_a_word_has_not_started(
    autojump_clock: MockClock,
) -> None:
    async def silent(task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(1)

    with pytest.raises(StartFailed, match=r"'c' .*called task_status\.started\(\)$"):
        async with open_supervisor(SupervisorSpec(children=[child("c", silent)])):
            pass


async def test_a_start_that_is_a_clean_exit_has_failed_and_says_so(
    autojump_clock: MockClock,
) -> None:
    async def ends(task_status: trio.TaskStatus[None]) -> None:
        raise CleanExit

    with pytest.raises(StartFailed, match="'c' failed to start: it ended itself"):
        async with open_supervisor(SupervisorSpec(children=[child("c", ends)])):
            pass


async def test_who_says_it_twice_has_started_once(
    autojump_clock: MockClock, events: list[Event]
) -> None:
    async def eager(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        task_status.started()
        await trio.sleep_forever()

    tree = SupervisorSpec(children=[child("c", eager)])
    async with open_supervisor(tree, on_event=events.append):
        pass
    assert events == [ChildStarted("c", 1)]


async def numbers() -> Any:
    yield 1


def more_numbers() -> Any:
    yield 1


@pytest.mark.parametrize("function", [numbers, more_numbers, 7, None])
def test_what_is_seen_to_be_no_async_function_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="child 'a' takes an async function, uncalled"):
        child("a", function)


async def test_a_coroutine_in_place_of_its_function_is_refused() -> None:
    coroutine: Any = late()
    with pytest.raises(TypeError, match="uncalled"):
        child("a", coroutine)
    coroutine.close()


def plain() -> None:
    pass


def plain_with_status(task_status: object) -> None:
    pass


@pytest.mark.parametrize("function", [plain, plain_with_status])
async def test_a_function_that_turns_out_not_to_be_async_does_not_start(
    function: Any, autojump_clock: MockClock
) -> None:
    with pytest.raises(StartFailed) as failed:
        async with open_supervisor(SupervisorSpec(children=[child("a", function)])):
            pass
    cause = failed.value.__cause__
    assert isinstance(cause, TypeError)
    assert str(cause).endswith(f"and {function.__name__} is none: it returned NoneType")


async def test_a_plain_function_that_returns_an_awaitable_is_one(
    autojump_clock: MockClock,
) -> None:
    def wrapped() -> Awaitable[None]:
        return late()

    spec = SupervisorSpec(children=[child("a", wrapped)])
    async with open_supervisor(spec) as root:
        assert (await root.which_children())[0].state == "running"
