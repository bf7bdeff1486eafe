"""A `duck` that runs in this process, on streams of its own."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from duckservice.cli.output import Output
from duckservice.cli.program import run
from tests.cli.fake_daemon import open_fake_daemon


class Ended(NamedTuple):
    status: int
    out: str
    err: str


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Duck:
    """Runs commands against a socket that a daemon may or may not serve."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "duckd.sock"
        self.environ = {
            "DUCK_SOCKET": str(self.socket),
            "HOME": str(directory),
            "NO_COLOR": "1",
            "COLUMNS": "100",
            "TERM": "xterm",
        }

    def __call__(self, *argv: str, terminal: bool = False) -> Ended:
        kind = Terminal if terminal else io.StringIO
        out = Output(kind(), kind(), self.environ)
        try:
            status = run(argv, out, self.environ)
        except SystemExit as end:  # argparse's own way to refuse
            status = end.code
        return Ended(status, out.stdout.getvalue(), out.stderr.getvalue())


@pytest.fixture
def duck():
    # Not tmp_path: its name may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="duck-") as directory:
        yield Duck(Path(directory))


@pytest.fixture
def daemon(duck):
    with open_fake_daemon(duck.socket) as daemon:
        yield daemon
