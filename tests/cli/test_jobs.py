"""The commands for jobs: what they ask for, what they print, how they end."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest

from duckservice.cli import job_calls
from tests.cli.conftest import Terminal

ID = "job_1"
NOW = 1_700_000_000.0
JOB: dict[str, Any] = {
    "id": ID, "kind": "chat", "state": "executing", "priority": "normal",
    "tags": {"team": "core"}, "submitter": {"uid": 0, "gid": 0, "pid": 1},
    "attempt": 1, "max_attempts": 3, "wait_reason": None, "wait_until": None,
    "errors": [], "provider": "openai", "model": "gpt-4o", "served_model": "gpt-4o",
    "usage": None, "cost_usd": "0.00123", "cost_known": True, "created_at": NOW - 65,
    "started_at": NOW - 60, "finished_at": None, "not_before": None, "deadline": None,
    "max_cost_usd": None, "on_interrupt": "retry", "maybe_billed": False,
    "cost_estimated": False, "poisoned": False, "batch": None, "line": None,
}  # fmt: skip
USAGE = {"prompt_tokens": 1200, "completion_tokens": 34, "total_tokens": 1234}
DONE = JOB | {"state": "completed", "finished_at": NOW - 5, "usage": USAGE}
ERROR = {
    "at": NOW - 20,
    "attempt": 3,
    "code": "provider_error",
    "message": "no\x1b[2J luck",
    "provider": "openai",
}
FAILED = JOB | {"state": "discarded", "finished_at": NOW - 5, "errors": [ERROR]}
WAITING = JOB | {
    "state": "retryable",
    "wait_reason": "breaker_open:openai",
    "wait_until": NOW + 60,
    "not_before": NOW + 7200,
    "max_cost_usd": "1.5",
    "maybe_billed": True,
}
REPLY = {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]}

SUBMIT, LOOK = "POST /v1/jobs", f"GET /v1/jobs/{ID}"
RESULT, STREAM = f"{LOOK}/result", f"{LOOK}/stream"


class Turns(list):
    """Answers that are given one after the other; the last one from then on."""


class Answers(dict):
    def get(self, question):
        answer = super().get(question)
        if isinstance(answer, Turns):
            return answer.pop(0) if len(answer) > 1 else answer[0]
        return answer


@pytest.fixture(autouse=True)
def around(monkeypatch):
    """Have a terminal for stdin, a known time of day, and no pauses."""
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("time.time", lambda: NOW)
    monkeypatch.setattr(job_calls, "PAUSE", 0.0)
    with monkeypatch.context() as environment:
        environment.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def answers(daemon):
    daemon.answers = Answers(daemon.answers)
    daemon.answers |= {SUBMIT: JOB, LOOK: DONE, RESULT: REPLY}
    return daemon.answers


def body_of(daemon):
    [body] = [json.loads(b) for question, _, b in daemon.asked if question == SUBMIT]
    return body


def event(name, id_, data):
    # The fake daemon writes the "data: ".
    return f"{json.dumps(data)}\nevent: {name}\nid: {id_}"


def delta(id_, text, attempt=1):
    choices = [{"index": 0, "delta": {"content": text}}]
    return event("delta", id_, {"attempt": f"{ID}.{attempt}", "choices": choices})


# Submitting.


def test_submit_prints_the_id_alone(duck, daemon, answers):
    assert duck("submit", "what", "is", "this") == (0, f"{ID}\n", "")
    assert body_of(daemon) == {
        "request": {
            "model": "gpt-4o",  # the first of /v1/models
            "messages": [{"role": "user", "content": "what is this"}],
            "stream": True,
        }
    }
    assert json.loads(duck("submit", "x", "--json").out) == JOB


def test_all_that_is_said_about_a_job_is_sent(duck, daemon, answers):
    done = duck(
        "submit", "-m", "m", "-s", "be brief", "-p", "low", "-t", "team=core", "-t",
        "app=x=y", "--deadline", "2h", "--not-before", "2030-01-01T00:00:00Z",
        "--max-cost", "0.05", "--hold", "--on-interrupt", "fail",
        "--idempotency-key", "k-1", "hi",
    )  # fmt: skip
    assert done.status == 0
    body = body_of(daemon)
    assert body.pop("request") == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hi"},
        ],
        "stream": True,
    }
    assert body == {
        "priority": "low", "tags": {"team": "core", "app": "x=y"},
        "deadline": "7200.000", "not_before": "2030-01-01T00:00:00Z",
        "max_cost_usd": "0.05", "hold": True, "on_interrupt": "fail",
    }  # fmt: skip
    assert daemon.asked[-1][1]["idempotency-key"] == "k-1"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"request": {"model": "m", "x": 1}, "hold": True},
         {"request": {"model": "m", "x": 1}, "hold": True}),
        ({"model": "m", "messages": []},
         {"kind": "chat", "request": {"model": "m", "messages": []}}),
        ({"model": "m", "input": "x"},
         {"kind": "embedding", "request": {"model": "m", "input": "x"}}),
    ],
)  # fmt: skip
def test_json_of_a_file_or_of_stdin_is_submitted_as_it_is(
    duck, daemon, answers, monkeypatch, given, sent
):
    path = duck.directory / "job.json"
    path.write_text(json.dumps(given))
    assert duck("submit", "--file", str(path)).status == 0
    assert body_of(daemon) == sent
    daemon.asked.clear()
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(given)))
    assert duck("submit", "-f", "-", "-p", "low").status == 0
    assert body_of(daemon) == sent | {"priority": "low"}


@pytest.mark.parametrize(
    ("words", "piped", "prompt"),
    [
        (["-"], "from stdin\n", "from stdin\n"),
        ([], "from stdin\n", "from stdin\n"),
        (["sum", "up:", "-"], "text", "sum up:\n\ntext"),
        (["explain", "-"], '{"messages": []}', 'explain\n\n{"messages": []}'),
        ([], '{"just": "json"}', '{"just": "json"}'),
        (["only", "this"], "not read", "only this"),
    ],
)
def test_a_prompt_is_the_words_then_stdin(
    duck, daemon, answers, monkeypatch, words, piped, prompt
):
    monkeypatch.setattr("sys.stdin", io.StringIO(piped))
    assert duck("submit", *words).status == 0
    assert body_of(daemon)["request"]["messages"][0]["content"] == prompt


def test_a_submission_on_stdin_is_recognised(duck, daemon, answers, monkeypatch):
    given = {"messages": [{"role": "user", "content": "x"}], "model": "m"}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(given)))
    assert duck("submit").status == 0
    assert body_of(daemon)["request"] == given


@pytest.mark.parametrize(
    "argv",
    [
        ["submit"],
        ["submit", "-t", "team", "x"],
        ["submit", "-f", "/nowhere", "x"],
        ["submit", "-f", "/nowhere"],
        ["submit", "--wait", "--timeout", "soon", "x"],
        ["submit", "--timeout", "5s", "x"],
        ["submit", "not UTF-8: \udcff"],
        ["wait"],
        ["show"],
        ["jobs", "--state", "done"],
    ],
)
def test_what_makes_no_sense_is_usage_and_sends_nothing(duck, daemon, answers, argv):
    assert duck(*argv).status == 2
    assert not daemon.asked


@pytest.mark.parametrize("text", ["no", "[1]", '{"a":' * 99_999])
def test_a_file_that_is_no_submission_is_refused(duck, daemon, answers, text):
    path = duck.directory / "job.json"
    path.write_text(text)
    assert duck("submit", "--file", str(path)).status == 2
    assert not daemon.asked


def test_submit_can_wait_for_the_result(duck, daemon, answers):
    answers[LOOK] = Turns([JOB, DONE])
    assert duck("submit", "hi", "--wait") == (0, "Hello\n", "")
    told = duck("submit", "hi", "--wait", "--json")
    assert json.loads(told.out) == DONE


def test_submit_says_why_a_job_that_it_has_waited_for_failed(duck, answers):
    answers[LOOK] = FAILED
    status, out, err = duck("submit", "hi", "--wait")
    assert (status, out) == (1, "")
    assert err == "duck: job job_1 is discarded: no\\x1b[2J luck (provider_error)\n"


def test_submit_that_has_waited_long_enough_ends_with_75(duck, answers):
    answers[LOOK] = JOB
    ended = duck("submit", "hi", "--wait", "--timeout", "0s")
    assert ended.status == 75
    assert "executing still" in ended.err


# Looking.


JOBS = r"""
JOB    STATE      PRIORITY  MODEL   AGE    ATTEMPT   COST      WAITS FOR
job_1  retryable  normal    gpt-4o  1m 5s      1/3  $0.00123  breaker_open:openai, 1m
job_1  completed  normal    gpt-4o  1m 5s      1/3  $0.00123
"""

SHOW = r"""
job         job_1
state       retryable
waits for   breaker_open:openai, 1m
model       gpt-4o
provider    openai
priority    normal
attempts    1 of 3
tags        team=core
created     2023-11-14 22:12:15 +0000 (1m 5s ago)
not before  2023-11-15 00:13:20 +0000 (in 2h)
started     2023-11-14 22:12:20 +0000 (1m ago)
cost        up to $0.00123, of at most $1.50
note        a request was broken off; its provider may have billed it

ATTEMPT  PROVIDER  MODEL   OUTCOME         TOOK          COST
      1  openai    gpt-4o  provider_error    5s      $0.00123
      2  openai    gpt-4o  lost               -  up to $0.002
      3  openai    gpt-4o  open               -             -

ATTEMPT  WHY THIS PROVIDER
      1  priority 1, health 1.0, load 0.00
      3  again (provider_error); priority 1, health 0.8, load 0.00

ATTEMPT  CODE            ERROR
      3  provider_error  no\x1b[2J luck
"""

ATTEMPTS = [
    {"id": f"{ID}.1", "number": 1, "state": "settled", "provider": "openai",
     "model": "gpt-4o", "began_at": NOW - 60, "ended_at": NOW - 55,
     "outcome": "provider_error", "cost_usd": "0.00123",
     "why": "priority 1, health 1.0, load 0.00"},
    {"id": f"{ID}.2", "number": 2, "state": "lost", "provider": "openai",
     "model": "gpt-4o", "began_at": NOW - 15, "ended_at": None, "outcome": None,
     "cost_usd": None, "reserved_usd": "0.002"},
    {"id": f"{ID}.3", "number": 3, "state": "open", "provider": "openai",
     "model": "gpt-4o", "began_at": NOW - 5, "ended_at": None, "outcome": None,
     "cost_usd": None,
     "why": "again (provider_error); priority 1, health 0.8, load 0.00"},
]  # fmt: skip


def test_ls_may_stand_before_and_behind_the_options_of_jobs(duck, answers):
    answers["GET /v1/jobs?state=completed&limit=5"] = {"jobs": [DONE], "cursor": None}
    state, limit = ["--state", "completed"], ["-n", "5"]
    expected = duck("ls", *state, *limit)
    assert (expected.status, expected.out.count("job_1")) == (0, 1)
    for words in (
        ["jobs", *state, *limit],
        ["jobs", "ls", *state, *limit],
        ["jobs", *state, *limit, "ls"],
        ["jobs", *state, "ls", *limit],
    ):
        assert duck(*words) == expected


def test_the_list_is_a_table_and_tells_where_it_goes_on(duck, answers):
    page = {"jobs": [WAITING, DONE], "cursor": "abc"}
    answers["GET /v1/jobs?limit=50"] = page
    for command in (["jobs"], ["ls"], ["jobs", "ls"]):
        status, out, err = duck(*command)
        assert status == 0
        assert [line.split() for line in out.splitlines()] == [
            line.split() for line in JOBS.strip().splitlines()
        ]
        assert err == "there are more: --cursor abc\n"
        assert json.loads(duck(*command, "--json").out) == page


def test_on_a_narrow_terminal_the_ids_stay_whole(duck, answers):
    long = "job_01a1fe25bfb8e0e1723359fe9abc"
    answers["GET /v1/jobs?limit=50"] = {"jobs": [DONE | {"id": long}], "cursor": None}
    duck.environ["COLUMNS"] = "60"
    assert long in duck("ls", terminal=True).out


def test_on_a_terminal_of_80_columns_state_age_and_cost_can_be_read(duck, answers):
    job = WAITING | {"id": "job_01a1fe25bfb8e0e1723359fe9abc", "state": "completed"}
    answers["GET /v1/jobs?limit=50"] = {"jobs": [job], "cursor": None}
    duck.environ["COLUMNS"] = "80"
    head, row = duck("ls", terminal=True).out.splitlines()
    assert "PRIORITY" not in head
    assert [job["id"], "completed"] == row.split()[:2]
    assert " 1m 5s " in row
    assert " $0.00123 " in row


def test_the_filters_of_the_list_are_sent(duck, daemon, answers):
    duck(
        "ls", "--state", "available", "--state", "executing", "-m", "m", "-t", "a=b",
        "--batch", "B", "--since", "24h", "-n", "7", "--cursor", "c/1",
    )  # fmt: skip
    assert daemon.asked[-1][0] == (
        "GET /v1/jobs?state=available&state=executing&model=m&tag=a%3Db&batch=B"
        "&since=24h&limit=7&cursor=c%2F1"
    )


def test_a_job_is_shown_with_why_it_waits_and_its_attempts(duck, answers):
    answers[LOOK] = WAITING | {"errors": [ERROR]}
    answers[f"{LOOK}/attempts"] = {"attempts": ATTEMPTS}
    assert duck("show", ID) == (0, SHOW.removeprefix("\n"), "")
    told = json.loads(duck("show", ID, "--json").out)
    assert told == WAITING | {"errors": [ERROR], "attempts": ATTEMPTS}


def test_the_result_is_the_text_or_all_of_it(duck, answers):
    assert duck("result", ID) == (0, "Hello\n", "")
    assert json.loads(duck("result", ID, "--json").out) == REPLY
    answers[RESULT] = {"data": [{"embedding": [0.5]}]}
    assert json.loads(duck("result", ID).out) == answers[RESULT]


def test_an_id_is_no_path(duck, daemon):
    assert duck("result", "../status").status == 1
    assert daemon.asked[-1][0] == "GET /v1/jobs/..%2Fstatus/result"


# Waiting and following.


def test_wait_tells_each_job_as_it_ends(duck, answers):
    answers[LOOK] = Turns([JOB, JOB, DONE])
    answers["GET /v1/jobs/job_2"] = FAILED | {"id": "job_2"}
    assert duck("wait", ID) == (0, "job_1 completed\n", "")
    status, out, err = duck("wait", ID, "job_2")
    assert (status, out) == (1, "job_1 completed\njob_2 discarded\n")
    assert "no\\x1b[2J luck" in err
    told = json.loads(duck("wait", ID, "job_2", "--json").out)
    assert [job["id"] for job in told] == [ID, "job_2"]


def test_wait_that_takes_too_long_ends_with_75_and_tells_all_states(duck, answers):
    answers[LOOK] = JOB
    answers["GET /v1/jobs/job_2"] = DONE | {"id": "job_2"}
    ended = duck("wait", "--timeout", "0s", ID, "job_2")
    assert ended == (75, "job_1 executing\njob_2 completed\n", "")


def test_wait_for_what_is_not_there_is_a_failure(duck, daemon):
    assert duck("wait", "nope").status == 1


def test_a_daemon_that_goes_away_during_the_first_wait_is_waited_for(
    duck, answers, monkeypatch
):
    from duckservice.gateway.client import DaemonClient, DaemonUnreachable

    request, gone = DaemonClient.request, []

    def goes_away(self, method, path, body=None, headers=None, timeout=None):
        if headers and not gone:
            gone.append(headers["Prefer"])
            raise DaemonUnreachable("it went away")
        return request(self, method, path, body, headers, timeout)

    monkeypatch.setattr(DaemonClient, "request", goes_away)
    answers[LOOK] = Turns([JOB, DONE])
    ended = duck("wait", ID)
    assert (ended.status, ended.out) == (0, "job_1 completed\n")
    assert gone


def test_follow_prints_the_reply_and_nothing_else(duck, answers):
    answers[STREAM] = [delta(1, "Hel"), delta(2, "lo"), event("done", 2, DONE)]
    assert duck("follow", ID) == (0, "Hello\n", "")
    account = "openai · 1,200 in, 34 out tokens · $0.00123\n"
    assert duck("follow", ID, terminal=True).err == account


def test_follow_goes_on_where_the_stream_broke_off(duck, daemon, answers):
    rest = [delta(3, "world"), event("done", 3, DONE)]
    answers[STREAM] = Turns([[delta(1, "Hello"), delta(2, ", ")], rest])
    status, out, err = duck("follow", ID)
    assert (status, out) == (0, "Hello, world\n")
    assert err == "the stream broke off; trying again until it is back\n"
    asked = [h.get("last-event-id") for q, h, _ in daemon.asked if q == STREAM]
    assert asked == [None, "2"]


def test_follow_says_when_another_attempt_begins_anew(duck, answers):
    answers[STREAM] = [
        *(delta(1, "Hel"), delta(2, "Hello", attempt=2)),
        event("done", 2, DONE),
    ]
    status, out, err = duck("follow", ID)
    assert (status, out) == (0, "Hel\nHello\n")
    assert err == "the reply broke off, and begins anew\n"


def test_follow_of_a_job_that_failed_keeps_what_came(duck, answers):
    error = {"code": "deadline_exceeded", "message": "too\x1b late", "job": ID}
    end = event("error", 1, {"error": error, "job": FAILED})
    answers[STREAM] = [delta(1, "Hel"), end]
    ended = duck("follow", ID)
    assert ended == (1, "Hel\n", "duck: too\\x1b late (deadline_exceeded)\n")


def test_follow_as_json_is_a_line_for_each_event(duck, answers):
    answers[STREAM] = [delta(7, "x"), event("done", 7, DONE)]
    lines = [json.loads(line) for line in duck("follow", ID, "--json").out.splitlines()]
    assert [(line["event"], line["id"]) for line in lines] == [
        ("delta", "7"),
        ("done", "7"),
    ]
    assert lines[1]["data"] == DONE


def test_follow_may_begin_in_the_middle(duck, daemon, answers):
    answers[STREAM] = [event("done", 9, DONE)]
    assert duck("follow", ID, "--after", "9").status == 0
    assert daemon.asked[-1][1]["last-event-id"] == "9"


def test_on_a_terminal_a_followed_reply_can_only_print(duck, answers):
    attack = [delta(n, c) for n, c in enumerate("a\x1b[2Jb\x1b]0;x\x07c", 1)]
    answers[STREAM] = [*attack, event("done", 99, DONE)]
    assert duck("follow", ID, terminal=True).out == "abc\n"


def test_a_daemon_that_stays_away_is_given_up(duck, answers, monkeypatch):
    monkeypatch.setattr(job_calls, "AWAY_MAX", -1.0)
    answers[STREAM] = [delta(1, "Hel")]
    ended = duck("follow", ID)
    assert (ended.status, ended.out) == (69, "Hel")


@pytest.mark.parametrize("argv", [["submit", "x"], ["wait", ID], ["follow", ID]])
def test_a_daemon_that_was_never_there_is_not_waited_for(duck, argv):
    ended = duck(*argv)
    assert (ended.status, ended.out) == (69, "")


@pytest.mark.parametrize(
    ("argv", "back"),
    [
        (["submit", "x", "--wait"], f"duck wait {ID}"),
        (["wait", "job_0", ID, "job_2"], f"duck wait {ID} job_2"),
        (["follow", ID], f"duck follow {ID} --after 4"),
    ],
)
def test_ctrl_c_detaches_and_says_how_to_come_back(
    duck, answers, monkeypatch, argv, back
):
    from duckservice.gateway.client import DaemonClient

    request, follow = DaemonClient.request, DaemonClient.follow

    def interrupted(self, method, path, *args, **more):
        if path.endswith(ID):
            raise KeyboardInterrupt
        return request(self, method, path, *args, **more)

    def interrupted_follow(self, *args):
        yield next(follow(self, *args))
        raise KeyboardInterrupt

    answers[STREAM] = [delta(4, "Hel")]
    answers["GET /v1/jobs/job_0"] = DONE | {"id": "job_0"}
    monkeypatch.setattr(DaemonClient, "request", interrupted)
    monkeypatch.setattr(DaemonClient, "follow", interrupted_follow)
    ended = duck(*argv)
    assert ended.status == 130
    assert back in ended.err


# Changing.


@pytest.mark.parametrize("action", ["cancel", "retry", "hold", "release"])
def test_a_change_is_made_to_each_job_and_one_failure_stops_no_other(
    duck, daemon, answers, action
):
    conflict = {"code": "conflict", "message": "job job_2 is completed"}
    for id_ in (ID, "job_3"):
        answers[f"POST /v1/jobs/{id_}/{action}"] = JOB | {"id": id_}
    answers[f"POST /v1/jobs/job_2/{action}"] = {"error": conflict}
    daemon.status[f"POST /v1/jobs/job_2/{action}"] = 409
    status, out, err = duck(action, ID, "job_2", "job_3")
    assert (status, out) == (1, "job_1 executing\njob_3 executing\n")
    assert err == "duck: job job_2 is completed (conflict)\n"
    told = json.loads(duck(action, ID, "job_2", "--json").out)
    assert told == [JOB, {"id": "job_2", "error": conflict}]


def test_the_commands_start_without_what_is_slow_to_import(duck, answers):
    import subprocess
    import sys

    code = (
        "import sys; from duckservice.cli import main; main(['submit', 'x']);"
        "print(*sorted(m for m in sys.modules if '.' not in m), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=duck.environ,
        capture_output=True,
        text=True,
        timeout=20,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout == f"{ID}\n"
    heavy = {"rich", "trio", "httpx", "attr", "attrs", "msgspec", "structlog"}
    assert not heavy & set(done.stderr.split())
