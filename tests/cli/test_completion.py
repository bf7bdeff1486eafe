"""`duck completion`: what real shells offer after it."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from duckservice.cli import names
from duckservice.cli.completion import NAMES
from duckservice.cli.output import Output
from duckservice.cli.parser import COMMANDS, build
from duckservice.cli.program import run
from tests.cli.fake_daemon import MODELS, PROVIDERS, open_fake_daemon

CASES = {
    ("duck", "to"): {"top"},
    ("duck", "--json", "sta"): {"status"},
    ("duck", "--socket", "tree", "sta"): {"status"},
    ("duck", "cost", "--by", ""): {"provider", "model", "day", "hour", "total"},
    ("duck", "--json", "cost", "--by", "d"): {"day"},
    ("duck", "jobs", "--state", "e"): {"executing", "expired"},
    ("duck", "providers", "e"): {"enable"},
    ("duck", "queue", "pa"): {"pause"},
    ("duck", "top", "--in"): {"--interval"},
    ("duck", "batch", "run", "--ord"): {"--ordered"},
    ("duck", "batch", "re"): {"results"},
    ("duck", "completion", "z"): {"zsh"},
    ("duck", "chaos", "--on"): {"--only"},
}


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


@functools.cache
def script_for(shell: str) -> str:
    out = Output(io.StringIO(), io.StringIO(), {})
    assert run(["completion", shell], out, {}) == 0
    return out.stdout.getvalue()


@pytest.fixture
def offers(duck, tmp_path):
    """Return a function that asks a shell, in which `duck` prints what `tells` has."""
    program = tmp_path / "bin" / "duck"
    program.parent.mkdir()
    path = f"{program.parent}:{os.environ['PATH']}"
    environ = duck.environ | {"PATH": path, "LC_ALL": "C.UTF-8"}

    def tells(script: str) -> None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def offers(shell: str, script: str, words: tuple[str, ...]) -> set[str]:
        """Return what *shell* offers for the last of *words*, as whole words."""
        ask = _ASK[shell]
        done = subprocess.run(
            [*_START[shell], f"{ask[0]}\n{script}\n{ask[1]}", shell, *_typed(shell, words)],
            check=True, capture_output=True, text=True, timeout=20,
            env=environ, cwd=tmp_path,
        )  # fmt: skip
        assert done.stderr == ""
        found = {line.split("\t")[0] for line in done.stdout.splitlines()}
        if shell == "bash":
            found = {
                re.sub(r"[^:=@]*$", "", words[-1]) + word for word in found if word
            }
        return {word for word in found if word.startswith(words[-1])}

    offers.tells = tells
    tells("exit 0")
    return offers


CODE = "from duckservice.cli import main; exit(main())"
REAL = f"exec {sys.executable} -c '{CODE}' \"$@\""


def _typed(shell: str, words: tuple[str, ...]) -> list[str]:
    """Return *words* as *shell* hands them over: bash cuts them, and has the line too."""
    if shell != "bash":
        return list(words)
    cut = [part for word in words for part in re.split("([:=@])", word) if part]
    return [" ".join(words), *cut, *([] if words[-1] else [""])]


_START = {
    "bash": ["bash", "--norc", "-c"],
    "zsh": ["zsh", "-f", "-c"],
    "fish": ["fish", "--no-config", "-c"],
}
_ASK = {
    # What completes is what `complete` was told, as it is by the shell itself.
    "bash": (
        "COMP_WORDBREAKS=$' \\t\\n\"\\'@><=;|&(:'",
        """COMP_LINE="$1"; COMP_POINT=${#1}; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        [[ $(complete -p duck) == *-F\\ _duck* ]] && _duck
        printf "%s\\n" "${COMPREPLY[@]}" """,
    ),
    # Its widgets need a terminal; these stand for them, and print what they are given.
    "zsh": (
        """compdef() { [[ $1 == _duck && $2 == duck ]] }; _files() { }
        compset() { lead=$2; PREFIX=${PREFIX#$2} }
        compadd() { shift; (($#)) && print -rl -- "$lead"${^@}; true }
        _describe() { print -rl -- "${(@)${(P)2}%%:*}" }""",
        'words=("$@"); CURRENT=$#; PREFIX=$words[-1]; _duck',
    ),
    "fish": ("", 'complete -C "$argv[2..]"'),
}


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_the_shell_offers_what_may_follow(offers, shell, words) -> None:
    script = script_for(shell)
    assert offers(shell, script, words) == CASES[words]


def test_each_command_can_be_completed_with_each_of_its_options(offers, shell) -> None:
    script = script_for(shell)
    names = {command.name for command in COMMANDS}
    assert names <= offers(shell, script, ("duck", ""))
    choices = build()._subparsers._group_actions[0].choices
    for name in ("top", "jobs", "events"):
        options = {
            option
            for action in choices[name]._actions
            for option in action.option_strings
            if option.startswith("--")
        }
        assert options <= offers(shell, script, ("duck", name, "--"))


def test_nothing_is_offered_for_what_nobody_knows(offers) -> None:
    script = script_for("bash")
    assert offers("bash", script, ("duck", "top", "--interval", "")) <= {""}
    assert offers("bash", script, ("duck", "--socket", "")) <= {""}


TOLD = {
    "providers": "openai local",
    "models": "gpt-4o llama3:8b llama3:70b team/x@1",
    "budgets": "all team=a",
    "batches": "batch_1 batch_2",
    "actors": "request_queue providers providers/openai",
    "jobs": "job_1 job_2",
    "jobs-to-cancel": "job_open",
    "jobs-to-hold": "job_waits",
    "jobs-to-release": "job_held",
    "jobs-to-retry": "job_failed",
}
KNOWN = {
    ("duck", "show", "j"): {"job_1", "job_2"},
    ("duck", "wait", "job_1", "job_"): {"job_1", "job_2"},
    ("duck", "follow", "job_2"): {"job_2"},
    ("duck", "--json", "result", "j"): {"job_1", "job_2"},
    ("duck", "cancel", "j"): {"job_open"},
    ("duck", "hold", "j"): {"job_waits"},
    ("duck", "release", "j"): {"job_held"},
    ("duck", "retry", "j"): {"job_failed"},
    ("duck", "providers", "enable", "o"): {"openai"},
    ("duck", "providers", "check", "l"): {"local"},
    ("duck", "providers", "reset", "re"): set(),
    ("duck", "providers", "--models", "o"): {"openai"},
    ("duck", "budget", "a"): {"all"},
    ("duck", "budget", "team=a"): {"team=a"},
    ("duck", "batch", "status", "b"): {"batch_1", "batch_2"},
    ("duck", "jobs", "--batch", "batch_"): {"batch_1", "batch_2"},
    ("duck", "restart", "p"): {"providers", "providers/openai"},
    ("duck", "restart", "request_"): {"request_queue"},
    ("duck", "ask", "--model", "g"): {"gpt-4o"},
    ("duck", "ask", "-m", "llama3:"): {"llama3:8b", "llama3:70b"},
    ("duck", "submit", "--model", "llama3:7"): {"llama3:70b"},
    ("duck", "submit", "--model=g"): {"--model=gpt-4o"},
    ("duck", "submit", "--model=llama3:7"): {"--model=llama3:70b"},
    ("duck", "batch", "run", "--model", "team/x@"): {"team/x@1"},
    ("duck", "jobs", "--model", "g"): {"gpt-4o"},
}


@pytest.mark.parametrize("words", KNOWN, ids=" ".join)
def test_names_are_offered_where_they_are_due(offers, shell, words) -> None:
    cases = "".join(
        f"{kind}) printf '%s\\n' {told} ;;\n" for kind, told in TOLD.items()
    )
    offers.tells(f'[ $1 = {names.COMMAND} ] || exit; case "$2" in\n{cases}esac')
    script = script_for(shell)
    assert offers(shell, script, words) == KNOWN[words]


def jobs(*ids: str) -> dict:
    return {"jobs": [{"id": id_} for id_ in ids], "cursor": None}


def models(*ids: str) -> dict:
    return MODELS | {"data": [{"id": id_} for id_ in ids]}


def providers(*names_: str) -> dict:
    return {"providers": [PROVIDERS["providers"][0] | {"name": n} for n in names_]}


WAITING = "state=scheduled&state=available&state=retryable"
ANSWERS = {
    "providers": ("/v1/providers", providers("openai", "local")),
    "models": ("/v1/models", models("gpt-4o", "llama3:8b")),
    "budgets": ("/v1/budgets", {"budgets": [{"name": "all"}, {"name": "team=a"}]}),
    "batches": ("/v1/batches", {"data": [{"id": "batch_1"}, {"id": "batch_2"}]}),
    "jobs": ("/v1/jobs", jobs("job_1", "job_2")),
    "jobs-to-cancel": (
        f"/v1/jobs?state=suspended&{WAITING}&state=executing",
        jobs("job_open", "job_2"),
    ),
    "jobs-to-hold": (f"/v1/jobs?{WAITING}", jobs("job_waits", "job_2")),
    "jobs-to-release": ("/v1/jobs?state=suspended", jobs("job_held", "job_2")),
    "jobs-to-retry": (
        "/v1/jobs?state=retryable&state=discarded&state=cancelled&state=expired",
        jobs("job_failed", "job_2"),
    ),
}


@pytest.mark.parametrize("kind", names.KINDS)
def test_the_names_are_the_daemons(duck, daemon, kind) -> None:
    if kind == "actors":
        assert duck(names.COMMAND, kind).out.split() == ["request_queue", "providers"]
        return
    target, answer = ANSWERS[kind]
    daemon.answers = {f"GET {target}": answer}
    [members] = (its for its in answer.values() if isinstance(its, list) and its)
    known = [its.get("name") or its["id"] for its in members]
    assert duck(names.COMMAND, kind) == (0, "\n".join(known) + "\n", "")


def test_the_daemon_is_the_one_that_the_line_names(duck, offers, shell) -> None:
    script = script_for(shell)
    elsewhere = duck.directory / "elsewhere.sock"
    config = duck.directory / "own.toml"
    config.write_text(f"service.socket = '{elsewhere}'")
    offers.tells(REAL)
    with open_fake_daemon(elsewhere) as daemon:
        daemon.answers["GET /v1/jobs"] = jobs("job_1", "job_2")
        for line in (
            ("--socket", str(elsewhere), "show"),
            (f"--socket={elsewhere}", "show"),
            ("show", f"--socket={elsewhere}"),
        ):
            found = offers(shell, script, ("duck", *line, "job_"))
            assert found == {"job_1", "job_2"}
        assert offers(shell, script, ("duck", "show", "job_")) == set()
        offers.tells(f"unset DUCK_SOCKET; {REAL}")
        for line in (("--config", str(config)), (f"--config={config}",)):
            found = offers(shell, script, ("duck", *line, "show", "job_"))
            assert found == {"job_1", "job_2"}


HOSTILE = (
    "$(touch ran)", "`touch ran`", "a;touch ran", "a&touch ran", "a|touch ran",
    "'a", '"a', "a\\", "a b", "a\nb", "a\tb", "\x1b[31ma", "a\x9b2J", "-rf", "--all",
    "~root", "*", "a?", "[a]", "{a,b}", "!!", "#a", "=ls", "<(touch ran)", "a\u202eb",
    "$HOME", "%1", "^a", "a>ran", "", "x" * 300, "ü", 5, None,
)  # fmt: skip


def test_a_name_that_a_shell_might_take_for_more_is_not_offered(
    duck, daemon, offers, shell, tmp_path
) -> None:
    daemon.answers |= {
        "GET /v1/providers": providers(*HOSTILE, "good"),
        "GET /v1/models": models(*HOSTILE, "good"),
        "GET /v1/budgets": {"budgets": [{"name": n} for n in (*HOSTILE, "good")]},
    }
    script = script_for(shell)
    offers.tells(REAL)
    for kind in ("providers", "models", "budgets"):
        assert duck(names.COMMAND, kind).out == "good\n"
    for words in (("providers", "reset"), ("ask", "-m"), ("budget",)):
        found = offers(shell, script, ("duck", *words, ""))
        assert {word for word in found if not word.startswith("--")} == {"good"}
    assert not (tmp_path / "ran").exists()


def test_no_shell_runs_what_it_is_told_whoever_says_it(offers, shell, tmp_path) -> None:
    script = script_for(shell)
    text = "\n".join(name for name in HOSTILE if isinstance(name, str))
    (tmp_path / "told").write_text(text + "\ngood\n")
    offers.tells(f"cat {shlex.quote(str(tmp_path / 'told'))}")
    for words in (("budget", "g"), ("ask", "-m", "g"), ("providers", "check", "g")):
        assert offers(shell, script, ("duck", *words)) == {"good"}
    assert not (tmp_path / "ran").exists()


def test_what_is_typed_is_not_run_either(offers, shell, tmp_path) -> None:
    script = script_for(shell)
    for typed in ("$(touch ran)", "`touch ran`", "x[$(touch ran)]", "*"):
        for words in (
            ("duck", "--socket", typed, "show", ""),
            ("duck", f"--socket={typed}", "ask", "-m", ""),
            ("duck", typed, ""),
            ("duck", "providers", typed, ""),
            ("duck", "show", typed),
        ):
            offers(shell, script, words)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", names.KINDS)
def test_without_a_daemon_there_are_no_names_and_no_word(duck, kind) -> None:
    assert duck(names.COMMAND, kind) == (0, "", "")
    del duck.environ["DUCK_SOCKET"]
    assert duck(names.COMMAND, kind, "", "/nowhere/config.toml") == (0, "", "")
    broken = duck.directory / "broken.toml"
    broken.write_text("[service]\nsocket = ")
    assert duck(names.COMMAND, kind, "", str(broken)) == (0, "", "")
    del duck.environ["HOME"]
    assert duck(names.COMMAND, kind) == (0, "", "")


@pytest.mark.parametrize(
    "answer",
    ["<html>", "[]", "null", '{"data": 5}', '{"data": [5]}', '{"jobs": [{}]}', "[" * 5000],
)  # fmt: skip
def test_an_answer_that_is_none_of_ours_has_no_names(duck, daemon, answer) -> None:
    for kind in names.KINDS.values():
        daemon.answers[f"GET {kind.target}"] = answer
    for kind in names.KINDS:
        assert duck(names.COMMAND, kind) == (0, "", "")
    daemon.answers.clear()
    assert duck(names.COMMAND, "jobs") == (0, "", ""), "an error of the daemon"
    assert duck(names.COMMAND) == duck(names.COMMAND, "quack") == (0, "", "")


def test_names_are_at_most_so_many(duck, daemon) -> None:
    daemon.answers["GET /v1/jobs"] = jobs(*(f"job_{n}" for n in range(5_000)))
    assert len(duck(names.COMMAND, "jobs").out.split()) == 1_000


@pytest.mark.parametrize("piece", [b"", b" "], ids=["silent", "trickles"])
def test_a_daemon_that_is_slow_is_not_waited_for(duck, monkeypatch, piece) -> None:
    monkeypatch.setattr(names, "PATIENCE", 0.05)
    never = 6.0
    hung_up = threading.Event()

    def dawdle(listener):
        connection, _ = listener.accept()
        began = time.monotonic()
        with connection:
            connection.settimeout(0.005)
            try:
                if piece:
                    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"
                    connection.sendall(head)
                while time.monotonic() - began < never:
                    connection.sendall(piece)
                    with suppress(TimeoutError):
                        if not connection.recv(4096):
                            hung_up.set()
                            return
            except ConnectionError:
                hung_up.set()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(duck.socket))
        listener.listen()
        thread = threading.Thread(target=dawdle, args=(listener,))
        thread.start()
        assert duck(names.COMMAND, "jobs") == (0, "", "")
        thread.join()
    assert hung_up.is_set()


def test_asking_for_names_imports_no_more_than_a_submit(duck, daemon) -> None:
    def imported(*argv: str) -> set[str]:
        code = (
            "import sys, json; from duckservice.cli import main; main(sys.argv[1:]);"
            "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *argv], check=True, capture_output=True,
            text=True, timeout=20, stdin=subprocess.DEVNULL, env=duck.environ,
        )  # fmt: skip
        assert done.stdout
        return set(json.loads(done.stderr))

    daemon.answers["POST /v1/jobs"] = {"id": "job_1"}
    submit = imported("submit", "x", "-m", "a")
    asked = imported(names.COMMAND, "providers")
    assert asked - submit <= {"signal"}
    assert "duckservice.cli.parser" not in asked


def test_names_are_offered_where_there_is_something_to_name() -> None:
    parsers = build()._subparsers._group_actions[0].choices
    for command, places in NAMES.items():
        known = {
            word
            for action in parsers[command]._actions
            for word in (*action.option_strings, *(action.choices or ()))
        }
        assert set(places) - {""} <= known
        assert set(places.values()) <= set(names.KINDS)
    assert not any(command.name == names.COMMAND for command in COMMANDS)
    assert names.COMMAND not in build().format_help()
