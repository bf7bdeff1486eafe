"""`duck dashboard` as its users run it: what it prints, how it begins, how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from subprocess import PIPE, Popen
from urllib.parse import urlsplit

import attrs
import pytest

from tests.cli import conftest as cli

duck, daemon = cli.duck, cli.daemon

DAEMON = [sys.executable, "-m", "duckservice"]
DUCK = [sys.executable, "-c", "from duckservice.cli import main; exit(main())"]
PATIENCE = 20
AT_ONCE = 3.0


@attrs.define
class Running:
    """A daemon, and a `duck` that finds it."""

    duck: cli.Duck
    process: Popen[str]


@pytest.fixture(scope="module")
def real():
    """Run duckd on its defaults for all tests here."""
    with tempfile.TemporaryDirectory(prefix="duck-") as folder:
        duck = cli.Duck(Path(folder))
        config = duck.directory / "config.toml"
        config.write_text("[log]\nformat = 'json'\n")
        argv = [*DAEMON, "--socket", str(duck.socket), "--config", str(config)]
        with Popen(argv, stderr=PIPE, text=True, env={"HOME": folder}) as process:
            for line in process.stderr:
                if json.loads(line)["event"] == "daemon.ready":
                    break
            yield Running(duck, process)
            process.kill()
            process.communicate(timeout=PATIENCE)


@pytest.fixture
def start(real):
    """Start ``duck dashboard``; killed when the test is over."""
    started = []

    def start(*options, stdin=PIPE, stdout=PIPE, **environ):
        process = Popen(
            [*DUCK, "dashboard", *options],
            stdin=stdin,
            stdout=stdout,
            stderr=PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], **real.duck.environ, **environ},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)


@contextmanager
def asking(url, path, cookie=""):
    """Ask the dashboard; the answer is open for the length of a block."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    connection.request("GET", path, headers={"Cookie": cookie})
    with closing(connection), connection.getresponse() as reply:
        yield reply


def enter(url):
    """Come in; return the cookie."""
    with asking(url, urlsplit(url).path + "?" + urlsplit(url).query) as reply:
        assert reply.status == 303
        return reply.getheader("set-cookie").partition(";")[0]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)]
)
def test_a_signal_ends_it_at_once_whoever_looks(start, number, status) -> None:
    process = start("--json")
    line = process.stdout.readline()
    url = json.loads(line)["url"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/enter\?token=[\w-]{43}", url)
    with asking(url, "/stream", enter(url)) as stream:
        assert stream.status == 200
        assert stream.readline() == b"retry: 1000\n"
        begun = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - begun < AT_ONCE
    assert (process.returncode, out, err) == (status, "", "")


def test_a_stopped_daemon_does_not_keep_it_from_ending(real, start) -> None:
    process = start("--json")
    url = json.loads(process.stdout.readline())["url"]
    real.process.send_signal(signal.SIGSTOP)
    with asking(url, "/stream", enter(url)) as stream:
        assert stream.readline() == b"retry: 1000\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    assert time.monotonic() - begun < AT_ONCE
    real.process.send_signal(signal.SIGCONT)


def test_without_a_daemon_it_says_so_and_does_not_begin(duck) -> None:
    ended = duck("dashboard")
    assert (ended.status, ended.out) == (69, "")
    assert "start one with: duckd" in ended.err


def test_who_is_no_admin_is_told_so(duck, daemon) -> None:
    message = "only the user who runs the daemon may do this"
    refusal = {"error": {"code": "permission_denied", "message": message}}
    daemon.answers["GET /v1/tree"] = refusal
    daemon.status["GET /v1/tree"] = 403
    ended = duck("dashboard")
    assert (ended.status, ended.out) == (77, "")
    assert message in ended.err


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_a_port_that_is_none_is_refused(duck, port) -> None:
    assert duck("dashboard", "--port", port).status == 2


def test_a_port_that_is_taken_is_said(start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start("--port", str(port))
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (78, "")
    assert err.startswith(f"duck: cannot listen at 127.0.0.1 port {port}:")
    assert "Traceback" not in err


def test_an_output_that_takes_nothing_is_said(start) -> None:
    with open("/dev/full", "w") as full:
        process = start(stdout=full)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err == "duck: cannot write the output: No space left on device\n"


def test_the_port_may_be_chosen(start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start("--port", str(port))
    assert process.stdout.readline().startswith(f"http://127.0.0.1:{port}/enter?")


def read_until(fd, pattern):
    """Read from a terminal until it shows *pattern*; return the match."""
    shown, deadline = "", time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        shown += os.read(fd, 4096).decode()
        found = re.search(pattern, shown)
        if found is not None:
            return found
    raise AssertionError(shown)


URL = r"(http://127\.0\.0\.1:\d+/enter\?token=[\w-]{43})\s"


@pytest.fixture
def terminal():
    """The two ends of one."""
    master, slave = pty.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def test_on_a_terminal_a_browser_opens(tmp_path, start, terminal) -> None:
    master, slave = terminal
    opened = tmp_path / "opened"
    os.mkfifo(opened)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    # For writing, too: so it opens at once, and does not end before it was told.
    with open(opened, "r+b", buffering=0) as told:
        start(stdin=slave, stdout=slave, BROWSER=f"{browser} %s")
        url = read_until(master, URL)[1]
        assert select.select([told], [], [], PATIENCE)[0]
        assert told.read(4096).decode() == f"{url}\n"
    assert enter(url)


@pytest.mark.parametrize("options", [["--no-open"], ["--json"]])
def test_no_browser_opens_where_it_is_not_wanted(
    tmp_path, start, terminal, options
) -> None:
    master, slave = terminal
    opened = tmp_path / "opened"
    process = start(*options, stdin=slave, stdout=slave, BROWSER=f"touch {opened} %s")
    assert read_until(master, r"token=")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert not opened.exists()


def test_enter_prints_another_address(real) -> None:
    # A session of its own, whose terminal it is: else it is in the background.
    pid, master = pty.fork()
    if not pid:
        environ = {"PATH": os.environ["PATH"], **real.duck.environ}
        os.execve(DUCK[0], [*DUCK, "dashboard", "--no-open"], environ)
    first = read_until(master, URL)[1]
    os.write(master, b"\n")
    second = read_until(master, URL)[1]
    assert first != second
    assert enter(second)
    assert enter(first)
    os.write(master, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    os.close(master)


def test_other_commands_start_without_it() -> None:
    code = (
        "import sys; from duckservice.cli.parser import build; build();"
        " exit('trio' in sys.modules or 'duckservice.gateway.server' in sys.modules)"
    )
    with Popen([sys.executable, "-c", code]) as process:
        assert process.wait(PATIENCE) == 0
