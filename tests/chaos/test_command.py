"""`duck chaos`: the default config passes, and the command leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from duckservice.chaos.bench import Bench
from duckservice.chaos.judge import Verdict
from duckservice.chaos.result import Result, Run
from duckservice.chaos.scenarios import SCENARIOS
from tests.cli.test_program import process

QUICK = ("500", "cut-fin", "wrong-key", "context")


def only(*names):
    return [word for name in names for word in ("--only", name)]


def test_some_scenarios_of_the_default_config(duck):
    duck.environ["TMPDIR"] = str(duck.directory)
    running = process(duck, "chaos", "--json", *only(*QUICK))
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    told = json.loads(out)
    found = {its["scenario"]: its["verdict"] for its in told["results"]}
    assert found == {
        "500": "rescued",
        "cut-fin": "safe",
        "wrong-key": "rescued",
        "context": "safe",
    }
    assert (told["rescued"], told["safe"], told["failed"], told["total"]) == (
        2,
        2,
        0,
        4,
    )
    assert set(told["results"][0]["runs"]) == {"whole", "stream"}
    assert not list(duck.directory.glob("duck-chaos-*"))


def test_the_table_ends_with_the_sum(duck):
    running = process(duck, "chaos", *only("500"))
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0
    assert out.splitlines()[-1] == "rescued 1, safe 0, failed 0 of 1"
    assert "two of ours are tried" in err
    assert "1/60 of the config's" in err
    assert "rescued" not in err
    assert "calls: at providers; of the whole answer + of the stream" in out


@pytest.mark.slow
def test_the_default_config_fails_in_nothing_and_in_less_than_a_minute(duck):
    running = process(duck, "chaos", "--json")
    out, err = running.communicate(timeout=60)
    told = json.loads(out)
    failed = [its for its in told["results"] if its["verdict"] == "failed"]
    assert (running.returncode, failed, err) == (0, [], "")
    assert told["total"] == len(SCENARIOS)


def test_one_failure_is_exit_code_1(duck, quiet, monkeypatch):
    run = Run(verdict=Verdict("failed", "a goose"), took=0.1, calls=1, wasted=1)
    failed = Result(scenario=SCENARIOS[0], model="m", runs={"whole": run})

    async def fails(_):
        return [failed]

    monkeypatch.setattr(Bench, "run", fails)
    ended = duck("chaos", *only("500"))
    assert ended.status == 1
    assert "a goose" in ended.out
    assert ended.out.splitlines()[-1] == "rescued 0, safe 0, failed 1 of 1"


def test_a_model_that_nobody_serves_is_a_mistake(duck):
    ended = duck("chaos", "--model", "nobodys")
    assert ended.status == 2
    assert "no provider serves nobodys; there are: duck-1" in ended.err
    config = duck.directory / "config.toml"
    config.write_text("[providers.openai]\nmodels = ['gpt-4o', 'o*']\n")
    ended = duck("chaos", "--config", str(config), "--model", "gtp-4o")
    assert ended.status == 2
    assert 'did you mean "gpt-4o"? there are: gpt-4o, o*' in ended.err


def test_ctrl_c_ends_it_and_leaves_nothing_behind(duck):
    duck.environ["TMPDIR"] = str(duck.directory)
    running = process(duck, "chaos", "--only", "all-hang", start_new_session=True)
    while "nothing leaves" not in running.stderr.readline():
        pass
    while not list(duck.directory.glob("duck-chaos-*/*/duckd.sock")):
        assert running.poll() is None
    os.kill(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not list(duck.directory.glob("duck-chaos-*"))


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_ctrl_c_shows_what_was_done_by_then(duck, quiet, monkeypatch, form):
    run = Run(verdict=Verdict("failed", "a goose"), took=0.1, calls=1, wasted=1)
    first, second = (
        Result(scenario=its, model="duck-1", runs={"whole": run})
        for its in SCENARIOS[:2]
    )

    async def is_interrupted(bench):
        bench.on_result(second)
        bench.on_result(first)
        raise KeyboardInterrupt

    monkeypatch.setattr(Bench, "run", is_interrupted)
    ended = duck("chaos", *form)
    assert ended.status == 130
    if form:
        told = json.loads(ended.out)
        assert (told["interrupted"], told["total"]) == (True, 2)
    else:
        names = [line.split()[0] for line in ended.out.splitlines()[1:3]]
        assert names == [first.scenario.name, second.scenario.name]
        assert ended.out.splitlines()[-1] == (
            "rescued 0, safe 0, failed 2 of 2 that were done;"
            " interrupted before the others"
        )


def test_the_list_has_every_scenario(duck):
    told = json.loads(duck("chaos", "--list", "--json").out)
    assert [its["name"] for its in told] == [its.name for its in SCENARIOS]
    assert "hang before headers" in duck("chaos", "--list").out
    assert len({its.name for its in SCENARIOS}) == len(SCENARIOS)


def test_the_document_has_every_scenario():
    text = (Path(__file__).parents[2] / "docs" / "chaos.md").read_text()
    for its in SCENARIOS:
        assert re.search(rf"^{its.name} +{its.title}", text, re.MULTILINE), its.name


def test_a_scenario_that_there_is_not_is_a_mistake(duck):
    ended = duck("chaos", "--only", "earthquake")
    assert ended.status == 2
    assert "duck chaos --list" in ended.err


def test_a_config_that_is_refused_is_not_run(duck):
    config = duck.directory / "config.toml"
    config.write_text("[providers.nobody]\n")
    assert duck("chaos", "--config", str(config)).status == 78
