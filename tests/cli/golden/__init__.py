"""What each command prints, in all its forms, of a daemon that stands still.

`busy.scene.json` and `quiet.scene.json` are what a real daemon has answered at one
moment, one with traffic, failures and people who wait, one that nobody has used; a
model's name and a crash in it were made hostile. The files beside them are what the
commands make of it, byte by byte. After a change that is meant:

    python -m tests.cli.golden

writes them anew, and ``git diff`` shows what a person will see.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from duckservice.cli.output import Output
from duckservice.cli.program import run
from duckservice.cli.top.build import Bodies, frame
from duckservice.cli.top.frame import Frame
from duckservice.cli.top.grid import ASCII, UNICODE
from duckservice.cli.top.history import History
from duckservice.cli.top.layout import View, lines
from tests.cli.fake_daemon import open_fake_daemon

HERE = Path(__file__).parent
ESC = "\N{SYMBOL FOR ESCAPE}"
"""Stands for the escape character in the files, which are to be read by people."""
WIDTHS = (60, 80, 120)
COMMANDS = {
    "tree": ["tree"],
    "status": ["status"],
    "events": ["events", "--once"],
    "top": ["top", "--once"],
    "providers": ["providers"],
    "models-performance": ["providers", "--models"],
    "queue": ["queue"],
    "jobs": ["jobs"],
    "show-failed": ["show", "{failed}"],
    "show-waiting": ["show", "{waiting}"],
    "budget": ["budget"],
    "cost": ["cost"],
    "cost-by-model": ["cost", "--by", "model"],
}
OF_A_JOB = frozenset({"show-failed", "show-waiting"})
"""There is none where nobody has used the daemon."""


SCREENS = ((80, 24, UNICODE), (200, 60, UNICODE), (50, 14, ASCII), (20, 5, UNICODE))
"""Columns, lines and marks."""


class Terminal(io.StringIO):
    """A stdout that a person looks at."""

    def isatty(self) -> bool:
        return True


def files(name: str) -> dict[str, str]:
    """Return what the golden files of one command are to hold, by their names."""
    busy, quiet = (_scene(which) for which in ("busy", "quiet"))
    pictures = [_picture(name, busy, width) for width in WIDTHS]
    pictures.append(_picture(name, busy, 80, colour=True))
    if name not in OF_A_JOB:
        pictures.append(_picture(name, quiet, 80))
    texts = {
        f"{name}.txt": "\n".join(pictures),
        f"{name}.json": printed(name, busy, ["--json"]),
    }
    return texts | ({"top-screens.txt": _screens()} if name == "top" else {})


def _screens() -> str:
    """Return `duck top` as it fills screens of several sizes."""
    pictures: list[str] = []
    for width, height, marks in SCREENS:
        view = View(width=width, height=height, marks=marks, keys=True)
        with _standing_still(_scene("busy")["now"], {"TERM": "xterm"}):
            shown = lines(frame_of("busy"), view)
        title = f"=== busy, {width} x {height} ==="
        pictures.append("\n".join([title, *(line.plain for line in shown), ""]))
    return "\n".join(pictures)


def frame_of(which: str) -> Frame:
    """Return the frame of `duck top` of a scene."""
    scene = _scene(which)
    bodies, history = scene["bodies"], History()
    for its in next(its for name, its in scene["events"].items() if "types" in name):
        history.take(its["data"])
    costs = [its for name, its in bodies.items() if "by=total" in name]
    jobs = next(its for name, its in bodies.items() if "executing" in name)
    its = Bodies(
        status=bodies["GET /v1/status"],
        providers=bodies["GET /v1/providers"]["providers"],
        budgets=bodies["GET /v1/budgets"]["budgets"],
        tree=bodies["GET /v1/tree"],
        today=costs[0],
        last_hour=costs[1],
        jobs=jobs["jobs"],
    )
    return frame(its, history, scene["now"])


def _scene(which: str) -> dict[str, Any]:
    scene: dict[str, Any] = json.loads(HERE.joinpath(f"{which}.scene.json").read_text())
    return scene | {"which": which}


def _picture(name: str, scene: dict, width: int, *, colour: bool = False) -> str:
    out = printed(name, scene, [], width, colour=colour)
    assert ESC not in out, "what stands for it must not be in it"
    coloured = ", coloured" if colour else ""
    title = f"=== {scene['which']}, {width} columns{coloured} ==="
    return f"{title}\n{out.replace(chr(27), ESC)}"


def printed(
    name: str,
    scene: dict,
    more: list[str],
    width: int = 80,
    *,
    colour: bool = False,
) -> str:
    """Return what a command prints on stdout, at the scene's time."""
    argv = [word.format_map(scene["show"]) for word in COMMANDS[name]]
    environ = {"COLUMNS": str(width), "HOME": "/home/duck", "TERM": "xterm"}
    environ |= {} if colour else {"NO_COLOR": "1"}
    stream = Terminal if colour else io.StringIO
    with (
        tempfile.TemporaryDirectory(prefix="duck-") as directory,
        open_fake_daemon(Path(directory, "duckd.sock")) as daemon,
        _standing_still(scene["now"], environ),
    ):
        daemon.answers = _Answers(scene)
        out = Output(stream(), io.StringIO(), environ)
        status = run([*argv, *more, "--socket", str(daemon.path)], out, environ)
    assert status == 0, out.stderr.getvalue()
    return out.stdout.getvalue()


class _Answers(dict):
    """What the daemon has answered; events are a stream of strings."""

    def __init__(self, scene: dict) -> None:
        super().__init__(scene["bodies"])
        for question, told in scene["events"].items():
            self[question] = [
                f"{json.dumps(its['data'])}\nevent: {its['event']}\nid: {its['id']}"
                for its in told
            ]


@contextmanager
def _standing_still(now: float, environ: dict[str, str]) -> Iterator[None]:
    # rich looks into the process's own environment for what a terminal can do.
    with mock.patch.dict(os.environ, {"TZ": "UTC", "TERM": environ["TERM"]}):
        os.environ.pop("COLORTERM", None)
        time.tzset()
        with mock.patch.object(time, "time", return_value=now):
            yield
    time.tzset()
