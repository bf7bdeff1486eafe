"""`duck demo`: actors crash, and no request is lost."""

from __future__ import annotations

import json
import os
import pty
import signal
from contextlib import suppress

import pytest

from tests.cli.test_program import process


def test_no_request_is_lost_while_actors_crash(duck):
    running = process(duck, "demo", "--requests", "60", "--json")
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    told = json.loads(out)
    assert told["submitted"] == told["completed"] == 60
    assert told["lost"] == 0
    assert told["crashes"] > 0
    assert told["restarts"]
    assert told["failovers"] > 0
    assert sum(told["completed_by_provider"].values()) == 60


@pytest.mark.slow
def test_the_whole_show_takes_less_than_20_seconds(duck):
    running = process(duck, "demo")
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "lost         0\n" in out
    assert err == ""


def test_off_a_terminal_there_is_the_summary_and_no_progress(duck):
    running = process(duck, "demo", "--requests", "60")
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert "submitted    60\n" in out
    assert "lost         0\n" in out


def test_ctrl_c_ends_the_show_and_leaves_nothing_behind(duck):
    duck.environ["TMPDIR"] = str(duck.directory)
    # Progress, which says when to interrupt it, goes to a terminal only.
    master, slave = pty.openpty()
    running = process(duck, "demo", start_new_session=True, stderr=slave)
    os.close(slave)
    with open(master, encoding="utf-8") as stderr:
        assert "duck demo" in stderr.readline()
        assert "/400 answered" in stderr.readline()
        os.kill(running.pid, signal.SIGINT)
        err = list(_lines(stderr))
    out, _ = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, "")
    assert "Traceback" not in "".join(err)
    assert err[-1].startswith("interrupted: ")
    assert "/400 answered" in err[-1]
    assert not list(duck.directory.glob("duck-demo-*"))


def _lines(terminal):
    """Yield what is written there; Linux says EIO where a file would end."""
    with suppress(OSError):
        yield from terminal


def test_the_number_of_requests_is_limited(duck):
    assert duck("demo", "--requests", "0").status == 2
    assert duck("demo", "--requests", "1000000").status == 2
