"""Every page is told what counts, and one that is slow costs nobody anything."""

from __future__ import annotations

import json

import pytest
import trio

from duckservice.dashboard.board import (
    NEWS_FIRST,
    NEWS_MAX,
    PAGES_MAX,
    READ_MAX,
    Board,
    TooManyPages,
    frame,
)
from duckservice.dashboard.stream import stream


def read(page):
    """What the page is told, as pairs of name and data."""
    told = list[tuple[str, dict]]()
    while frames := page.read_nowait():
        for text in frames:
            lines = dict(
                line.split(": ", 1) for line in text.decode().splitlines() if line
            )
            told.append((lines["event"], json.loads(lines["data"])))
    return told


def test_a_page_begins_with_all_that_is_known() -> None:
    board = Board()
    board.history_from(lambda: {"points": [1, 2]})
    board.hello({"version": "1"})
    board.point({"at": 2})
    board.snapshot('{"at":1}')
    board.snapshot('{"at":2}')
    board.news('{"type":"x"}', "a1-7")
    with board.open_page() as page:
        assert read(page) == [
            ("hello", {"version": "1"}),
            ("history", {"points": [1, 2]}),
            ("snapshot", {"at": 2}),
            ("news", {"type": "x"}),
        ]
        assert page.read_nowait() == []


def test_then_it_is_told_each_thing_once() -> None:
    board = Board()
    board.hello({})
    with board.open_page() as page, board.open_page() as other:
        read(page)
        board.point({"at": 1})
        board.point({"at": 2})
        board.news("{}", "a1-1")
        told = [("point", {"at": 1}), ("point", {"at": 2}), ("news", {})]
        assert read(page) == told
        assert read(page) == []
        assert read(other)[-1:] == told[-1:]


def test_a_history_that_grew_is_told_in_place_of_its_points() -> None:
    board, points = Board(), [3]
    board.history_from(lambda: {"points": points})
    with board.open_page() as page:
        assert read(page) == [("history", {"points": [3]})]
        board.point({"at": 4})
        points[:] = [1, 2, 3, 4]
        board.history_grew()
        assert read(page) == [("history", {"points": [1, 2, 3, 4]})]
        board.point({"at": 5})
        assert read(page) == [("point", {"at": 5})]


def test_a_slow_page_gets_the_newest_snapshot_and_a_gap_for_what_it_missed() -> None:
    board = Board()
    with board.open_page() as page:
        read(page)
        for number in range(NEWS_MAX + 500):
            board.news(f'{{"n":{number}}}', f"a1-{number}")
            board.snapshot(f'{{"at":{number}}}')
        told = read(page)
    assert [data for name, data in told if name == "snapshot"] == [
        {"at": NEWS_MAX + 499}
    ]
    gap, *news = [data for name, data in told if name == "news"]
    assert gap == {"type": "gap", "missed": 500}
    assert [its["n"] for its in news] == list(range(500, NEWS_MAX + 500))
    assert board.statistics().news == NEWS_MAX


def test_a_page_is_told_a_bounded_part_at_once() -> None:
    board = Board()
    with board.open_page() as page:
        for number in range(NEWS_MAX):
            board.news("{}", f"a1-{number}")
        assert len(page.read_nowait()) <= READ_MAX + 5


def test_a_page_that_comes_back_goes_on_where_it_was() -> None:
    board = Board()
    for number in range(NEWS_MAX):
        board.news(f'{{"n":{number}}}', f"a1-{number}")

    def first_after(event_id):
        with board.open_page(event_id) as page:
            return [data["n"] for name, data in read(page) if name == "news"]

    assert first_after(f"a1-{NEWS_MAX - 3}") == [NEWS_MAX - 2, NEWS_MAX - 1]
    assert first_after(f"a1-{NEWS_MAX - 1}") == []
    for unknown in ("", "a2-1", "nonsense"):
        assert len(first_after(unknown)) == NEWS_FIRST


def test_lost_and_found_are_told_when_they_change() -> None:
    board = Board()
    with board.open_page() as page:
        read(page)
        board.found()
        assert read(page) == []
        board.lost("one")
        board.lost("two")
        assert read(page) == [("lost", {"reason": "one"})]
        with board.open_page() as late:
            assert ("lost", {"reason": "one"}) in read(late)
        board.found()
        assert read(page) == [("found", {})]
        with board.open_page() as late:
            assert [name for name, _ in read(late)] == ["history"]


def test_pages_are_few() -> None:
    board = Board()
    opened = [board.open_page() for _ in range(PAGES_MAX)]
    for page in opened:
        page.__enter__()
    with pytest.raises(TooManyPages), board.open_page():
        pass
    opened[0].__exit__(None, None, None)
    with board.open_page():
        assert board.statistics().pages == PAGES_MAX


@pytest.mark.parametrize("text", ["a\nb", "a\r\nevent: lost\r\n\r\n", "\n\n"])
def test_no_text_can_end_an_event(text) -> None:
    its = frame("news", text, "a1-1\nevent: x")
    assert its.count(b"\n") == 3
    assert b"\r" not in its
    assert its.startswith(b"event: news\ndata: ")


async def test_who_watches_is_known(autojump_clock) -> None:
    board = Board()

    async def is_watched():
        with trio.move_on_after(1):
            await board.wait_watched()
            return True
        return False

    assert not await is_watched()
    with board.open_page():
        assert await is_watched()
    assert not await is_watched()


class Reader:
    """Takes what is sent, when it is let."""

    def __init__(self):
        self.gate = trio.Event()
        self.sent = list[bytes]()

    async def send(self, message):
        await self.gate.wait()
        self.sent.append(message.get("body", b""))


async def test_a_page_that_takes_nothing_holds_nobody_up(autojump_clock) -> None:
    board, slow, quick = Board(), Reader(), Reader()
    quick.gate.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream, board, [], slow.send)
        nursery.start_soon(stream, board, [], quick.send)
        for number in range(5000):
            board.news(f'{{"n":{number}}}', f"a1-{number}")
            board.snapshot(f'{{"at":{number}}}')
            await trio.sleep(0.001)
        await trio.sleep(1)
        assert b'{"n":4999}' in b"".join(quick.sent)
        slow.gate.set()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    told = b"".join(slow.sent)
    assert told.count(b"event: snapshot") == 1
    assert told.count(b"event: news") == NEWS_MAX + 1
    assert b'"missed":' in told


async def test_news_that_come_together_are_sent_together(autojump_clock) -> None:
    board, page = Board(), Reader()
    page.gate.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream, board, [], page.send)
        await trio.sleep(1)
        before = len(page.sent)
        for number in range(100):
            board.news("{}", f"a1-{number}")
            await trio.sleep(0.001)
        await trio.sleep(1)
        assert len(page.sent) - before <= 4
        nursery.cancel_scope.cancel()


async def test_a_silent_stream_shows_that_it_is_alive(autojump_clock) -> None:
    page = Reader()
    page.gate.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream, Board(), [], page.send)
        await trio.sleep(61)
        nursery.cancel_scope.cancel()
    assert page.sent.count(b": still here\n\n") == 4
