"""`duck events`: a line for each event, and no event lost when the daemon restarts."""

from __future__ import annotations

import json
import time

import pytest

from duckservice.cli import job_calls
from duckservice.event_stream.words import WORDS

EVENTS = "GET /v1/events"
NOW = 1_700_000_000.0


class Turns(list):
    """Answers that are given one after the other; then there is nobody any more."""


class Answers(dict):
    def get(self, question):
        answer = super().get(question)
        if isinstance(answer, Turns):
            return answer.pop(0) if answer else None
        return answer


@pytest.fixture(autouse=True)
def around(monkeypatch):
    monkeypatch.setattr(job_calls, "PAUSE", 0.0)
    with monkeypatch.context() as environment:
        environment.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def answers(daemon):
    daemon.answers = Answers(daemon.answers)
    return daemon.answers


def event(word: str, number: int, **fields) -> str:
    # The fake daemon writes the "data: ".
    data = json.dumps({"type": word, "at": NOW + number, **fields})
    return f"{data}\nevent: {word}\nid: a-{number}"


ATTEMPT = event(
    "attempt", 1, job="job_1", request_id="r", provider="openai", model="gpt-4o",
    outcome="ok", duration_ms=812.5, error=None, why="priority 1",
)  # fmt: skip


def asked(daemon, question=EVENTS) -> list:
    return [h.get("last-event-id") for q, h, _ in daemon.asked if q == question]


def test_each_event_is_a_line(duck, answers) -> None:
    answers[EVENTS] = [ATTEMPT, event("breaker", 2, provider="openai", now="open")]
    status, out, err = duck("events", "--once")
    first, second = out.splitlines()
    assert first.startswith(
        "22:13:21 attempt           model=gpt-4o  provider=openai  "
    )
    assert 'why="priority 1"' in first
    assert "request_id" not in first
    assert "error" not in first
    assert second == "22:13:22 breaker           provider=openai  now=open"
    assert (status, err) == (0, "")


def test_as_json_it_is_a_line_with_all_there_is(duck, answers) -> None:
    answers[EVENTS] = [ATTEMPT]
    [line] = duck("events", "--once", "--json").out.splitlines()
    told = json.loads(line)
    assert (told["id"], told["type"], told["at"]) == ("a-1", "attempt", NOW + 1)
    assert told["request_id"] == "r"
    assert told["error"] is None


def test_it_goes_on_behind_the_last_event_when_the_daemon_is_back(
    duck, daemon, answers
) -> None:
    gap = event("gap", 0, missed=None)
    rest = event("cost", 3, cost_usd="0.1")
    answers[EVENTS] = Turns([[ATTEMPT], [gap, rest]])
    status, out, err = duck("events")
    assert [line.split()[1] for line in out.splitlines()] == ["attempt", "gap", "cost"]
    assert "the daemon was restarted" in out
    assert asked(daemon) == [None, "a-1", "a-3"]
    assert err.startswith(
        "the daemon has ended the stream; trying again until it is back"
    )
    # The fake daemon, out of answers, has nothing at this path.
    assert status == 1


def test_who_saw_no_event_yet_comes_back_to_where_the_stream_began(
    duck, daemon, answers
) -> None:
    daemon.headers = {"Duck-Last-Event-Id": "a-41"}
    answers[EVENTS] = Turns([[]])
    duck("events")
    assert asked(daemon) == [None, "a-41"]


def test_once_ends_with_the_daemon(duck, daemon, answers) -> None:
    answers[EVENTS] = []
    assert duck("events", "--once") == (0, "", "")
    assert len(asked(daemon)) == 1


def test_types_and_since_are_passed_on(duck, daemon, answers) -> None:
    question = f"{EVENTS}?types=cost%2Cbreaker&since=10m"
    answers[question] = [ATTEMPT]
    assert duck("events", "--types", "cost,breaker", "--since", "10m", "--once").out
    assert asked(daemon, question) == [None]


def test_the_help_names_all_types_that_can_be_chosen(duck, capsys) -> None:
    assert duck("events", "--help").status == 0
    told = "".join(capsys.readouterr().out.split())
    assert ",".join(word for word in WORDS if word != "gap") in told


def test_a_daemon_that_was_never_there_is_not_waited_for(duck) -> None:
    for argv in (["events"], ["events", "--once"]):
        ended = duck(*argv)
        assert (ended.status, ended.out) == (69, "")
        assert "start one with: duckd" in ended.err


def test_a_daemon_that_stays_away_is_given_up(duck, answers, monkeypatch) -> None:
    monkeypatch.setattr(job_calls, "AWAY_MAX", -1.0)
    answers[EVENTS] = [ATTEMPT]
    assert duck("events").status == 69


def test_who_may_not_see_them_is_told_so(duck, daemon, answers) -> None:
    message = {"code": "permission_denied", "message": "only the user who runs it"}
    answers[EVENTS] = {"error": message}
    daemon.status[EVENTS] = 403
    ended = duck("events", "--once")
    assert ended.status == 77
    assert "only the user who runs it" in ended.err


def test_on_a_terminal_an_event_can_only_print(duck, answers) -> None:
    answers[EVENTS] = [event("attempt", 1, model="evil\x1b[2J", outcome="timeout")]
    out = duck("events", "--once", terminal=True).out
    assert "evil\\x1b[2J" in out
    assert "\x1b" not in out


def test_in_a_pipe_an_event_is_one_safe_line(duck, answers) -> None:
    answers[EVENTS] = [event("attempt", 1, model="evil\x1b[2J\nmore")]
    [line] = duck("events", "--once").out.splitlines()
    assert "\x1b" not in line


def test_a_failure_is_red_and_a_success_green(duck, answers) -> None:
    del duck.environ["NO_COLOR"]
    answers[EVENTS] = [
        event("request.exception", 1, outcome="timeout"),
        event("job", 2, state="completed"),
    ]
    red, green = duck("events", "--once", terminal=True).out.splitlines()
    assert "\x1b[31m" in red
    assert "\x1b[32m" in green


def test_ctrl_c_ends_it(duck, answers, monkeypatch) -> None:
    from duckservice.gateway.client import DaemonClient

    def interrupted(*_, **__):
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(DaemonClient, "stream", interrupted)
    ended = duck("events")
    assert (ended.status, ended.out) == (130, "")


def test_a_budget_is_told_as_money_and_moments_in_an_order_that_is_read(duck, answers):
    answers[EVENTS] = Turns(
        [
            [
                event(
                    "budget", 1, budget="team-a", share=80, window="hour",
                    limit_usd="0.2", spent_usd="0.16", reserved_usd="0",
                    since=NOW - 800, until=int(NOW) + 2800, why="so much is spent",
                )
            ]
        ]
    )  # fmt: skip
    assert duck("events", "--once").out.split(maxsplit=2)[2] == (
        "budget=team-a  share=80%  spent=$0.16  reserved=$0.00  limit=$0.20"
        "  window=hour  since=2023-11-14T22:00  until=2023-11-14T23:00"
        '  why="so much is spent"\n'
    )
