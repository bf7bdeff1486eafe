"""The page's own files: what they may not hold, and that others' are as published."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import pytest

PAGE = Path(str(files("duckservice.dashboard"))) / "page"
_ROW = re.compile(
    r"^\| `(?P<file>\S+)` \| (?P<package>\S+ \S+) \| `\S+` \| (?P<licence>\S+)"
    r" \| `(?P<sha256>[0-9a-f]{64})` \|$",
    re.MULTILINE,
)
_NOTES = (PAGE / "VENDORED.md").read_text()
VENDORED = {row["file"]: row for row in _ROW.finditer(_NOTES)}
OWN = sorted(
    path
    for path in PAGE.iterdir()
    if path.suffix in {".css", ".html", ".js", ".svg"} and path.name not in VENDORED
)
SCRIPTS = [path for path in OWN if path.suffix == ".js"]


@pytest.mark.parametrize("name", sorted(VENDORED))
def test_what_others_wrote_is_as_the_notes_say(name: str) -> None:
    data = (PAGE / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == VENDORED[name]["sha256"]


def test_the_one_change_is_the_one_that_the_notes_tell() -> None:
    ours = (PAGE / "preact-hooks.module.js").read_bytes()
    published = ours.replace(b'"./preact.module.js"', b'"preact"')
    assert published != ours
    assert f"`{hashlib.sha256(published).hexdigest()}`" in _NOTES


@pytest.mark.parametrize("name", sorted(VENDORED))
def test_what_others_wrote_has_its_licence_beside_it(name: str) -> None:
    row = VENDORED[name]
    title = f"{row['package']} ({row['licence']})\n"
    assert title in (PAGE / "LICENSES.txt").read_text()


def test_nothing_others_wrote_is_there_without_a_note() -> None:
    names = {"htm.module.js", "preact.module.js", "preact-hooks.module.js"}
    assert set(VENDORED) == names | {"uPlot.esm.js", "uPlot.min.css"}
    assert len(OWN) > 10


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
@pytest.mark.parametrize(
    "way",
    [
        r"\b(inner|outer)HTML\b",
        r"dangerouslySetInnerHTML",
        r"insertAdjacentHTML|document\.write|DOMParser|createContextualFragment",
        r"\beval\(|\bnew Function\b",
        r"https?://(?!www\.w3\.org/2000/svg)",
        r"<style|<script>|\son\w+=\"",
        r"\bstyle=\"",
    ],
)
def test_no_own_file_has_a_way_for_text_to_become_code(path: Path, way: str) -> None:
    assert not re.search(way, path.read_text())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_links_lead_to_parts_of_the_page_only(path: Path) -> None:
    hrefs = re.findall(r"href=(\S{4})", path.read_text())
    assert all(re.match(r'"#/|\$\{`#|"/st', href) for href in hrefs), hrefs


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_each_script_says_first_what_it_is_for(path: Path) -> None:
    assert re.match(r"// [A-Z].*[.:]\n", path.read_text())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_imports_is_there(path: Path) -> None:
    for name in re.findall(r'from "\./([^"]+)"', path.read_text()):
        assert (PAGE / name).is_file()


# Colours.


def _colours(block: str) -> Mapping[str, str]:
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", block))


def _blocks() -> tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str]]:
    found = re.findall(
        r":root[^{\n]*\{([^}]*--ground[^}]*)\}", (PAGE / "style.css").read_text()
    )
    light, system, chosen = (_colours(block) for block in found)
    return light, system, chosen


def _luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_dark_is_the_same_whether_chosen_or_the_systems() -> None:
    light, system, chosen = _blocks()
    assert system == chosen
    assert light.keys() == chosen.keys()


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["ground", "panel", "raised"])
@pytest.mark.parametrize("ink", ["text", "dim", "accent", "ok", "warn", "bad", "busy"])
def test_text_can_be_read(which: int, ground: str, ink: str) -> None:
    colours = _blocks()[which]
    assert _contrast(colours[ink], colours[ground]) >= 4.5


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        ("bad", "bad-ground"),
        ("warn", "warn-ground"),
        ("text", "warn-ground"),
        ("dim", "bad-ground"),
        ("text", "bad-ground"),
    ],
)
def test_warnings_can_be_read(which: int, ink: str, ground: str) -> None:
    colours = _blocks()[which]
    assert _contrast(colours[ink], colours[ground]) >= 4.5


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    "line", ["chart-1", "chart-2", "chart-3", "bad", "ok-fill", "warn-fill", "bad-fill"]
)
def test_lines_and_bars_stand_out(which: int, line: str) -> None:
    colours = _blocks()[which]
    assert _contrast(colours[line], colours["panel"]) >= 3.0
