"""What `duck providers` says of how providers performed."""

from __future__ import annotations

import copy
import json
import re

import pytest

from tests.cli import fake_daemon

FIGURES = {
    "window_s": 900.0, "requests": 1237, "successes": 1230, "failures": 1,
    "success_rate": 0.9999, "failures_by_code": {"timeout": 1},
    "not_counted": {"cancelled": 6},
    "average_latency_ms": 2310.4, "p50_latency_ms": 1800.0, "p90_latency_ms": 4000.2,
    "p99_latency_ms": 12000.0, "average_time_to_first_token_ms": 310.0,
    "p50_time_to_first_token_ms": 300.0, "p90_time_to_first_token_ms": 400.0,
    "p99_time_to_first_token_ms": 900.0, "tokens_per_second": 81.44,
    "recent_latency_ms": 2000.0, "recent_time_to_first_token_ms": 300.0,
    "recent_age_s": 1.5, "since_start": {},
}  # fmt: skip
NOTHING = {
    name: 0 if name == "requests" else None for name in FIGURES
} | {"failures_by_code": {}, "not_counted": {}}  # fmt: skip
EVIL = NOTHING | {
    "requests": 2,
    "success_rate": 0.0,
    "failures_by_code": {"timeout": 2},
}

TABLE = r"""
LAST 15M            REQUESTS  SUCCESS   MEAN    P50    P90  P99   TTFT  TOK/S  ENDED WITH
openai                 1,237    99.9%  2.31s  1.80s  4.00s  12s  310ms   81.4  cancelled 6, timeout
                                                                               1
  evil\x1b]0;x\x07         2       0%      -      -      -    -      -      -  timeout 2
  gpt-4o               1,237    99.9%  2.31s  1.80s  4.00s  12s  310ms   81.4  cancelled 6, timeout
                                                                               1
"""


@pytest.fixture
def asked(duck, daemon):
    answer = copy.deepcopy(fake_daemon.PROVIDERS)
    busy, idle = answer["providers"]
    busy["performance"] = FIGURES
    busy["by_model"] = {"evil\x1b]0;x\x07": EVIL, "gpt-4o": FIGURES, "old": NOTHING}
    idle["performance"], idle["by_model"] = NOTHING, {}
    daemon.answers["GET /v1/providers"] = answer
    return answer


def test_each_model_that_was_asked_lately_has_its_line(duck, asked):
    assert duck("providers", "--models") == (0, TABLE.removeprefix("\n"), "")


def test_providers_that_were_asked_lately_have_a_line_below_the_others(duck, asked):
    shown = duck("providers").out
    table = TABLE.removeprefix("\n").splitlines()
    head, line = shown.split("\n\n")[1].splitlines()
    assert head.split() == table[0].split()
    assert line.split() == [*table[1].split(), "1"]  # as there is more room


def test_a_sample_that_is_full_says_that_there_may_have_been_more(duck, asked):
    full = FIGURES | {"requests": 1000, "sample_full": True}
    asked["providers"][0] |= {"performance": full, "by_model": {"gpt-4o": full}}
    for argv in (["providers"], ["providers", "--models"]):
        assert re.search(r"openai +1,000\+ +99\.9%", duck(*argv).out)
    full["sample_full"] = False
    assert "1,000+" not in duck("providers", "--models").out


def test_of_one_provider_only_its_own_models_are_shown(duck, asked):
    assert duck("providers", "--models", "openai").out == TABLE.removeprefix("\n")
    told = json.loads(duck("providers", "--models", "openai", "--json").out)
    assert [its["name"] for its in told["providers"]] == ["openai"]
    idle = duck("providers", "--models", "local")
    assert (idle.status, idle.out) == (0, "")
    assert "nothing was asked" in idle.err


def test_a_provider_that_is_not_there_is_a_failure_that_names_the_others(duck, asked):
    missing = duck("providers", "--models", "opnai")
    assert missing.status == 1
    assert missing.err == "duck: no provider 'opnai'; there are: openai, local\n"


def test_models_go_with_no_action(duck, asked):
    assert duck("providers", "check", "--models").status == 2


@pytest.mark.parametrize(
    ("share", "shown"),
    [(1.0, "100%"), (0.99999, "99.9%"), (0.00001, "0.1%"), (0.0, "0%"), (None, "-")],
)
def test_a_share_is_all_or_nothing_only_if_it_is(duck, asked, share, shown):
    asked["providers"][0]["performance"] = FIGURES | {"success_rate": share}
    line = duck("providers").out.split("\n\n")[1].splitlines()[1]
    assert line.split()[2] == shown


@pytest.mark.parametrize(
    ("time", "shown"),
    [(0.34, "0.3ms"), (999.4, "999ms"), (999.5, "1.00s"), (9999.0, "10.00s"),
     (10_000.0, "10s"), (3_600_000.0, "3,600s"), (None, "-")],
)  # fmt: skip
def test_a_time_takes_few_characters(duck, asked, time, shown):
    asked["providers"][0]["performance"] = FIGURES | {"average_latency_ms": time}
    line = duck("providers").out.split("\n\n")[1].splitlines()[1]
    assert line.split()[3] == shown
