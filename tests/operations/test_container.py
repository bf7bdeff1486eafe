"""The Dockerfile says what the docs promise. No test builds the image: that is said there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.fake_daemon import open_fake_daemon

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "packaging" / "docker" / "Dockerfile"
KNOWN = {
    *("ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME"),
    *("HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT"),
}


def instructions() -> list[tuple[str, str]]:
    text = DOCKERFILE.read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (word, rest)
        for word, _, rest in (line.partition(" ") for line in joined.splitlines())
        if word
    ]


def of_the_image(word: str) -> list[str]:
    """Return the instructions of the last stage."""
    said = instructions()
    last = max(at for at, (its, _) in enumerate(said) if its == "FROM")
    return [rest for its, rest in said[last:] if its == word]


def health_check() -> list[str]:
    (said,) = of_the_image("HEALTHCHECK")
    return json.loads(said.partition("CMD ")[2])


def test_each_line_is_an_instruction_with_something_behind_it():
    assert {word for word, _ in instructions()} <= KNOWN
    assert all(rest.strip() for _, rest in instructions())


@pytest.mark.parametrize("command", [r for w, r in instructions() if w == "RUN"])
def test_its_commands_are_shell(command):
    ended = subprocess.run(["sh", "-n", "-c", command], check=False, timeout=20)
    assert ended.returncode == 0


def test_what_it_copies_is_there_and_is_not_left_out_of_the_context():
    let_in = {
        line[1:]
        for line in (DOCKERFILE.parent / "Dockerfile.dockerignore")
        .read_text()
        .splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in shlex.split(rest)[:-1]
    }
    assert copied == let_in, "what is not needed is left out, and nothing else"
    assert all((ROOT / name).exists() for name in copied)


def test_it_is_built_from_the_lock_and_runs_no_code_of_others():
    locked, ours = (r for w, r in instructions() if w == "RUN" and "pip" in r)
    assert "--require-hashes --only-binary :all: -r requirements.lock" in locked
    assert "--no-deps ." in ours


def test_it_runs_as_a_user_that_is_not_root_by_number():
    assert of_the_image("USER") == ["10001:10001"]
    (made,) = of_the_image("RUN")
    assert "useradd --uid 10001 --gid 10001" in made
    for folder, mode in (("/var/lib/duckd", "0700"), ("/run/duckd", "0755")):
        assert f"install -d -o duckd -g duckd -m {mode} {folder}" in made


def test_what_it_writes_is_on_volumes():
    (environment,) = of_the_image("ENV")
    told = dict(its.split("=", 1) for its in shlex.split(environment))
    (volumes,) = map(json.loads, of_the_image("VOLUME"))
    assert f"{told['XDG_STATE_HOME']}/duckd" in volumes
    assert str(Path(told["DUCK_SOCKET"]).parent) in volumes
    assert told["PYTHONDONTWRITEBYTECODE"] == "1", "the rest may be read-only"


def test_duckd_is_the_main_process_and_gets_the_signal():
    assert of_the_image("ENTRYPOINT") == ['["duckd"]']
    assert of_the_image("STOPSIGNAL") == ["SIGTERM"]


@pytest.mark.parametrize(("answer", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_succeeds_only_where_duckd_is_ready(tmp_path, answer, code):
    python, *arguments = health_check()
    assert python == "python"
    path = tmp_path / "d.sock"

    def check() -> int:
        environ = {**os.environ, "DUCK_SOCKET": str(path)}
        return subprocess.run(
            [sys.executable, *arguments],
            env=environ,
            cwd=ROOT,
            capture_output=True,
            timeout=30,
            check=False,
        ).returncode

    if answer is None:
        assert check() == code
        return
    with open_fake_daemon(path) as daemon:
        daemon.answers["GET /readyz"] = {"ready": answer == 200}
        daemon.status["GET /readyz"] = answer
        assert check() == code
