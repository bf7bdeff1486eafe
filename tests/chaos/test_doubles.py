"""The bench finds every broken daemon, in every scenario."""

from __future__ import annotations

import pytest
import trio

from duckservice.chaos import load
from duckservice.chaos.bench import Bench
from duckservice.chaos.client import ask
from duckservice.chaos.judge import Terms, Verdict, judge
from duckservice.chaos.reach import reaches
from duckservice.chaos.rehearsal import default_config, rehearse
from duckservice.chaos.scenarios import SCENARIOS
from duckservice.chaos.site import open_site
from duckservice.chaos.upstream import Stage
from tests.chaos import doubles

SINGLE = [its for its in SCENARIOS if its.kind in ("request", "refused")]

SOME = [its for its in SINGLE if its.name in ("500", "refused", "cut-fin", "context")]


async def results(scenarios, misbehave):
    rehearsal = rehearse(default_config())
    daemon = doubles.opening(misbehave)
    bench = Bench(rehearsal, reaches(rehearsal.config), scenarios, daemon=daemon)
    with trio.fail_after(30):
        return await bench.run()


def some_of(reasons):
    return (reasons,) if isinstance(reasons, str) else reasons


@pytest.mark.parametrize(
    ("misbehave", "reasons"), doubles.SINGLE, ids=lambda v: getattr(v, "__name__", "")
)
async def test_a_broken_daemon_fails(misbehave, reasons):
    for result in await results(SOME, misbehave):
        for run in result.runs.values():
            told = (result.scenario.name, run.verdict)
            assert run.verdict.outcome == "failed", told
            assert any(each in run.verdict.reason for each in some_of(reasons)), told


@pytest.mark.parametrize("misbehave", [doubles.truncates, doubles.has_no_words])
async def test_no_scenario_is_passed_by_a_broken_daemon(misbehave):
    found = await results(SINGLE, misbehave)
    assert [its.scenario for its in found] == SINGLE
    for result in found:
        told = (result.scenario.name, result.runs)
        assert {run.verdict.outcome for run in result.runs.values()} == {"failed"}, told


async def test_a_daemon_that_never_answers_fails(tmp_path):
    async def hangs(_):
        await trio.sleep_forever()

    rehearsal, stage = rehearse(default_config()), Stage()
    daemon = doubles.opening(hangs)
    async with open_site(rehearsal, "duck-1", tmp_path, stage, daemon=daemon) as site:
        seen = await ask(
            site.socket, model="duck-1", nonce="duck-chaos-00", stream=False, limit=0.05
        )
    terms = Terms(text="", is_stream=False, limit=0.05, calls_max=1)
    assert judge(seen, (), terms).reason == "no end within 0.1 s"


async def test_who_does_not_wait_for_retry_after_fails():
    async def twice(its):
        await its.ask()
        await its.ask()
        await its.reply(503, doubles.TYPED)

    named = [its for its in SINGLE if its.retry_after is not None]
    assert {its.name for its in named} == {"429-soon", "429-late"}
    for result in await results(named, twice):
        assert "before its Retry-After was over" in result.verdict.reason


@pytest.mark.parametrize("name", ["context", "filter"])
async def test_to_repeat_what_nobody_will_take_fails(name):
    async def twice(its):
        await its.ask(0)
        await its.ask(1)
        error = {"code": "context_length_exceeded", "message": "too long"}
        await its.reply(400, {"error": error})

    [result] = await results([its for its in SINGLE if its.name == name], twice)
    assert result.verdict.reason == "2 calls where 1 are allowed"


@pytest.mark.parametrize("name", ["429-quota", "wrong-key", "context", "filter"])
async def test_a_wrong_name_for_a_fault_fails(name):
    async def misnames(its):
        await its.ask()
        await its.reply(504, {"error": {"code": "timeout", "message": "too late"}})

    [result] = await results([its for its in SINGLE if its.name == name], misnames)
    assert result.verdict.reason == "the wrong error for this fault: timeout"


@pytest.fixture
def short(monkeypatch):
    """Make outages as short as they can be."""
    monkeypatch.setattr(load, "_WARM", 0.1)
    monkeypatch.setattr(load, "_OUTAGE_MAX", 0.6)
    monkeypatch.setattr(load, "_CALM", 0.2)
    monkeypatch.setattr(load, "_RECOVERY_SLACK", -1.0)


def under_load(kind):
    return [its for its in SCENARIOS if its.kind == kind]


async def test_a_provider_that_is_asked_all_through_its_outage_is_a_failure(short):
    [result] = await results(under_load("outage"), doubles.never_rests)
    assert result.verdict.outcome == "failed"
    assert "calls wasted in" in result.verdict.reason


async def test_one_wrong_answer_under_load_is_a_failure(short):
    [result] = await results(under_load("outage"), doubles.truncates)
    assert result.verdict.reason.startswith("under load: a truncated answer")


async def test_an_outage_that_nobody_notices_is_no_outage(short):
    async def knows_already(its):
        await its.tell(its.text)

    [result] = await results(under_load("outage"), knows_already)
    assert "no outage" in result.verdict.reason


@pytest.mark.parametrize("misbehave", [doubles.never_comes_back, doubles.never_closes])
async def test_a_service_that_does_not_come_back_is_a_failure(short, misbehave):
    [result] = await results(under_load("recovery"), misbehave)
    assert result.verdict.outcome == "failed"
    assert result.verdict.reason.startswith("not back ")


def test_less_than_nine_of_ten_after_the_recovery_is_a_failure():
    good, safe = Verdict("rescued", ""), Verdict("safe", "circuit_open")
    assert load.judge_calm([good] * 9 + [safe], 1.0).outcome == "rescued"
    for after in ([good] * 8 + [safe] * 2, []):
        assert load.judge_calm(after, 1.0).outcome == "failed"
    wrong = Verdict("failed", "a goose")
    assert load.judge_calm([good] * 99 + [wrong], 1.0).outcome == "failed"


def test_every_scenario_is_tried_with_broken_daemons():
    kinds = {its.kind for its in SCENARIOS}
    assert kinds == {"request", "refused", "outage", "recovery"}
