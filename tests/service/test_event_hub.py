"""What the event hub promises: it waits for nobody, and says what was missed."""

from __future__ import annotations

import gc
import json
import re
import weakref
from pathlib import Path
from typing import get_args

import pytest
import trio
from hypothesis import event as note, given, strategies as st

import supervisors
from duckservice import events
from duckservice.config import Secret
from duckservice.event_stream.as_json import encode, fields_of
from duckservice.event_stream.hub import (
    KEPT_MAX,
    READ_MAX,
    Entry,
    EventHub,
    EventId,
    Gap,
)
from duckservice.event_stream.words import WORDS, outward
from duckservice.events import (
    AttemptEnded,
    BreakerMoved,
    BudgetAlert,
    CacheFileFailed,
    EntryLost,
    JobMoved,
    MessageDropped,
    QueueSwitched,
    RequestEnded,
    RequestStarted,
    StoreFailed,
    StorePruned,
    StoreRecovered,
)
from duckservice.redaction import register_secret

EPOCH = 1_000_000.0


def hub(kept_max: int = 8, at: float = EPOCH, **more) -> EventHub:
    return EventHub(wall_clock=lambda: at, kept_max=kept_max, **more)


def dropped(number: int) -> MessageDropped:
    return MessageDropped(actor="a", reason=str(number))


def numbers(items) -> list:
    """What was read: the number of each event, or what a gap says."""
    return [
        ("gap", its.missed) if isinstance(its, Gap) else int(its.event.reason)
        for its in items
    ]


def attempt(**more) -> AttemptEnded:
    fields = {
        "job": "job_1",
        "request_id": "req_1",
        "provider": "a",
        "model": "m",
        "attempt": 1,
        "outcome": "ok",
        "duration": 0.25,
        "first_byte": 0.125,
        "queued": 0.0,
    }
    return AttemptEnded(**{**fields, **more})


def test_a_reader_gets_what_comes_after_it_began() -> None:
    its = hub()
    its.publish(dropped(1))
    reader = its.follow()
    assert reader.read_nowait() == []
    its.publish(dropped(2))
    its.publish(dropped(3))
    assert numbers(reader.read_nowait()) == [2, 3]
    assert reader.read_nowait() == []


def test_who_comes_back_with_an_id_goes_on_behind_it() -> None:
    its = hub()
    for number in (1, 2, 3):
        its.publish(dropped(number))
    after = EventId(its.life, 1)
    assert EventId.parse(str(after)) == after
    assert numbers(its.follow(after=after).read_nowait()) == [2, 3]


def test_who_was_away_for_too_long_is_told_how_much_it_missed() -> None:
    its = hub(kept_max=3)
    for number in range(1, 11):
        its.publish(dropped(number))
    reader = its.follow(after=EventId(its.life, 4))
    assert numbers(reader.read_nowait()) == [("gap", 3), 8, 9, 10]


def test_a_reader_that_does_not_read_is_told_how_much_it_missed() -> None:
    its = hub(kept_max=3)
    slow, quick = its.follow(), its.follow()
    read = []
    for number in range(1, 11):
        its.publish(dropped(number))
        read += numbers(quick.read_nowait())
    assert read == list(range(1, 11))
    assert numbers(slow.read_nowait()) == [("gap", 7), 8, 9, 10]
    its.publish(dropped(11))
    assert numbers(slow.read_nowait()) == [11]


def test_an_id_of_an_earlier_life_is_a_gap_of_unknown_length() -> None:
    before, its = hub(at=EPOCH - 1), hub()
    before.publish(dropped(7))
    its.publish(dropped(1))
    reader = its.follow(after=before.last_id)
    assert numbers(reader.read_nowait()) == [("gap", None), 1]
    its.publish(dropped(2))
    assert numbers(reader.read_nowait()) == [2], "it is told but once"


def test_an_id_that_is_still_to_come_waits_for_what_comes_next() -> None:
    its = hub()
    reader = its.follow(after=EventId(its.life, 99))
    its.publish(dropped(1))
    assert numbers(reader.read_nowait()) == [1]


@pytest.mark.parametrize("text", ["", "7", "x-7", "a-", "-7", "a-7 ", "a-٣", "A-7"])
def test_what_is_no_id_is_none(text) -> None:
    assert EventId.parse(text) is None


def test_what_happened_since_a_time_can_be_had() -> None:
    now = EPOCH
    its = EventHub(wall_clock=lambda: now, kept_max=8)
    for number in (1, 2, 3, 4):
        now = EPOCH + 10 * number
        its.publish(dropped(number))
    assert numbers(its.follow(since=EPOCH + 30).read_nowait()) == [3, 4]
    assert numbers(its.follow(since=0).read_nowait()) == [1, 2, 3, 4]
    assert its.follow(since=EPOCH + 41).read_nowait() == []


def test_only_the_types_that_are_asked_for_are_read() -> None:
    its = hub()
    reader = its.follow(words={"queue.pause"})
    its.publish(dropped(1))
    its.publish(QueueSwitched(True))
    its.publish(QueueSwitched(False))
    assert [item.word for item in reader.read_nowait()] == ["queue.pause"]
    assert reader.last_id == its.last_id, "what it does not want is passed over"


def test_one_reading_is_bounded() -> None:
    its = hub(kept_max=1000)
    reader = its.follow()
    for number in range(600):
        its.publish(dropped(number))
    lengths = [len(reader.read_nowait()) for _ in range(4)]
    assert lengths == [READ_MAX, READ_MAX, 600 - 2 * READ_MAX, 0]


async def test_a_reader_waits_until_there_is_something_for_it(autojump_clock) -> None:
    its = hub()
    reader = its.follow(words={"store"})
    got = []

    async def read():
        with trio.fail_after(60):
            items = await reader.read()
        got.append((trio.current_time(), items))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(5)
        its.publish(dropped(1))
        await trio.sleep(5)
        its.publish(StoreRecovered(failed_for=1.0))
    [(at, [entry])] = got
    assert at - start == 10
    assert entry.word == "store"


async def test_who_gives_up_waiting_has_missed_nothing(autojump_clock) -> None:
    its = hub()
    reader = its.follow()
    with trio.move_on_after(1):
        await reader.read()
    its.publish(dropped(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await reader.read()
    assert scope.cancelled_caught
    assert numbers(await reader.read()) == [1]


async def test_a_thousand_readers_that_never_read_cost_the_publisher_nothing(
    autojump_clock,
) -> None:
    its = hub(kept_max=16)
    readers = [its.follow() for _ in range(1000)]
    for number in range(100):
        its.publish(dropped(number))
    assert its.statistics().kept == 16
    assert numbers(readers[-1].read_nowait())[0] == ("gap", 84)


def test_readers_are_counted_while_they_follow() -> None:
    its = hub()
    with its.follow():
        assert its.statistics().readers == 1
    assert its.statistics().readers == 0


class _Crash(Exception):
    pass


def test_the_frames_of_a_crash_are_not_kept_alive() -> None:
    class Prompt:
        pass

    def crash(prompt):
        raise _Crash("what the user wrote")

    its, reader = hub(), None
    prompt = Prompt()
    kept = weakref.ref(prompt)
    reader = its.follow()
    try:
        crash(prompt)
    except _Crash as error:
        its.publish(supervisors.ChildTerminated("queue", supervisors.Crashed(error)))
    del prompt
    gc.collect()
    assert kept() is None
    [entry] = reader.read_nowait()
    shown = fields_of(entry.word, entry.event)
    assert (shown["what"], shown["reason"]) == ("crashed", "_Crash")
    assert "the user wrote" not in repr(entry)
    assert len(repr(its)) < 500


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from("pr"), st.integers(0, 7)), max_size=40),
)
def test_every_event_is_read_once_or_counted_as_missed(kept_max, steps) -> None:
    """Against a model that remembers everything."""
    its, told = hub(kept_max=kept_max), []
    reader, seen = its.follow(), 0
    for step, count in steps:
        if step == "p":
            for _ in range(count):
                told.append(len(told))
                its.publish(dropped(told[-1]))
            continue
        got = numbers(reader.read_nowait())
        missed = max(0, len(told) - kept_max - seen)
        if missed:
            note("a gap")
            assert got.pop(0) == ("gap", missed)
        assert got == told[seen + missed :]
        seen = len(told)


# What is told of each.

SAMPLES = [
    RequestStarted(job="j", request_id="r"),
    RequestEnded(job="j", request_id="r", outcome="ok", duration=1.0),
    RequestEnded(job="j", request_id="r", outcome="cancelled", duration=1.0),
    RequestEnded(job="j", request_id="r", outcome="timeout", duration=1.0),
    attempt(),
    JobMoved(job="j", state="completed"),
    BreakerMoved(provider="a", was="closed", now="open"),
    BudgetAlert(
        budget="b", share=80, window="day", limit_usd="1", spent_usd="1",
        reserved_usd="0", since=0, until=None,
    ),
    StoreFailed(reason="disk full", may_recover=True),
    StoreRecovered(failed_for=2.0),
    StorePruned(jobs=1, streams=0, entries=0, files=0),
    EntryLost(entry="r.1", reason="a number is too large"),
    QueueSwitched(True),
    QueueSwitched(False),
    dropped(1),
    CacheFileFailed(path="/x", reason="damaged"),
    supervisors.ChildStarted("a", 2),
    supervisors.ChildTerminated("a", supervisors.Normal()),
    supervisors.StartError("a", supervisors.Killed()),
    supervisors.ShutdownError("a", supervisors.ShutDown("x")),
    supervisors.GaveUp("a", "b"),
    supervisors.ChildUnkillable("a", ()),
    supervisors.RestartDelayed("a", 0.5),
    supervisors.StillRunning(()),
]  # fmt: skip


def test_there_is_a_sample_of_every_event() -> None:
    assert {type(its) for its in SAMPLES} == set(get_args(events.Event))


@pytest.mark.parametrize("its", SAMPLES, ids=lambda its: type(its).__name__)
def test_every_event_is_told_as_plain_json_of_one_line(its) -> None:
    words, kept = outward(its)
    for word in words:
        line = encode(word, EPOCH, fields_of(word, kept))
        told = json.loads(line)
        assert b"\n" not in line
        assert (told["type"], told["at"]) == (word, EPOCH)
        assert all(not isinstance(value, dict | list) for value in told.values())


def test_every_word_but_the_gap_is_used() -> None:
    used = {word for its in SAMPLES for word in outward(its)[0]}
    assert used == set(WORDS) - {"gap"}


def test_a_first_start_is_no_event() -> None:
    assert outward(supervisors.ChildStarted("a", 1)) is None


def test_an_attempt_is_told_twice_once_for_its_money() -> None:
    its = attempt(cost_usd="0.5", input_tokens=7, output_tokens=9)
    words, kept = outward(its)
    assert words == ("attempt", "cost")
    cost = fields_of("cost", kept)
    assert (cost["cost_usd"], cost["input_tokens"]) == ("0.5", 7)
    assert fields_of("attempt", kept)["first_byte_ms"] == 125.0


def test_no_error_that_may_quote_a_provider_is_told() -> None:
    its = attempt(outcome="provider_error", error="the provider said: your prompt")
    assert fields_of("attempt", its, quotes=True)["error"] is None
    assert fields_of("attempt", its)["error"] is not None


def test_no_secret_is_told() -> None:
    secret = "correct-horse-battery-staple-4711"
    register_secret(Secret(secret))
    told = encode("attempt", EPOCH, {"error": f"bad key {secret}", "model": "m"})
    assert secret.encode() not in told
    assert json.loads(told)["model"] == "m"


def test_what_cannot_be_encoded_is_escaped() -> None:
    told = encode("attempt", EPOCH, {"model": "\ud800"})
    assert json.loads(told)["model"] == "\\ud800"


def test_an_entry_is_numbered_without_gaps() -> None:
    its = hub(kept_max=100)
    reader = its.follow()
    for sample in SAMPLES:
        its.publish(sample)
    read = reader.read_nowait()
    assert all(isinstance(item, Entry) for item in read)
    assert [item.number for item in read] == list(range(1, len(SAMPLES) + 2))


def test_the_document_has_every_type_and_field() -> None:
    document = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    rows = [line for line in document.splitlines() if line.startswith("| `")]
    for sample in SAMPLES:
        words, kept = outward(sample)
        for word in words:
            [row] = [row for row in rows if f"`{word}`" in row.split("|")[1]]
            if word not in {"store", "request.exception"}:  # told in sum
                start = next(row for row in rows if "`request.start`" in row)
                row += start if word == "request.stop" else ""
                for field in set(fields_of(word, kept)) - {"job", "request_id"}:
                    assert f"`{field}`" in row, (word, field)
    told = {
        word for row in rows for word in re.findall("`([a-z.]+)`", row.split("|")[1])
    }
    assert told == set(WORDS)


def test_the_document_says_how_many_are_kept() -> None:
    document = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    assert f"newest {KEPT_MAX:,} events" in document
