"""The pytest plug-in: many seeds, one seed again, and nothing imported too early."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from supervisors.testing import PCT, Seeded, current_random

pytestmark = pytest.mark.slow

RACE = """
import trio

async def race():
    finished = []

    async def run(number):
        await trio.lowlevel.checkpoint()
        finished.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(run, number)
    assert finished != [2, 1, 0]

def test_race(simulation):
    simulation(race)
"""


def run_pytest(where: Path, text: str, *options: str) -> str:
    """Run *text* as a test file, in a pytest of its own; return what that says."""
    (where / "test_it.py").write_text(text)
    return again(where, "test_it.py", *options)


def again(where: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_plugin_is_registered() -> None:
    (ours,) = [e for e in entry_points(group="pytest11") if e.name == "supervisors"]
    assert ours.value == "supervisors.testing._plugin"


def test_a_failing_seed_is_reported_with_the_command_that_repeats_it(tmp_path) -> None:
    said = run_pytest(tmp_path, RACE, "--fault-runs=200")
    found = re.search(
        r"to repeat this test: pytest (test_it\.py::test_race) --fault-seed (\d+)", said
    )
    assert found, said
    repeated = again(tmp_path, found[1], "--fault-seed", found[2])
    assert "1 failed" in repeated
    assert f"--fault-seed {found[2]}" in repeated


def test_each_test_runs_under_so_many_seeds_always_the_same(tmp_path) -> None:
    text = """
seen = []

async def program():
    from supervisors.testing import current_random
    seen.append(current_random().random())

def test_some(simulation):
    assert len(simulation(program)) == len(simulation.seeds) == 7
    assert len(set(seen)) == 7
    assert simulation.seeds[1] == simulation.seeds[0] + 1
    print("SEEDS", simulation.seeds)

def test_others(simulation):
    print("SEEDS", simulation.seeds)
"""
    options = ("--fault-runs", "7", "-s")
    first = re.findall("SEEDS.*", run_pytest(tmp_path, text, *options))
    assert first == re.findall("SEEDS.*", again(tmp_path, *options))
    assert len(set(first)) == 2, "two tests do not try the same seeds"


def test_a_test_with_fault_seed_is_run_once_for_each(tmp_path) -> None:
    text = """
def test_it(fault_seed, simulation):
    assert isinstance(fault_seed, int)
    assert simulation.seeds == (fault_seed,)
"""
    assert "20 passed" in run_pytest(tmp_path, text)
    assert "3 passed" in again(tmp_path, "--fault-runs", "3")
    said = again(tmp_path, "--fault-seed", "12", "-vv")
    assert "1 passed" in said
    assert "test_it[12]" in said


def test_no_runs_at_all_are_refused(tmp_path) -> None:
    assert "--fault-runs" in run_pytest(tmp_path, RACE, "--fault-runs=0")
    assert "1 failed" not in again(tmp_path, "--fault-runs=0")


def test_the_plugin_itself_imports_only_pytest() -> None:
    """What is above it in the package does more: `supervisors` is on trio."""
    source = Path(sys.modules["supervisors.testing"].__path__[0], "_plugin.py")
    code = f"import runpy, sys; runpy.run_path({str(source)!r}); print(sorted(sys.modules))"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "'pytest'" in said
    assert "'trio'" not in said
    assert "'supervisors'" not in said
    assert "'hypothesis'" not in said


WITHOUT_HYPOTHESIS = """
import sys
sys.modules["hypothesis"] = None  # as if it were not installed

import pytest
import supervisors.testing

async def program():
    return 1

def test_simulations_work(simulation):
    assert simulation(program)[0].value == 1

@pytest.mark.parametrize("name", ["SupervisedMachine", "rule"])
def test_the_machine_says_what_it_needs(name):
    with pytest.raises(ImportError, match="hypothesis"):
        getattr(supervisors.testing, name)

def test_strategies_say_what_they_need():
    with pytest.raises(ImportError, match="hypothesis"):
        supervisors.testing.schedules()

def test_other_names_are_unknown():
    with pytest.raises(AttributeError, match="nonsense"):
        supervisors.testing.nonsense
"""


def test_without_hypothesis_all_but_strategies_and_machine_works(tmp_path) -> None:
    options = ("-p", "no:hypothesispytest", "-p", "no:trio")
    said = run_pytest(tmp_path, WITHOUT_HYPOTHESIS, *options)
    assert "5 passed" in said, said


def test_schedules_and_faults_are_made_from_the_seed(simulation) -> None:
    async def draw() -> float:
        return current_random().random()

    made = list[int]()

    def schedule(seed: int) -> PCT:
        made.append(seed)
        return PCT(seed)

    drawn = [result.value for result in simulation(draw, schedule=schedule)]
    assert made == list(simulation.seeds)
    assert len(set(drawn)) == len(made)
    assert drawn == [result.value for result in simulation(draw, schedule=Seeded)]
