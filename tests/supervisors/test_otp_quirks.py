"""Where OTP is odd and the library is not: three recorded traces, one test each."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from supervisors import (
    ChildNotFound,
    DynamicSupervisor,
    Restart,
    SupervisorSpec,
    child,
    dynamic_supervisor,
    open_supervisor,
)
from tests.otp import model
from tests.otp.judge import difference
from tests.otp.play import play
from tests.otp_conformance import scenarios

QUIRKS = {
    scenario["name"]: scenario
    for scenario in scenarios(
        Path(__file__).parent.parent / "otp" / "vectors-quirks.json.gz"
    )
}


def quirk(name: str) -> Any:
    return copy.deepcopy(QUIRKS[name])


def test_there_are_three_quirks() -> None:
    assert len(QUIRKS) == 3


def test_a_child_terminated_between_restarts_does_not_spoil_the_count() -> None:
    scenario = quirk("quirk_simple_count_after_terminate_restarting")
    steps = scenario["trace"]["steps"]
    assert steps[3]["result"] == [1, 0, 0, 1], "OTP forgets the child that runs"
    assert play(scenario)["steps"][3]["result"] == [1, 1, 0, 1]
    # Nothing else differs.
    steps[3]["result"] = [1, 1, 0, 1]
    for step in steps[2:]:
        step["state"][""]["counts"] = [1, 1, 0, 1]
    assert difference(scenario) is None


def test_a_dynamic_child_that_is_not_needed_any_more_is_forgotten() -> None:
    scenario = quirk("quirk_simple_restart_ignore")
    recorded = scenario["trace"]
    (ended, *_) = recorded["stop"]["events"]
    assert ended[3][0] == "other", "OTP's supervisor crashes over it when it stops"
    assert "function_clause" in ended[3][1]
    played = play(scenario)
    assert played["steps"][2]["events"] == recorded["steps"][2]["events"]
    assert played["steps"][2]["state"][""] == {
        "children": [["d1", "running", "worker"]],
        "counts": [1, 1, 0, 1],
    }
    assert played["steps"][3]["result"] == [1, 1, 0, 1]
    assert played["stop"]["events"] == [
        ["exit", "d1", 1, "shutdown"],
        ["exit", "", 1, "shutdown"],
    ]


async def test_to_terminate_a_dynamic_child_that_is_gone_is_an_error(
    autojump_clock: MockClock,
) -> None:
    # OTP's call names a process, and is content if that is dead, whosever child
    # it was. Ours names an id, and nobody has that of a child that is forgotten.
    pool = DynamicSupervisor("pool")
    brief = attrs.evolve(
        child("brief", trio.lowlevel.checkpoint), restart=Restart.TEMPORARY
    )
    spec = SupervisorSpec(children=[dynamic_supervisor(pool)])
    async with open_supervisor(spec):
        id_ = await pool.start_child(brief)
        assert id_ is not None
        await wait_all_tasks_blocked()
        assert await pool.which_children() == ()
        with pytest.raises(ChildNotFound):
            await pool.terminate_child(id_)


def test_but_for_its_error_a_child_that_is_gone_is_terminated_as_in_otp() -> None:
    # The player asks for ids where OTP asks for processes, and translates.
    scenario = quirk("quirk_simple_terminate_dead_stranger")
    assert scenario["trace"]["steps"][2]["result"] == "ok"
    assert difference(scenario) is None


def test_the_model_has_no_quirks_either() -> None:
    for scenario in copy.deepcopy([*QUIRKS.values()]):
        scenario["trace"] = model.play(scenario)
        assert difference(scenario) is None
