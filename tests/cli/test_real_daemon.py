"""Every command against the real daemon: both sides agree on paths and shapes."""

from __future__ import annotations

import json
import sys
from subprocess import PIPE, Popen

import pytest

from duckservice.cli import names
from tests.cli.conftest import Terminal

DAEMON = [sys.executable, "-m", "duckservice"]


@pytest.fixture
def real(duck, monkeypatch):
    """Run duckd on its defaults until the test is over."""
    monkeypatch.setattr("sys.stdin", Terminal())
    config = duck.directory / "config.toml"
    config.write_text(
        "[log]\nformat = 'json'\n"
        "[budgets.core]\nlimit_usd = 5.0\nwindow = 'total'\n"
        "match = { tag = 'team=core' }\n"
    )
    argv = [*DAEMON, "--socket", str(duck.socket), "--config", str(config)]
    with Popen(
        argv, stderr=PIPE, text=True, env={"HOME": str(duck.directory)}
    ) as daemon:
        for line in daemon.stderr:
            if json.loads(line)["event"] == "daemon.ready":
                break
        yield daemon
        daemon.terminate()
        daemon.communicate(timeout=20)


def test_its_names_are_those_that_a_shell_offers(duck, real):
    def offered(kind):
        status, out, err = duck(names.COMMAND, kind)
        assert (status, err) == (0, "")
        return out.split()

    held = duck("submit", "-m", "mock-echo", "--hold", "quack").out.strip()
    over = duck("submit", "-m", "mock-echo", "--wait", "--json", "quack")
    over = json.loads(over.out)["id"]
    assert offered("jobs") == [over, held]
    assert offered("jobs-to-release") == offered("jobs-to-cancel") == [held]
    assert offered("jobs-to-hold") == offered("jobs-to-retry") == []
    assert duck("cancel", held).status == 0
    assert offered("jobs-to-retry") == [held]
    assert offered("providers") == ["mock"]
    assert offered("models") == ["mock-echo"]
    assert offered("budgets") == ["core"]
    assert "cost_tracker" in offered("actors")
    order = duck.directory / "order.jsonl"
    order.write_text('{"prompt": "quack", "model": "mock-echo"}\n')
    batch = duck("batch", "submit", str(order)).out.strip()
    assert offered("batches") == [batch]


def test_all_commands_speak_with_the_real_daemon(duck, real):
    assert duck("ask", "quack", "quack") == (0, "quack quack\n", "")
    told = json.loads(duck("ask", "quack", "--json").out)
    assert told["choices"][0]["message"]["content"] == "quack"
    account = duck("ask", "quack", "--no-stream", "--verbose").err
    assert account.startswith("mock · ")
    assert "$" in account
    assert "mock · " in duck("ask", "quack", "--verbose").err
    for argv in (
        ["status"], ["tree"], ["providers"], ["models"], ["queue"], ["doctor"],
        ["cost"], ["cost", "--by", "model"], ["cost", "--by", "total"],
        ["providers", "check", "mock"], ["providers", "disable", "mock"],
        ["providers", "enable", "mock"], ["restart", "cost_tracker"],
        ["queue", "pause"], ["queue", "resume"], ["restart", "gateway"],
    ):  # fmt: skip
        shown = duck(*argv)
        assert shown.status == 0, (argv, shown)
        assert json.loads(duck(*argv, "--json").out), argv
    assert "mock" in duck("cost").out
    assert duck("restart", "nowhere").status == 1
    assert duck("ask", "-m", "no-such-model", "quack").status == 1
    assert duck("drain").status == 0
    assert duck("ask", "quack").status == 75
    assert duck("shutdown").status == 0
    assert real.wait(20) == 0
    assert duck("status").status == 69


def test_the_time_since_when_costs_count_may_be_said(duck, real):
    assert duck("ask", "quack").status == 0
    told = json.loads(duck("cost", "--since", "24h", "--json").out)
    assert told["total"]["requests"] == 1


def test_events_tell_of_what_was_done(duck, real):
    assert duck("ask", "quack").status == 0
    assert duck("drain").status == 0  # so that the events come to an end
    told = duck("events", "--since", "1h", "--once", "--json")
    assert told.status == 0
    types = [json.loads(line)["type"] for line in told.out.splitlines()]
    assert types[:4] == ["request.start", "attempt", "cost", "request.stop"]
    few = duck("events", "--since", "1h", "--once", "--types", "attempt").out
    assert "provider=mock" in few
    assert duck("events", "--once", "--types", "nonsense").status != 0
