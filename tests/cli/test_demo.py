"""`duck demo`: actors crash, and no request is lost."""

from __future__ import annotations

import json
import os
import signal

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
    assert "/400 answered" in err


def test_ctrl_c_ends_the_show_and_leaves_nothing_behind(duck):
    duck.environ["TMPDIR"] = str(duck.directory)
    running = process(duck, "demo", start_new_session=True)
    assert "duck demo" in running.stderr.readline()
    assert running.stderr.readline()  # something was answered
    os.kill(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, "")
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("interrupted: ")
    assert "/400 answered" in last
    assert not list(duck.directory.glob("duck-demo-*"))


def test_the_number_of_requests_is_limited(duck):
    assert duck("demo", "--requests", "0").status == 2
    assert duck("demo", "--requests", "1000000").status == 2
