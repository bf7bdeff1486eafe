"""requirements.lock is what pyproject.toml asks for, whole, pinned and hashed."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+?))? \\\n"
    r"(?P<hashes>(?: {4}--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
)


def locked() -> dict[str, Version]:
    return {m["name"]: Version(m["version"]) for m in ENTRY.finditer(LOCK.read_text())}


def wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"]]


def test_every_line_is_a_pin_a_hash_or_a_remark() -> None:
    text = ENTRY.sub("", LOCK.read_text())
    rest = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert rest == [], "no index, no address, no path, no package without a hash"


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_what_the_project_asks_for_is_locked(requirement) -> None:
    version = locked()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"run .ci/lock: {version}"


def test_what_the_locked_packages_ask_for_is_locked_and_nothing_else() -> None:
    lock, seen = locked(), set[str]()
    open_ends = False
    waiting = [(canonicalize_name(its.name), its.extras) for its in wanted()]
    while waiting:
        name, extras = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        assert name in lock, f"{name} is not locked: run .ci/lock"
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            pytest.fail(f"{name} is locked, and not installed")
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
    markers = {m["name"] for m in ENTRY.finditer(LOCK.read_text()) if m["marker"]}
    assert open_ends or lock.keys() - seen <= markers, "more than is needed"


def test_the_lock_says_how_it_is_made_and_that_can_be_run() -> None:
    assert "#    .ci/lock\n" in LOCK.read_text()
    assert (ROOT / ".ci" / "lock").stat().st_mode & 0o111
