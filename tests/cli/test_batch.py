"""`duck batch` against the real daemon: results complete, each once, whatever happens."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from contextlib import contextmanager
from functools import partial
from subprocess import PIPE, Popen, run

import pytest

from duckservice.cli import batch_follow
from duckservice.cli.session import Session
from tests.cli.conftest import Terminal

pytestmark = pytest.mark.slow

LONG = "one two three four five six seven eight nine ten"
DAEMON = [sys.executable, "-m", "duckservice"]
DUCK = [
    sys.executable,
    "-c",
    "import sys; from duckservice.cli import main; sys.exit(main())",
]


CONFIG = """
[log]
format = "json"
[providers.mock]
adapter = "mock"
max_concurrency = 8
"""


@contextmanager
def running_daemon(duck):
    """Run duckd with its store on disk; its log is a file, which never fills up."""
    config, log = duck.directory / "config.toml", duck.directory / "log"
    config.write_text(CONFIG)
    argv = [*DAEMON, "--socket", str(duck.socket), "--config", str(config)]
    with log.open("w") as stderr:
        daemon = Popen(argv, stderr=stderr, env={"HOME": str(duck.directory)})
    try:
        until(lambda: "daemon.ready" in log.read_text())
        yield daemon
    finally:
        daemon.kill()
        daemon.wait(20)


@contextmanager
def running_duck(duck, *argv):
    """Run a command as a process of its own."""
    environ = {**os.environ, **duck.environ}
    with Popen([*DUCK, *argv], stderr=PIPE, text=True, env=environ) as process:
        yield process


@pytest.fixture
def real(duck, monkeypatch):
    monkeypatch.setattr(batch_follow, "_PAUSE", 0.1)
    with running_daemon(duck) as daemon:
        yield daemon


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def write(duck, *lines, name="in.jsonl"):
    path = duck.directory / name
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))  # fmt: skip
    return str(path)


def prompts(count, **more):
    return [{"prompt": f"hi {n}", "model": "mock-1", **more} for n in range(1, count + 1)]  # fmt: skip


def read(path) -> list:
    with open(path) as file:
        return [json.loads(line) for line in file]


def numbers(path) -> list[int]:
    return [int(each["id"].rpartition("_")[2]) for each in read(path)]


def test_a_batch_runs_and_its_results_are_complete(duck, real):
    source, out = write(duck, *prompts(20)), str(duck.directory / "out.jsonl")
    shown = duck("batch", "run", source, "-o", out)
    assert shown.status == 0, shown
    assert shown.out == ""
    assert re.search(r"batch_\w+ is completed: 20 of 20 requests done, 0 failed · .* tokens · \$", shown.err)  # fmt: skip
    assert sorted(numbers(out)) == list(range(1, 21))
    [one] = [each for each in read(out) if each["custom_id"] == "line-7"]
    assert one["response"]["body"]["choices"][0]["message"]["content"] == "hi 7"
    again = duck("batch", "run", source, "-o", out)
    assert again.status == 2
    assert "--resume" in again.err
    resumed = duck("batch", "run", source, "-o", out, "--resume", "--json")
    assert resumed.status == 0
    assert json.loads(resumed.out)["status"] == "completed"
    assert len(numbers(out)) == 20


def test_results_come_in_the_order_of_the_lines(duck, real):
    lines = [
        {"prompt": f"{n}", "model": "mock-slow" if n == 2 else "mock-1"}
        for n in range(1, 12)
    ]
    source, out = write(duck, *lines[:4], "\n", *lines[4:]), duck.directory / "out"
    assert duck("batch", "run", source, "-o", str(out), "--ordered").status == 0
    assert numbers(out) == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]
    assert sorted(p.name for p in duck.directory.iterdir() if "out" in p.name) == [
        "out",
        "out.batch",
    ]


def test_nothing_is_sent_if_a_line_is_bad(duck, real):
    source = write(duck, *prompts(2), "nonsense\n", {"prompt": "no model"})
    out = duck.directory / "out"
    shown = duck("batch", "run", source, "-o", str(out))
    assert shown.status == 2
    assert f"{source}:3: " in shown.err
    assert f"{source}:4: model: is required" in shown.err
    assert not out.exists()
    assert json.loads(duck("batch", "status", "--json").out)["data"] == []
    shown = duck("batch", "run", source, "-o", str(out), "--skip-bad")
    assert shown.status == 0, shown
    assert "2 bad lines left out" in shown.err
    assert sorted(numbers(out)) == [1, 2]
    shown = duck("batch", "run", source, "-o", str(out) + "2", "-m", "mock-1", "--skip-bad")  # fmt: skip
    assert sorted(numbers(str(out) + "2")) == [1, 2, 4]


def test_what_the_daemon_refuses_can_be_corrected_and_run(duck, real):
    source = write(duck, *prompts(2), {"prompt": "hi", "model": "unheard-of"})
    out = str(duck.directory / "out")
    shown = duck("batch", "run", source, "-o", out)
    assert shown.status == 1
    assert "line 3: " in shown.err
    assert "model_not_found" in shown.err
    write(duck, *prompts(2))
    assert duck("batch", "run", source, "-o", out).status == 0


@pytest.mark.parametrize("ordered", [False, True])
def test_an_output_that_cannot_be_written_is_told_and_gone_on_with(duck, real, ordered):
    source, out = write(duck, *prompts(60)), str(duck.directory / "out")
    argv = ["batch", "run", source, "-o", out, *(["--ordered"] if ordered else [])]
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192,) * 2);"
    # The limit would cut Python's own caches as well.
    environ = duck.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    limited = [sys.executable, "-c", code + DUCK[2], *argv]
    ended = run(
        limited,
        check=False,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "out: File too large; the batch runs on: the same command with --resume goes on" in ended.stderr  # fmt: skip
    assert duck(*argv, "--resume").status == 0
    assert sorted(numbers(out)) == list(range(1, 61))


def test_an_order_that_the_daemon_refuses_is_forgotten(duck, real):
    source, out = write(duck, *prompts(2)), str(duck.directory / "out")
    refused = duck("batch", "run", source, "-o", out, "--window", "90d")
    assert refused.status == 1
    assert "completion_window" in refused.err
    assert duck("batch", "run", source, "-o", out, "--window", "9d").status == 0


@pytest.mark.parametrize(
    "other",
    [
        ["--max-cost", "2"],
        ["--max-tokens", "2"],
        ["-m", "mock-2"],
        ["-p", "low"],
        ["--window", "2d"],
    ],
)
def test_resume_changes_nothing_that_was_begun(duck, real, other):
    begun = ["--max-cost", "1", "-m", "mock-1"]
    source, out = write(duck, *prompts(2, max_tokens=5)), str(duck.directory / "out")
    argv = ["batch", "run", source, "-o", out]
    assert duck(*argv, *begun).status == 0
    refused = duck(*argv, *other, "--resume")
    assert refused.status == 2
    assert "--resume cannot change that" in refused.err
    assert duck(*argv, *begun, "--resume").status == 0
    assert duck(*argv, "--resume").status == 0


def test_lines_that_fail_are_counted_and_told(duck, real):
    lines = [*prompts(2, max_tokens=5), *prompts(1, max_tokens=900_000_000)]
    source, out = write(duck, *lines), str(duck.directory / "out")
    shown = duck("batch", "run", source, "-o", out, "--max-cost", "1", "--priority", "low")  # fmt: skip
    assert shown.status == 1
    assert "1 failed" in shown.err
    assert re.search(r"  1 times not run: it may cost .* USD; .* are left of the batch's limit \(budget_exceeded\)", shown.err)  # fmt: skip
    assert "bound" not in shown.err
    assert sorted(numbers(out)) == [1, 2, 3]
    [batch] = json.loads(duck("batch", "status", "--json").out)["data"]
    assert batch["duck"]["max_cost_usd"] == "1"
    assert batch["duck"]["priority"] == "low"


def test_chats_without_a_limit_get_one_and_others_keep_theirs(duck, real):
    url = "/v1/chat/completions"
    body = {"model": "mock-1", "messages": [{"role": "user", "content": LONG}]}
    wrapped = {"custom_id": "w", "method": "POST", "url": url, "body": body}
    lines = [
        {"prompt": LONG, "model": "mock-1"},
        {"prompt": LONG, "model": "mock-1", "max_tokens": 3},
        wrapped,
        wrapped | {"custom_id": "k", "body": body | {"max_completion_tokens": 2}},
    ]
    source, out = write(duck, *lines[:2], "\n", *lines[2:]), str(duck.directory / "out")
    argv = ["batch", "run", source, "-o", out, "--max-tokens", "1", "--max-cost", "1"]
    shown = duck(*argv)
    assert shown.status == 0, shown
    used = {
        line["custom_id"]: line["response"]["body"]["usage"]["completion_tokens"]
        for line in read(out)
    }
    assert used == {"line-1": 1, "line-2": 3, "w": 1, "k": 2}
    assert sorted(numbers(out)) == [1, 2, 4, 5]
    assert duck(*argv[:-4], "--resume").status == 0


def test_under_a_limit_of_cost_lines_without_a_bound_are_named_and_not_sent(duck, real):
    lines = [*prompts(1, max_tokens=5), *prompts(2)]
    source, out = write(duck, *lines), duck.directory / "out"
    argv = ["batch", "run", source, "-o", str(out), "--max-cost", "1"]
    shown = duck(*argv)
    assert shown.status == 2
    assert f"{source}:1: " not in shown.err
    for line in (2, 3):
        assert f"{source}:{line}: its cost has no bound without max_tokens" in shown.err
    assert "give --max-tokens N" in shown.err
    assert not out.exists()
    submitted = duck("batch", "submit", source, "--max-cost", "1")
    assert (submitted.status, submitted.out) == (2, "")
    alike = write(duck, *prompts(2), name="alike")
    none = duck("batch", "submit", alike, "--max-cost", "1")
    assert f"{alike}: nothing but 2 bad lines; nothing was sent" in none.err
    assert json.loads(duck("batch", "status", "--json").out)["data"] == []
    assert duck(*argv, "--skip-bad").status == 0
    assert numbers(out) == [1]


def test_a_limit_of_tokens_is_for_chats(duck, real):
    line = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": {"model": "mock-1", "input": "x"}}  # fmt: skip
    shown = duck("batch", "submit", write(duck, line), "--max-tokens", "5")
    assert shown.status == 2
    assert "--max-tokens is for chats" in shown.err


def test_submit_status_results_cancel(duck, real):
    source = write(duck, *prompts(3))
    submitted = duck("batch", "submit", source)
    assert submitted.status == 0
    id_ = submitted.out.strip()
    out = str(duck.directory / "out")
    assert duck("batch", "results", id_, "-o", out).status == 0
    assert sorted(numbers(out)) == [1, 2, 3]
    shown = duck("batch", "results", id_)
    assert shown.status == 0
    assert len(shown.out.splitlines()) == 3
    shown = duck("batch", "status", id_)
    assert shown.status == 0
    assert "completed" in shown.out
    assert duck("batch", "cancel", id_).status == 1
    assert duck("batch", "status", "batch_none").status == 1
    source = write(duck, *prompts(500, stream=True), name="slow.jsonl")
    source = write(duck, *({"prompt": "a", "model": "mock-slow"} for _ in range(300)), name="slow.jsonl")  # fmt: skip
    id_ = duck("batch", "submit", source).out.strip()
    cancelled = json.loads(duck("batch", "cancel", id_, "--json").out)
    assert cancelled["status"] == "cancelling"
    shown = duck("batch", "results", id_, "-o", out + "2")
    assert shown.status == 1
    assert "is cancelled" in shown.err
    assert sorted(numbers(out + "2")) == list(range(1, 301))


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "nowhere.jsonl", "-o", "out"],
        ["run", "in.jsonl"],
        ["run", "in.jsonl", "-o", "out", "--max-cost", "much"],
        ["run", "in.jsonl", "-o", "out", "--max-tokens", "0"],
        ["run", "in.jsonl", "-o", "/nowhere/out"],
        ["run", "in.jsonl", "-o", "out", "--window", "soon"],
        ["run", "in.jsonl", "-o", "/dev/null"],
        ["run", "in.jsonl", "-o", "-"],
        ["wrong"],
        [],
    ],
)
def test_wrong_usage_is_told_without_a_daemon(duck, argv, monkeypatch):
    write(duck, *prompts(1))
    monkeypatch.chdir(duck.directory)
    assert duck("batch", *argv).status == 2


def test_without_a_daemon_nothing_is_begun(duck):
    source, out = write(duck, *prompts(1)), str(duck.directory / "out")
    assert duck("batch", "run", source, "-o", out).status == 69
    assert duck("batch", "status").status == 69


def test_a_second_process_does_not_write_the_same_output(duck, real):
    from duckservice.cli.batch_output import ResultOutput

    source, out = write(duck, *prompts(1)), duck.directory / "out"
    with ResultOutput.open(out):
        shown = duck("batch", "run", source, "-o", str(out))
    assert shown.status == 75
    assert "another process" in shown.err


# Cut off.


class Killed(BaseException):
    """Nobody catches it."""


class Killer:
    """Stands for `Session.request`: at the n-th request, the command is killed."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at = at
        self.after = after
        self.steps = 0
        self.request = Session.request

    def __get__(self, session, owner):
        return partial(self.step, session)

    def step(self, session, *args, **named):
        self.steps += 1
        if self.steps == self.at and not self.after:
            raise Killed
        answer = self.request(session, *args, **named)
        if self.steps == self.at:
            raise Killed
        return answer


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
def test_resume_goes_on_wherever_the_command_was_killed(
    duck, real, monkeypatch, after, ordered
):
    source, more = write(duck, *prompts(8)), ["--ordered"] if ordered else []
    at, killed = 0, True
    while killed:
        at, killed = at + 1, False
        out = duck.directory / f"out{at}"
        argv = ["batch", "run", source, "-o", str(out), *more]
        with monkeypatch.context() as patch:
            patch.setattr(Session, "request", Killer(at, after=after))
            try:
                assert duck(*argv).status == 0
            except Killed:
                killed = True
        if out.exists() and at % 2:
            # The kill may have come in the middle of a line.
            data = out.read_bytes()
            out.write_bytes(data[: max(0, len(data) - 7)])
        shown = duck(*argv, "--resume")
        assert shown.status == 0, shown
        found = numbers(out)
        assert sorted(found) == list(range(1, 9))
        if ordered:
            assert found == sorted(found)
    assert at > 6
    batches = json.loads(duck("batch", "status", "--json").out)["data"]
    assert all(each["request_counts"]["total"] == 8 for each in batches)


def test_ctrl_c_detaches_and_the_batch_runs_on(duck, real):
    lines = [{"prompt": f"{n}", "model": "mock-slow"} for n in range(8)]
    source, out = write(duck, *lines), duck.directory / "out"
    state = duck.directory / "out.batch"
    argv = ["batch", "run", source, "-o", str(out)]
    with running_duck(duck, *argv) as process:
        until(lambda: state.exists() and json.loads(state.read_text())["batch"])
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "detached: the batch runs on" in err
    assert "--resume" in err
    id_ = json.loads(state.read_text())["batch"]
    assert f"duck batch cancel {id_}" in err
    shown = duck(*argv, "--resume")
    assert shown.status == 0, shown
    assert sorted(numbers(out)) == list(range(1, 9))
    [only] = json.loads(duck("batch", "status", "--json").out)["data"]
    assert only["id"] == id_


def test_a_daemon_that_is_killed_and_started_again_completes_the_batch(duck, real):
    lines = [
        {"prompt": f"{n}", "model": "mock-slow" if n % 60 == 0 else "mock-1"}
        for n in range(700)
    ]
    source, out = write(duck, *lines), duck.directory / "out"
    with running_duck(duck, "batch", "run", source, "-o", str(out)) as process:
        until(lambda: out.exists() and out.stat().st_size)
        real.kill()
        real.wait(20)
        with running_daemon(duck):
            _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert sorted(numbers(out)) == list(range(1, 701))


def test_a_changed_file_is_not_resumed(duck, real):
    source, out = write(duck, *prompts(2)), str(duck.directory / "out")
    assert duck("batch", "run", source, "-o", out).status == 0
    write(duck, *prompts(3))
    shown = duck("batch", "run", source, "-o", out, "--resume")
    assert shown.status == 2
    assert "has changed" in shown.err


def test_an_output_that_somebody_else_wrote_is_left_alone(duck):
    source, out = write(duck, *prompts(1)), duck.directory / "out"
    out.write_text("mine\n")
    for more in ([], ["--resume"]):
        assert duck("batch", "run", source, "-o", str(out), *more).status == 2
        assert out.read_text() == "mine\n"


# The progress.


def batch(completed, failed=0, total=100, status="in_progress"):
    return {
        "status": status,
        "request_counts": {"total": total, "completed": completed, "failed": failed},
        "usage": {"total_tokens": completed * 10},
        "duck": {"cost_usd": "0.25"},
    }


def test_off_a_terminal_there_is_no_progress(duck):
    import io

    from duckservice.cli.batch_progress import BatchProgress
    from duckservice.cli.output import Output

    now = 0.0
    out = Output(io.StringIO(), io.StringIO(), {})
    progress = BatchProgress(out, lambda: now)
    for now in range(100):
        progress.show(batch(now, failed=1))
    progress.clear()
    assert out.stderr.getvalue() == ""


def test_progress_says_how_fast_it_goes_and_when_it_will_be_over(duck):
    from duckservice.cli.batch_progress import BatchProgress
    from duckservice.cli.output import Output

    now = 0.0
    out = Output(Terminal(), Terminal(), {"COLUMNS": "120"})
    progress = BatchProgress(out, lambda: now)
    for now in range(21):
        progress.show(batch(now * 2, failed=1))
    assert out.stderr.getvalue().endswith(
        "41/100 done · 1 failed · 2.0/s · 400 tokens · $0.25 · ETA 29s"
    )


def test_on_a_terminal_there_is_a_bar_that_goes_away(duck):
    from duckservice.cli.batch_progress import BatchProgress
    from duckservice.cli.output import Output

    out = Output(Terminal(), Terminal(), {"COLUMNS": "60"})
    progress = BatchProgress(out, lambda: 1.0)
    progress.show(batch(50))
    assert "████████████░░░░░░░░░░░░ 50/100 done" in out.stderr.getvalue()
    assert all(len(part) < 60 for part in out.stderr.getvalue().split("\r\x1b[2K"))
    progress.clear()
    assert out.stderr.getvalue().endswith("\r\x1b[2K")
