"""How `duck` begins and ends: sockets, exit codes, signals, pipes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

PROGRAM = [sys.executable, "-c", "from duckservice.cli import main; exit(main())"]


def process(duck, *argv, stderr=subprocess.PIPE, **options):
    return subprocess.Popen(
        [*PROGRAM, *argv],
        env=duck.environ | {"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        **options,
    )


def test_without_a_daemon_it_ends_with_69_and_says_what_to_do(duck):
    ended = duck("status")
    assert (ended.status, ended.out) == (69, "")
    assert str(duck.socket) in ended.err
    assert "duckd" in ended.err


def test_a_socket_that_nobody_serves_is_no_daemon(duck):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(duck.socket))
    assert duck("status").status == 69


def test_an_answer_that_is_not_json_is_no_daemon(duck, daemon):
    daemon.answers["GET /v1/status"] = "<html>"
    assert duck("status").status == 69


def test_usage_is_2_and_lists_what_there_is(duck, capsys):
    assert duck().status == 2
    assert duck("quack").status == 2
    assert "status" in capsys.readouterr().err
    assert duck("cost", "--by", "moon").status == 2


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(("statu",), "status"), (("dashbord",), "dashboard"), (("batch", "rum"), "run")],
)
def test_a_command_that_is_mistyped_is_answered_by_the_nearest(
    duck, capsys, typed, meant
):
    assert duck(*typed).status == 2
    told = capsys.readouterr().err
    assert told.endswith(
        f'there is no command {typed[-1]!r}; did you mean "{meant}"?\n'
    )


def test_the_version_needs_no_daemon(duck):
    status, out, err = duck("--version")
    assert (status, err) == (0, "")
    assert out.startswith("duck 0.")


def test_the_socket_is_found_in_the_order_of_the_contract(duck, daemon):
    config = duck.directory / "config.toml"
    config.write_text(f"service.socket = '{duck.socket}'")
    elsewhere = "/nowhere/duckd.sock"
    found = duck.environ.pop("DUCK_SOCKET")
    assert duck("status").status == 69
    assert duck("status", "--config", str(config)).status == 0
    duck.environ["DUCK_CONFIG"] = str(config)
    assert duck("status").status == 0
    duck.environ["DUCK_SOCKET"] = elsewhere
    assert elsewhere in duck("status").err
    assert duck("status", "--socket", found).status == 0
    assert duck("--socket", found, "status").status == 0
    assert duck("--json", "status").out == duck("status", "--json").out


def test_a_config_that_is_named_and_not_there_is_not_guessed_around(duck):
    del duck.environ["DUCK_SOCKET"]
    duck.environ["DUCK_CONFIG"] = str(duck.directory / "config.toml")
    ended = duck("status")
    assert (ended.status, ended.out) == (78, "")
    assert "there is no such config file" in ended.err


@pytest.fixture
def broken(duck, daemon):
    """Return the path of a config, beside a daemon at the usual place."""
    del duck.environ["DUCK_SOCKET"]
    duck.environ["XDG_RUNTIME_DIR"] = str(duck.directory)
    usual = duck.directory / "duckd" / "duckd.sock"
    usual.parent.mkdir()
    usual.symlink_to(duck.socket)
    path = duck.directory / ".config" / "duckd" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[service]\nsocket = ", "is not TOML: Invalid value (at end of document)"),
        (
            b"[service]\n\nsocket = x\n",
            "is not TOML: Invalid value (at line 3, column 10)",
        ),
        (b"service = 5", "`service` is no table"),
        (
            b"# a\nx\xff",
            "is not UTF-8 text: there is an invalid byte at line 2, column 2",
        ),
        (b"x = " + b"[" * 10_000, "nested too deeply"),
        (None, "cannot be read (is a directory)"),
    ],
)
def test_a_config_that_cannot_be_read_disables_no_command_that_needs_the_socket_only(
    duck, broken, content, told
):
    if content is None:
        broken.mkdir()
    else:
        broken.write_bytes(content)
    ended = duck("status")
    assert ended.status == 0
    [warning] = ended.err.splitlines()
    assert warning.startswith(f"duck: warning: {broken}")
    assert told in warning
    assert str(duck.directory / "duckd" / "duckd.sock") in warning
    assert "Error" not in warning, "no name of Python's"


def test_a_mark_before_the_text_of_a_config_is_no_mistake(duck, daemon):
    del duck.environ["DUCK_SOCKET"]
    config = duck.directory / "config.toml"
    config.write_text(f"service.socket = '{duck.socket}'", "utf-8-sig")
    ended = duck("status", "--config", str(config))
    assert (ended.status, ended.err) == (0, "")


def test_a_reload_of_a_broken_config_is_the_daemons_to_refuse(duck, daemon, broken):
    broken.write_text("[service\n")
    daemon.status["POST /v1/reload"] = 400
    refused = {"code": "invalid_request", "message": "it is refused, the old one kept"}
    daemon.answers["POST /v1/reload"] = {"error": refused}
    ended = duck("reload")
    assert ended.status == 78
    assert "the old one kept" in ended.err


def test_a_socket_path_that_is_too_long_is_refused(duck):
    ended = duck("status", "--socket", "/" + "x" * 120)
    assert ended.status == 78
    assert "107" in ended.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to any socket")
def test_a_socket_of_somebody_else_is_77(duck, daemon):
    duck.socket.chmod(0)
    assert duck("status").status == 77


def test_ctrl_c_ends_with_130_and_without_a_traceback(duck):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(duck.socket))
        silent.listen()
        running = process(duck, "status")
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)  # it has asked, and waits
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=20)
    assert (running.returncode, out, err) == (130, "", "")


def test_a_reader_who_goes_away_is_no_reason_to_complain(duck, daemon):
    running = process(duck, "status")
    running.stdout.close()
    err = running.stderr.read()
    assert running.wait(20) == 1
    assert err == ""
    running.stderr.close()


def test_output_that_cannot_be_encoded_is_escaped(duck, daemon):
    duck.environ["PYTHONIOENCODING"] = "ascii"
    out, err = process(duck, "tree").communicate(timeout=20)
    assert out
    assert err == ""


def test_the_client_imports_nothing_heavy(duck, daemon):
    code = (
        "import sys; from duckservice.cli import main; main(['status', '--json']);"
        "print(*sorted(m for m in sys.modules if '.' not in m), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=duck.environ | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {
        "rich",
        "trio",
        "httpx",
        "attrs",
        "attr",
        "cattrs",
        "structlog",
        "starlette",
    }
    assert not heavy & set(done.stderr.split())


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_standard_stream_that_is_closed_is_no_reason_to_break(duck, daemon, number):
    script = f'exec {number}>&- {number}<&-; exec "$@"'
    ended = subprocess.run(
        ["sh", "-c", script, "sh", *PROGRAM, "status"],
        check=False,
        env=duck.environ | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert bool(ended.stdout) == (number != 1)


def test_output_that_cannot_be_written_is_a_message(duck, daemon):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*PROGRAM, "status"],
            check=False,
            env=duck.environ | {"PATH": os.environ["PATH"]},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
        )
    assert ended.returncode == 1
    assert ended.stderr == "duck: cannot write the output: No space left on device\n"


def test_no_color_means_no_escape_sequence_at_all(duck, daemon):
    assert "\x1b" not in duck("status", terminal=True).out
    duck.environ["NO_COLOR"] = ""
    assert "\x1b" in duck("status", terminal=True).out
