"""The library against OTP's recorded traces, and the program that compares them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.otp_conformance import FORMAT, difference, main, scenarios

VECTORS = Path(__file__).parent.parent / "otp" / "vectors-open.json.gz"
SCENARIOS = scenarios(VECTORS)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_what_happens_is_what_happens_in_otp(scenario: Any) -> None:
    assert difference(scenario) is None


def test_the_vectors_are_complete() -> None:
    assert len(SCENARIOS) == 448


def file_of(path: Path, *changed: Any) -> str:
    path.write_text(json.dumps({"format": FORMAT, "scenarios": changed}))
    return str(path)


def by_name(name: str) -> Any:
    return copy.deepcopy(next(each for each in SCENARIOS if each["name"] == name))


def test_the_program_counts_and_shows_the_first_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = by_name("start_stop_order")
    wrong["trace"]["steps"][0]["events"][0] = ["exit", "a", 1, "shutdown"]
    good = by_name("intensity_zero")
    assert main([file_of(tmp_path / "v.json", wrong, good)]) == 1
    line, last = capsys.readouterr().out.splitlines()
    assert line.startswith('start_stop_order: {"op": "stop"}: events [["exit", "c"')
    assert last == "1 passed, 1 failed"


def test_the_program_can_leave_the_reports_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = by_name("intensity_zero")
    other["trace"]["steps"][0]["reports"] = []
    path = file_of(tmp_path / "v.json", other)
    assert main([path]) == 1
    assert main(["--no-reports", path]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"


@pytest.mark.parametrize(
    "change",
    [
        lambda trace: trace["start"].update(result="no"),
        lambda trace: trace["steps"][0]["state"].clear(),
        lambda trace: trace["steps"][0]["reports"].append("more"),
        lambda trace: trace["steps"].pop(),
        lambda trace: trace.update(exit="killed"),
        lambda trace: trace["stop"]["events"].pop(),
    ],
)
def test_every_part_of_a_trace_is_compared(change: Any) -> None:
    scenario = by_name("strategy_one_for_all")
    assert difference(scenario) is None
    change(scenario["trace"])
    assert difference(scenario) is not None


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text("{}")
    with pytest.raises(ValueError, match="format"):
        main([str(tmp_path / "v.json")])
