"""The dump on SIGUSR1: what runs and waits, and none of what it works with."""

from __future__ import annotations

import stat

import pytest
import trio

from duckservice.config import Secret
from duckservice.host import dump
from duckservice.host.dump import dump_text, write_dump
from duckservice.redaction import register_secret
from duckservice.running import open_running
from tests.service.conftest import chat, mock_config


async def test_it_shows_the_tree_with_messages_that_wait_and_each_tasks_place(
    autojump_clock,
):
    async def hang(_) -> None:
        await trio.sleep_forever()

    async def a_task_of_this_test(prompt: str) -> None:
        await trio.sleep_forever()

    async with (
        open_running(mock_config("a")) as service,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(a_task_of_this_test, "canary-prompt")
        service.parts.queue.cast(hang)
        for _ in range(3):
            nursery.start_soon(service.complete, chat("canary-prompt"))
        await trio.sleep(1)
        text = dump_text(service.root.inspect())
        nursery.cancel_scope.cancel()
    assert "request_queue  inbox=3" in text
    assert "a_task_of_this_test tests/operations/test_dump.py:" in text
    assert "Service.complete" in text, "who waits for it is shown as well"
    assert "canary" not in text, "no value of any variable"


async def test_a_secret_in_a_tasks_name_is_not_shown(autojump_clock):
    register_secret(Secret("canary-of-dump-8c11fe"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever, name="job canary-of-dump-8c11fe")
        await trio.lowlevel.checkpoint()
        text = dump_text(None)
        nursery.cancel_scope.cancel()
    assert "job …" in text
    assert "canary" not in text


async def deep(depth: int) -> None:
    if depth:
        await deep(depth - 1)
    await trio.sleep_forever()


async def test_its_size_is_bounded(monkeypatch, autojump_clock):
    monkeypatch.setattr(dump, "TASKS_MAX", 50)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deep, 200)
        for _ in range(100):
            nursery.start_soon(trio.sleep_forever)
        await trio.sleep(1)
        text = dump_text(None)
        monkeypatch.setattr(dump, "CHARS_MAX", 500)
        short = dump_text(None)
        nursery.cancel_scope.cancel()
    assert "… 190 more" in text or "… 191 more" in text, text
    assert text.count("  deep tests/operations/") <= dump.FRAMES_MAX
    assert "more tasks" in text
    assert len(text.splitlines()) < 50 * (dump.FRAMES_MAX + 2) + 20
    assert len(short) < 600
    assert "cut off" in short


def test_the_next_one_replaces_it_and_only_we_may_read_it(tmp_path):
    state = tmp_path / "state"
    (write_dump(state, "one")).chmod(0o644)
    (state / "dump.txt.new").symlink_to(tmp_path / "elsewhere")
    path = write_dump(state, "two")
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in state.iterdir()] == ["dump.txt"]
    assert not (tmp_path / "elsewhere").exists(), "no link is followed"


def test_a_place_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"exists|directory"):
        write_dump(tmp_path / "file", "text")
