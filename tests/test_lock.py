"""The lock files are what pyproject.toml asks for, whole, pinned and hashed."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
RUNTIME = "requirements.lock"
EXTRAS = "requirements-extras.lock"
WORK = {"test", "sdks", "lint", "browser"}
LOCKED = {"aws", "azure", "gcp", "otel", "tokens"}
"""The extras of who uses duckd; the others are for work on the project itself."""
ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+?))? \\\n"
    r"(?P<hashes>(?: {4}--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
)
both = pytest.mark.parametrize("file", [RUNTIME, EXTRAS])


def entries(file: str) -> list[re.Match[str]]:
    return list(ENTRY.finditer((ROOT / file).read_text()))


def locked(file: str) -> dict[str, Version]:
    return {m["name"]: Version(m["version"]) for m in entries(file)}


def wanted(file: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = list(project["dependencies"])
    if file == EXTRAS:
        for name, its in project["optional-dependencies"].items():
            texts += its if name in LOCKED else []
    return [Requirement(text) for text in texts]


def test_an_extra_is_for_users_or_for_work_on_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    assert extras - LOCKED <= WORK, "a new extra: lock it (.ci/lock), or name it here"
    named = re.search(r"ours = \{(.+)\}", (ROOT / ".ci" / "lock").read_text())
    assert named is not None
    assert set(re.findall(r'"(\w+)"', named[1])) == LOCKED


@both
def test_every_line_is_a_pin_a_hash_or_a_remark(file) -> None:
    text = ENTRY.sub("", (ROOT / file).read_text())
    rest = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert rest == [], "no index, no address, no path, no package without a hash"


@both
def test_no_line_names_a_host_or_a_place_of_a_machine(file) -> None:
    text = (ROOT / file).read_text()
    assert "://" not in text
    assert not re.search(r"--(?:index-url|extra-index-url|find-links)", text)


@pytest.mark.parametrize(
    ("file", "requirement"),
    [(file, its) for file in (RUNTIME, EXTRAS) for its in wanted(file)],
    ids=str,
)
def test_what_the_project_asks_for_is_locked(file, requirement) -> None:
    name = canonicalize_name(requirement.name)
    assert name in locked(file), f"{file} has no {name}: run .ci/lock"
    version = locked(file)[name]
    assert requirement.specifier.contains(version), f"run .ci/lock: {version}"


def test_the_extras_are_locked_beside_the_very_same_runtime() -> None:
    runtime, extras = entries(RUNTIME), entries(EXTRAS)
    hashes = {m["name"]: (m["version"], m["hashes"]) for m in extras}
    for its in runtime:
        assert hashes[its["name"]] == (its["version"], its["hashes"])
    assert len(extras) > len(runtime)


@both
def test_what_the_locked_packages_ask_for_is_locked_and_nothing_else(file) -> None:
    lock, seen = locked(file), set[tuple[str, str]]()
    open_ends = False
    waiting = [(canonicalize_name(its.name), its.extras) for its in wanted(file)]
    while waiting:
        name, extras = waiting.pop()
        asked = {(name, extra) for extra in ("", *extras)}
        if asked <= seen:
            continue
        seen |= asked
        assert name in lock, f"{name} is not locked: run .ci/lock"
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            # An extra need not be installed here; what all runs on must be.
            assert file == EXTRAS, f"{name} is locked, and not installed"
            open_ends = True
            continue
        if Version(installed.version) != lock[name]:
            # Another version may ask for other packages: its word does not count.
            open_ends = True
            continue
        for text in installed.requires or ():
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *extras)]
            marker = requirement.marker
            if marker is None or any(map(marker.evaluate, environments)):
                theirs = canonicalize_name(requirement.name)
                assert theirs in lock, f"{name} needs {theirs}: run .ci/lock"
                assert requirement.specifier.contains(lock[theirs])
                waiting.append((theirs, requirement.extras))
    markers = {m["name"] for m in entries(file) if m["marker"]}
    needless = lock.keys() - {name for name, _ in seen}
    assert open_ends or needless <= markers, "more than is needed"


@both
def test_the_lock_says_how_it_is_made_and_that_can_be_run(file) -> None:
    assert "#    .ci/lock\n" in (ROOT / file).read_text()
    assert (ROOT / ".ci" / "lock").stat().st_mode & 0o111


AUDITS = {
    "nothing known": (
        '{"name": "a", "version": "1", "vulns": []}',
        0,
        "nothing is known",
    ),
    "a flaw": (
        (
            '{"name": "a", "version": "1", "vulns":'
            ' [{"id": "PYSEC-1", "fix_versions": ["2"]}]}'
        ),
        1,
        "PYSEC-1, mended in 2",
    ),
    "one not looked up": (
        (
            '{"name": "a", "version": "1", "vulns": []},'
            ' {"name": "b", "skip_reason": "not found"}'
        ),
        1,
        "b: not found",
    ),
    "none looked up": ('{"name": "b", "skip_reason": "not found"}', 3, "reached"),
    "no answer at all": (None, 3, "reached"),
}


@pytest.mark.parametrize("name", AUDITS)
def test_an_audit_that_could_not_look_is_told_from_one_that_found_nothing(
    name, tmp_path
) -> None:
    answer, code, words = AUDITS[name]
    stand_in = tmp_path / "pip-audit"
    write = "" if answer is None else f"printf '%s' '{{\"dependencies\": [{answer}]}}'"
    stand_in.write_text(
        "#!/usr/bin/env bash\n"
        "while [[ $1 != --output ]]; do shift; done; out=$2\n"
        f"{write + ' >$out' if write else 'exit 1'}\n"
        "echo 'No known vulnerabilities found' >&2\n"
    )
    stand_in.chmod(0o755)
    ended = subprocess.run(
        [ROOT / ".ci" / "audit"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert words in ended.stdout + ended.stderr
    assert "No known vulnerabilities" not in ended.stdout
