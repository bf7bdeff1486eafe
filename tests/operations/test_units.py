"""The units for systemd: systemd itself finds nothing wrong in them."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from duckservice.config import Config
from duckservice.paths import socket_path, state_dir
from duckservice.process import EXIT_CUT_OFF

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging" / "systemd"
ANALYZE = shutil.which("systemd-analyze")
EXPOSURE_MAX = {"system": 2.0, "user": 7.0}
"""Of 10; what is left is said in docs/operations.md."""
RATED_WITH = "252"


def version() -> str:
    if ANALYZE is None:
        return ""
    done = subprocess.run([ANALYZE, "--version"], capture_output=True, check=False)
    return done.stdout.decode().split()[1]


VERSION = version()
needs_systemd = pytest.mark.skipif(
    ANALYZE is None, reason="systemd-analyze is not installed here"
)


def unit(kind: str, name: str) -> configparser.ConfigParser:
    # Keys may stand twice: each adds to the one before.
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / kind / name)
    return parser


def runnable(kind: str, tmp_path: Path) -> list[Path]:
    """Copy the units, with a program that is there."""
    copies = []
    for path in sorted((UNITS / kind).iterdir()):
        text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", path.read_text())
        copies.append(tmp_path / path.name)
        copies[-1].write_text(text)
    return copies


def analyze(kind: str, tmp_path: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    scope = ["--user"] if kind == "user" else []
    return subprocess.run(
        [str(ANALYZE), *argv, *scope],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@needs_systemd
@pytest.mark.parametrize("kind", ["user", "system"])
def test_systemd_understands_every_line(kind, tmp_path):
    copies = [str(path) for path in runnable(kind, tmp_path)]
    done = analyze(kind, tmp_path, "verify", *copies)
    # An unknown key is only a warning.
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@needs_systemd
@pytest.mark.parametrize("kind", ["user", "system"])
def test_a_unit_is_as_closed_as_the_documents_say(kind, tmp_path):
    (service,) = (p for p in runnable(kind, tmp_path) if p.suffix == ".service")
    done = analyze(kind, tmp_path, "security", "--offline=yes", str(service))
    found = re.search(r"exposure level for duckd.service: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= EXPOSURE_MAX[kind]
    if VERSION == RATED_WITH:  # others know of other things to rate
        page = (ROOT / "docs" / "operations.md").read_text()
        assert f"**{found[1]}**" in page


@pytest.mark.parametrize("kind", ["user", "system"])
def test_a_stop_lasts_long_enough_to_drain(kind):
    service = unit(kind, "duckd.service")["Service"]
    assert float(service["TimeoutStopSec"]) > Config.default().service.drain_grace


@pytest.mark.parametrize("kind", ["user", "system"])
def test_what_is_wrong_in_the_config_is_not_tried_again(kind):
    service = unit(kind, "duckd.service")["Service"]
    codes = service["RestartPreventExitStatus"].split()
    assert codes == ["2", "78"]
    assert str(EXIT_CUT_OFF) not in codes


def test_the_socket_units_listen_where_the_programs_look():
    listen = unit("user", "duckd.socket")["Socket"]["ListenStream"]
    runtime = {"XDG_RUNTIME_DIR": "/run/user/1000", "HOME": "/home/me"}
    assert listen.replace("%t", "/run/user/1000") == str(socket_path(runtime))
    system = unit("system", "duckd.service")["Service"]
    listen = unit("system", "duckd.socket")["Socket"]["ListenStream"]
    assert system["ExecStart"].split()[-2:] == ["--socket", listen]


def test_the_system_unit_keeps_its_state_where_it_may_write():
    service = unit("system", "duckd.service")["Service"]
    name, value = service["Environment"].split("=")
    assert state_dir({name: value}) == Path("/var/lib", service["StateDirectory"])
