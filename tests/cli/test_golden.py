"""What people and programs are shown, byte by byte; see `tests.cli.golden`."""

from __future__ import annotations

import json

import pytest

from duckservice.gateway.app.openapi.document import make_document
from duckservice.terminal import CONTROLS
from tests.cli.golden import COMMANDS, ESC, HERE, files

_LISTS = {"providers": "Provider", "jobs": "Job", "budgets": "Budget"}
"""The key of a list in an answer, and what the document calls each of its members."""
_WHOLE = {"tree": "TreeNode", "status": "Status", "queue": "Queue", "cost": "Costs"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_what_it_printed_before(command) -> None:
    for name, text in files(command).items():
        golden = HERE.joinpath(name).read_bytes().decode()
        assert text == golden, f"{name}; if that is meant: python -m tests.cli.golden"


def test_there_is_no_golden_file_that_no_command_has_written() -> None:
    scenes = {"busy.scene.json", "quiet.scene.json"}
    found = {its.name for its in HERE.iterdir() if its.suffix in {".txt", ".json"}}
    stems = {name.split(".")[0] for name in found - scenes}
    assert stems - {"top-screens"} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_document_in_ascii_or_one_a_line(command) -> None:
    text = HERE.joinpath(f"{command}.json").read_text()
    assert text.isascii()
    assert not CONTROLS.search(text.replace("\n", ""))
    if command in {"events", "top"}:
        assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
    else:
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_others_wrote_reaches_no_terminal_as_it_is(command) -> None:
    text = HERE.joinpath(f"{command}.txt").read_text()
    for line in text.splitlines():
        # Colours are our own, and all that is ever sent.
        plain = "".join(part.partition("m")[2] for part in f"m{line}".split(ESC))
        assert not CONTROLS.search(plain)
        assert "\\x1b" in text or "evil" not in text


@pytest.mark.parametrize("command", [*_LISTS, *_WHOLE, "budget"])
def test_the_keys_are_those_of_the_document(command) -> None:
    schemas = make_document("0")["components"]["schemas"]
    name = "budget" if command == "budgets" else command
    told = json.loads(HERE.joinpath(f"{name}.json").read_text())
    for key, schema in _LISTS.items():
        for its in told.get(key, ()) if command not in _WHOLE else ():
            _check(its, schemas[schema])
    if command in _WHOLE:
        _check(told, schemas[_WHOLE[command]])


def _check(its: dict, schema: dict) -> None:
    assert set(schema["required"]) <= set(its) <= set(schema["properties"])
