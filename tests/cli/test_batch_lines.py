"""What `duck batch` sends of a file, and what it says of the failures; no daemon."""

from __future__ import annotations

import json
from unittest.mock import Mock

import pytest

from duckservice.batches import lines as batch_lines
from duckservice.batches.lines import RawLine
from duckservice.cli import batch_input, batch_limit
from duckservice.cli.batch_failures import Failures
from duckservice.cli.batch_input import read_input, send_input
from duckservice.cli.batch_limit import limited

URL = "/v1/chat/completions"


def with_limit(its: object) -> object:
    data = its if isinstance(its, bytes) else json.dumps(its).encode()
    line = limited(RawLine(3, data), 7)
    assert line.number == 3
    assert line.data is not None
    return line.data if isinstance(its, bytes) else json.loads(line.data)


def sent(path, max_tokens, offset=0) -> bytes:
    """Return what the daemon gets of a file, of which it has *offset* bytes already."""
    its = read_input(path, "m", max_tokens=max_tokens, max_cost=False)
    session = Mock()
    send_input(its, session, "file-1", offset)
    whole = b""
    for call in session.request.call_args_list:
        _, target, data = call.args
        assert target == f"/v1/files/file-1/content?offset={offset + len(whole)}"
        assert len(data) <= batch_input._PIECE_BYTES
        whole += data
    return whole


def refusal(message: str, *, body: bool = False) -> bytes:
    error = {"code": "budget_exceeded", "message": message}
    response = {"status_code": 402, "body": {"error": error}}
    its = {"response": response, "error": None} if body else {"error": error}
    return json.dumps(its).encode()


def told(*lines: bytes) -> list[str]:
    failures = Failures()
    failures.add(lines)
    return list(failures.told())


# The limit.


@pytest.mark.parametrize("own", [{}, {"max_tokens": None}, {"temperature": 0.5}])
def test_a_chat_without_a_limit_gets_one_whatever_its_form(own):
    plain = {"prompt": "x", **own}
    assert with_limit(plain) == {**plain, "max_tokens": 7}
    body = {"messages": [], **own}
    line = {"custom_id": "a", "method": "POST", "url": URL, "body": body}
    assert with_limit(line) == {**line, "body": {**body, "max_tokens": 7}}


@pytest.mark.parametrize("own", [{"max_tokens": 2}, {"max_completion_tokens": 2}])
def test_a_chat_with_a_limit_keeps_its_own(own):
    assert with_limit({"prompt": "x", **own}) == {"prompt": "x", **own}
    line = {"url": URL, "body": {"messages": [], **own}}
    assert with_limit(line) == line


@pytest.mark.parametrize("data", [b"", b"  ", b"nonsense", b"[1]", b'{"body": 3}'])
def test_what_is_no_chat_is_left_as_it_is(data):
    assert with_limit(data) == data


def test_a_line_that_the_limit_makes_too_long_is_too_long(monkeypatch):
    line = RawLine(1, b'{"prompt": "xxxxxxxxxxxx"}')
    monkeypatch.setattr(batch_limit, "LINE_BYTES_MAX", 30)
    assert limited(line, 7).data is None


def test_what_is_sent_has_the_limits_and_the_same_lines(tmp_path):
    path = tmp_path / "in"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n\nnonsense\n{"prompt": "b"}')
    first, blank, bad, last, end = sent(path, 7).split(b"\n")
    assert json.loads(first) == {"prompt": "a", "max_tokens": 7}
    assert json.loads(last) == {"prompt": "b", "max_tokens": 7}
    assert (blank, bad, end) == (b"", b"nonsense", b"")
    assert sent(path, None) == path.read_bytes()


def test_a_line_that_was_too_long_leaves_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_lines, "LINE_BYTES_MAX", 40)
    path = tmp_path / "in"
    path.write_bytes(b'{"prompt": "a"}\n' + b"x" * 50 + b'\n{"prompt": "b"}\n')
    assert sent(path, 7).split(b"\n")[1] == b""


@pytest.mark.parametrize("max_tokens", [None, 7])
@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_what_is_sent_goes_on_at_any_byte(tmp_path, monkeypatch, max_tokens, piece):
    monkeypatch.setattr(batch_input, "_PIECE_BYTES", piece)
    path = tmp_path / "in"
    path.write_bytes(b'{"prompt": "a"}\n\n{"prompt": "b", "max_tokens": 1}\n')
    whole = sent(path, max_tokens)
    for offset in range(len(whole) + 1):
        assert sent(path, max_tokens, offset) == whole[offset:]


# The failures.


def test_what_has_no_bound_and_what_is_over_the_limit_are_told_apart():
    no_bound = "the budget 'x' binds the request, and its cost cannot be bounded: why"
    over = "it may cost {} USD; {} are left of the batch's limit"
    lines = [
        *[refusal(no_bound, body=True)] * 3,
        refusal("not run: " + over.format("0.25", "0.1")),
        refusal("not run: " + over.format("0.3", "0.05")),
    ]
    assert told(*lines) == [
        f"3 times refused: {no_bound} (budget_exceeded)",
        f"2 times not run: such as: {over.format('0.25', '0.1')} (budget_exceeded)",
    ]
    assert told(lines[3]) == [
        f"1 times not run: {over.format('0.25', '0.1')} (budget_exceeded)"
    ]


def test_other_failures_are_counted_by_their_code_alone():
    timeouts = [
        json.dumps({"error": {"code": "timeout", "message": text}}).encode()
        for text in "ab"
    ]
    expired = {"code": "batch_expired", "message": "late"}
    assert told(*timeouts, json.dumps({"error": expired}).encode()) == [
        "2 times timeout",
        "1 times not run in time (batch_expired)",
    ]


def test_the_kinds_that_are_told_apart_are_few_and_none_is_lost():
    lines = [refusal("x" * n) for n in range(1, 101)]
    said = told(*lines)
    assert len(said) == 11
    assert sum(int(line.split()[0]) for line in said) == 100
    assert said[0] == "90 times budget_exceeded"
