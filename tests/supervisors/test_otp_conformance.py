"""The library against OTP's recorded traces, and the program that compares them."""

# pyright: basic
# Scenarios and traces are JSON: their types are Any, and stay unknown inside.

from __future__ import annotations

import copy
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.otp.judge import difference, judge_apart
from tests.otp_conformance import FORMAT, BadFile, main, scenarios

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


# A verdict.


@pytest.mark.parametrize(
    "change",
    [
        lambda trace: trace["start"].update(result="no"),
        lambda trace: trace["start"]["events"].reverse(),
        lambda trace: trace["steps"][0]["state"].clear(),
        lambda trace: trace["steps"][0]["state"][""]["counts"].append(0),
        lambda trace: trace["steps"][0]["reports"].append("more"),
        lambda trace: trace["steps"][0]["events"][0].__setitem__(3, "normal"),
        lambda trace: trace["steps"].pop(),
        lambda trace: trace.update(exit="killed"),
        lambda trace: trace["stop"]["events"].pop(),
        lambda trace: trace.update(stop=None),
    ],
)
def test_every_part_of_a_trace_is_compared(change: Any) -> None:
    scenario = by_name("strategy_one_for_all")
    assert difference(scenario) is None
    change(scenario["trace"])
    assert difference(scenario) is not None


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_a_trace_without_one_of_its_events_is_not_matched(scenario: Any) -> None:
    corrupted = copy.deepcopy(scenario)
    looks = [corrupted["trace"]["start"], *corrupted["trace"]["steps"]]
    next(look for look in reversed(looks) if look["events"])["events"].pop()
    assert difference(corrupted) is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["steps"].insert(0, {"op": "jump"}), "step 1: op 'jump'"),
        (lambda s: s["steps"][0].update(op="leap"), "step 1: op 'leap'"),
        (
            lambda s: s["sup"]["children"][0].update(init=["maybe"]),
            "sup, child 1: init 'maybe'",
        ),
        (
            lambda s: s["sup"]["children"][1].update(on_shutdown="sulk"),
            "sup, child 2: on_shutdown 'sulk'",
        ),
        (
            lambda s: s["steps"].insert(0, {"op": "batch", "items": [{"op": "x"}]}),
            "step 1, items 1: op 'x'",
        ),
    ],
)
def test_what_the_player_does_not_know_is_named(change: Any, words: str) -> None:
    scenario = by_name("strategy_one_for_all")
    scenario["steps"].append({"op": "stop"})
    change(scenario)
    found = difference(scenario)
    assert found is not None
    assert found.startswith(f"not understood: {words}; ")


def test_a_key_that_changes_nothing_fails_nothing() -> None:
    scenario = by_name("strategy_one_for_all")
    scenario["steps"][0]["comment"] = "the middle one"
    assert difference(scenario) is None


@pytest.mark.parametrize(
    "nonsense", [None, "a", [], {}, {"sup": None}, {"sup": {}, "steps": [1]}]
)
def test_what_is_no_scenario_fails_with_a_reason(nonsense: Any) -> None:
    assert difference(nonsense)


# The program.


def test_the_program_counts_and_shows_the_first_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = by_name("start_stop_order")
    wrong["trace"]["steps"][0]["events"][0] = ["exit", "a", 1, "shutdown"]
    good = by_name("intensity_zero")
    assert main([file_of(tmp_path / "v.json", wrong, good)]) == 1
    line, last = capsys.readouterr().out.splitlines()
    assert line == (
        'start_stop_order: step 1 {"op": "stop"}: events[0] is '
        '["exit", "c", 1, "shutdown"], not ["exit", "a", 1, "shutdown"]'
    )
    assert last == "1 passed, 1 failed"


def test_the_program_reads_several_files_zipped_or_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = Path(file_of(tmp_path / "v.json", by_name("intensity_zero")))
    zipped = tmp_path / "w.json.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert main([str(plain), str(zipped)]) == 0
    assert capsys.readouterr().out == "2 passed, 0 failed\n"


def test_the_program_can_leave_the_reports_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = by_name("intensity_zero")
    other["trace"]["steps"][0]["reports"] = []
    path = file_of(tmp_path / "v.json", other)
    assert main([path]) == 1
    assert main(["--no-reports", path]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"


def endless() -> Any:
    """Return a scenario that never comes to rest: a restart that always fails."""
    scenario = by_name("intensity_zero")
    scenario["name"] = "endless"
    scenario["sup"]["intensity"] = 10**9
    scenario["sup"]["children"][0]["init"] = ["ok", {"fail": "normal"}]
    return scenario


def test_a_scenario_that_hangs_or_breaks_has_failed_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = by_name("intensity_zero")
    torn = {key: good[key] for key in good if key != "trace"} | {"name": "torn"}
    path = file_of(tmp_path / "v.json", good, endless(), torn, "?", good)
    assert main(["--timeout", "2", path]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "endless",
        "torn",
        "(no name)",
    ]
    assert lines[0] == "endless: still running after 2 s"
    assert lines[1] == "torn: cannot be played: KeyError('trace')"
    assert last == "2 passed, 3 failed"


def exit_on_request(scenario: Any) -> str | None:
    if scenario == "exit":
        os._exit(3)
    return None


def test_a_scenario_that_ends_the_process_has_failed_and_stops_nothing() -> None:
    verdicts = judge_apart(exit_on_request, ["a", "exit", "b"], seconds=60)
    assert [*verdicts] == [None, "ended the process, with exit code 3", None]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"{}", f"not a file of format {FORMAT}"),
        (b"[]", f"not a file of format {FORMAT}"),
        (b"{", "no JSON"),
        (b"\xff\xfe\xfd", "no JSON"),
        (b"\x1f\x8b torn", "v.json"),
        (gzip.compress(b"{}" * 99)[:-9], "no JSON"),
        (json.dumps({"format": FORMAT}).encode(), "no scenarios"),
        (json.dumps({"format": FORMAT, "scenarios": []}).encode(), "no scenarios"),
    ],
)
def test_a_bad_file_is_named_with_its_fault_and_nothing_is_played(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    words: str,
) -> None:
    bad = tmp_path / "v.json"
    if content is not None:
        bad.write_bytes(content)
    assert main([str(VECTORS), str(bad)]) == 2
    output = capsys.readouterr()
    assert str(bad) in output.err
    assert words in output.err
    assert output.out == ""
    with pytest.raises(BadFile):
        scenarios(bad)
