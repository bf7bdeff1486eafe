"""`duck reload`, and what `duck providers` says of keys."""

from __future__ import annotations

import copy

import pytest

from tests.cli import fake_daemon

RELOAD = "POST /v1/reload"


def test_what_was_taken_over_and_what_was_not_is_said(duck, daemon):
    daemon.answers[RELOAD] = {
        "changed": ["providers.openai.api_key"],
        "needs_restart": ["queue.max_size", "providers.x\x1b[2J"],
        "warnings": ["a key looks wrong"],
    }
    shown = duck("reload")
    assert shown.status == 0
    assert shown.out.splitlines() == [
        "providers.openai.api_key: changed",
        "queue.max_size: needs a restart of duckd",
        r"providers.x\x1b[2J: needs a restart of duckd",
    ]
    assert shown.err == "warning: a key looks wrong\n"
    assert '"needs_restart"' in duck("reload", "--json").out


def test_what_is_new_and_what_is_gone_is_told_from_what_is_otherwise(duck, daemon):
    daemon.answers[RELOAD] = {
        "changed": ["providers.alpha.priority", "providers.beta", "budgets.hourly"],
        "added": ["budgets.hourly"],
        "removed": ["providers.beta"],
        "needs_restart": [],
        "warnings": [],
    }
    assert duck("reload").out.splitlines() == [
        "providers.alpha.priority: changed",
        "providers.beta: removed",
        "budgets.hourly: added",
    ]


def test_a_reload_that_changes_nothing_says_so(duck, daemon):
    daemon.answers[RELOAD] = {"changed": [], "needs_restart": [], "warnings": []}
    assert duck("reload") == (0, "", "nothing has changed\n")


@pytest.mark.parametrize(
    ("status", "code", "ended"),
    [(400, "invalid_request", 78), (403, "permission_denied", 77)],
)
def test_a_config_that_is_refused_ends_as_a_config_error(
    duck, daemon, status, code, ended
):
    daemon.status[RELOAD] = status
    daemon.answers[RELOAD] = {"error": {"code": code, "message": "why it is not"}}
    shown = duck("reload")
    assert (shown.status, shown.out) == (ended, "")
    assert "why it is not" in shown.err


def test_a_key_that_is_set_aside_is_named_by_its_end(duck, daemon):
    answer = copy.deepcopy(fake_daemon.PROVIDERS)
    answer["providers"][0]["keys"] = [
        {"key": "…aaaa", "state": "refused", "wait_s": 599.9},
        {"key": "…bbbb", "state": "used_up", "wait_s": 60.0},
        {"key": "…cccc", "state": "ok", "wait_s": None},
    ]
    daemon.answers["GET /v1/providers"] = answer
    shown = duck("providers")
    assert shown.err.splitlines() == [
        "openai: key …aaaa is refused, for 9m 59s more",
        "openai: key …bbbb is used up, for 1m more",
    ]
    assert shown.out == duck("providers").out
