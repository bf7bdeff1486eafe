"""Nobody who reads the log badly can stop or harm the daemon."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from duckservice.host import standard_error
from duckservice.host.standard_error import PatientOutput

LINE = "x" * 999 + "\n"


@pytest.fixture(params=["pipe", "socket"])
def ends(request):
    """A reader and a writer, as a service manager makes them."""
    if request.param == "pipe":
        reader, writer = os.pipe()
    else:
        one, other = socket.socketpair()
        reader, writer = one.detach(), other.detach()
    os.set_blocking(reader, False)
    yield reader, writer
    for end in (reader, writer):
        os.close(end)


@pytest.fixture
def make():
    """Make outputs, and finish them at the end."""
    made = []

    def its(fd: int) -> PatientOutput:
        made.append(PatientOutput(fd))
        return made[-1]

    yield its
    for output in made:
        output.finish()


def read_some(fd: int) -> bytes:
    """Read less than what is kept, so that it has to be cut anywhere."""
    try:
        return os.read(fd, 6007)
    except BlockingIOError:
        return b""


def read_all(fd: int) -> bytes:
    data = b""
    while more := read_some(fd):
        data += more
    return data


def test_what_nobody_reads_is_kept_for_a_while_and_then_counted(
    ends, make, monkeypatch
):
    reader, writer = ends
    monkeypatch.setattr(standard_error, "KEPT_BYTES_MAX", 10_000)
    output = make(writer)
    for _ in range(1000):  # it would wait for ever in the first few hundred
        output.write(LINE)
        output.flush()
    lost = output.dropped
    assert 0 < lost < 1000
    got = b""
    while data := read_some(reader):
        got += data
        output.flush()
    assert got == LINE.encode() * (1000 - lost), "whole lines, in order"
    output.write("next\n")
    output.flush()
    told, after = read_all(reader).splitlines()
    assert json.loads(told) == {"event": "log.lost", "lines": lost}
    assert after == b"next"


def test_the_reader_is_not_made_non_blocking_for_others(ends, make):
    _, writer = ends
    output = make(writer)
    output.write(LINE)
    output.flush()
    assert os.get_blocking(writer)


def test_the_end_waits_for_a_reader_but_not_long(ends, make, monkeypatch):
    reader, writer = ends
    monkeypatch.setattr(standard_error, "LAST_WAIT", 0.01)
    output = make(writer)
    for _ in range(1000):
        output.write(LINE)
    output.finish()
    assert 0 < len(read_all(reader)) < 1_000_000, "as much as there was room for"


def test_a_reader_that_has_gone_is_an_error_of_the_system(ends, make):
    reader, writer = ends
    os.dup2(os.open(os.devnull, os.O_RDONLY), reader)
    output = make(writer)
    output.write(LINE)
    with pytest.raises(OSError):  # noqa: PT011 - EPIPE or ECONNRESET
        output.flush()


CLOSED = """
import os, sys
os.closerange(0, 3)
sys.stderr = None
from duckservice.host.standard_error import open_standard_streams
open_standard_streams()
sys.stderr.write("to nobody")
assert os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT) == 3, "no file becomes stderr"
"""


def test_no_file_gets_the_number_of_a_closed_stderr(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, str(tmp_path / "file")], check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b""
