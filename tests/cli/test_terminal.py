"""Strings from outside print, and do nothing else."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from duckservice.terminal import CONTROLS, ReplyFilter, escape_controls

ATTACKS = [
    ("\x1b[2J\x1b[1;31mred\x1b[0m", "red"),
    ("\x1b]0;title\x07text", "text"),
    ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x9b31mred", "red"),
    ("\x1bPq#0;2\x1b\\sixel", "sixel"),
    ("\x1b(0x\x1bcy", "xy"),
    ("a\rb\x08c\x7fd\x00e", "abcde"),
    ("\x1b_apc\x1b\\z", "z"),
    ("line\n\ttab höhe 🦆", "line\n\ttab höhe 🦆"),
]


def filtered(pieces):
    reply = ReplyFilter()
    return "".join([*map(reply.feed, pieces), reply.finish()])


@pytest.mark.parametrize(("text", "left"), ATTACKS)
def test_a_reply_keeps_its_text_and_loses_its_sequences(text, left):
    assert filtered([text]) == left


@pytest.mark.parametrize(("text", "left"), ATTACKS)
def test_a_sequence_may_be_cut_anywhere(text, left):
    for cut in range(len(text) + 1):
        assert filtered([text[:cut], text[cut:]]) == left
    assert filtered(text) == left


@given(st.lists(st.text(alphabet="\x1b[]0;mP\\\x07\x9b\x90a\n\ud800", max_size=8)))
@example(["\x1b", "\x1b", "[", "m"])
def test_nothing_that_a_terminal_obeys_is_left(pieces):
    text = filtered(pieces)
    assert not CONTROLS.search(text.replace("\n", "").replace("\t", ""))


def test_text_without_sequences_is_not_held_back():
    reply = ReplyFilter()
    assert reply.feed("Hello") == "Hello"
    assert reply.feed("\x1b[3") == ""
    assert reply.feed("1mred") == "red"


def test_an_opener_that_never_ends_does_not_hold_the_reply_back():
    reply = ReplyFilter()
    text = "".join(reply.feed("\x1b]" + "x" * 100) for _ in range(100))
    assert len(text) > 4000


@given(st.text(alphabet=st.characters(codec=None)))
def test_escaped_text_is_one_line_and_can_be_encoded(text):
    escaped = escape_controls(text)
    assert not CONTROLS.search(escaped)
    assert escaped.encode().decode() == escaped
    assert len(escaped.splitlines()) <= 1


def test_ordinary_text_is_left_alone():
    assert escape_controls("höhe 🦆 日本 a\\b") == "höhe 🦆 日本 a\\b"
    assert escape_controls("a\nb\x1b\u202e") == "a\\nb\\x1b\\u202e"
