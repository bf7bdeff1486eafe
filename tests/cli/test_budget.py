"""`duck budget`: what is gone and what is left, at a glance."""

from __future__ import annotations

import json

import pytest

from duckservice.cli.budget import bar, percent

NOBODY = {"tag": None, "submitter": None, "provider": None, "model": None}
BUDGETS = {
    "budgets": [
        {"name": "daily", "window": "day", "match": NOBODY, "limit_usd": "20",
         "spent_usd": "12.3456", "reserved_usd": "0.5", "remaining_usd": "7.1544",
         "since": "2026-11-21T00:00:00+00:00", "until": "2026-11-22T00:00:00+00:00"},
        {"name": "core\x1b[31m", "window": "total",
         "match": NOBODY | {"tag": "team=core", "submitter": 1000}, "limit_usd": "1",
         "spent_usd": "1.25", "reserved_usd": "0", "remaining_usd": "0",
         "since": "1970-01-01T00:00:00+00:00", "until": None},
    ]
}  # fmt: skip


@pytest.fixture
def daemon(daemon):
    daemon.answers["GET /v1/budgets"] = BUDGETS
    return daemon


def test_each_budget_is_a_line_with_a_bar(duck, daemon):
    duck.environ["COLUMNS"] = "160"
    shown = duck("budget")
    assert (shown.status, shown.err) == (0, "")
    head, daily, core = shown.out.splitlines()
    assert head.split() == (
        ["BUDGET", "OF", "USED", "SPENT", "RESERVED", "LEFT", "LIMIT", "WINDOW", "ENDS"]
    )
    assert "[######....]   64%" in daily
    for word in ("all", "$12.35", "$0.50", "$7.15", "$20.00", "2026-11-22 00:00 UTC"):
        assert word in daily
    for word in (r"core\x1b[31m", "tag team=core, submitter 1000", "125%", "never"):
        assert word in core


def test_programs_get_what_the_daemon_says(duck, daemon):
    shown = duck("budget", "--json")
    assert (shown.status, shown.err, json.loads(shown.out)) == (0, "", BUDGETS)


def test_a_narrow_terminal_has_every_name_and_every_amount(duck, daemon):
    dear = {"limit_usd": "12345.67", "spent_usd": "10345.67"}
    name = "one-user-of-a-dear-model-and-of-nothing-else-at-all"
    its = [BUDGETS["budgets"][0] | dear | {"name": name}, BUDGETS["budgets"][1]]
    daemon.answers["GET /v1/budgets"] = {"budgets": its}
    for columns in (70, 80, 120, 180):
        duck.environ["COLUMNS"] = str(columns)
        lines = duck("budget").out.splitlines()
        assert max(map(len, lines)) <= columns
        assert "…" not in "".join(lines)
        assert "".join(line.split(" ")[0] for line in lines[1:-1]) == name
        assert {"83%", "$10,345.67", "$7.15", "$12,345.67"} <= set(lines[1].split())
        assert ("[####" in lines[1]) == (columns == 180)


def test_one_budget_is_shown_by_its_name(duck, daemon):
    [_, line] = duck("budget", "daily").out.splitlines()
    assert line.startswith("daily ")
    told = json.loads(duck("budget", "daily", "--json").out)
    assert told == {"budgets": BUDGETS["budgets"][:1]}
    unknown = duck("budget", "dayly")
    assert (unknown.status, unknown.out) == (1, "")
    assert "no budget 'dayly'; there are: daily, core" in unknown.err


@pytest.mark.parametrize(
    ("limit", "spent", "reserved", "shown"),
    [
        ("10", "0", "0", "[..........] 0"),
        ("10", "9.999999", "0", "[#########.] 99"),
        ("10", "4", "6", "[##########] 100"),
        ("10", "11", "0", "[##########] 110"),
        ("0", "0", "0", "[##########] 100"),
    ],
)
def test_100_percent_means_that_nothing_is_left(limit, spent, reserved, shown):
    used = percent({"limit_usd": limit, "spent_usd": spent, "reserved_usd": reserved})
    assert f"{bar(used)} {used}" == shown
