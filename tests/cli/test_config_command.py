"""`duck config`, which needs no daemon."""

from __future__ import annotations

import json
import tomllib

import pytest

from duckservice.config import parse

BAD = """
[queue]
max_sise = 5
[log]
level = "loud"
"""


@pytest.fixture
def config(duck):
    path = duck.directory / "config.toml"
    path.write_text("[providers.mock]\n")
    duck.environ["DUCK_CONFIG"] = str(path)
    return path


def test_a_right_config_is_ok(duck, config):
    assert duck("config", "check") == (0, f"{config}: ok\n", "")


def test_every_complaint_is_told_and_the_exit_code_is_78(duck, config):
    config.write_text(BAD)
    checked = duck("config", "check")
    assert (checked.status, checked.out) == (78, "")
    first, second = checked.err.splitlines()
    assert first.startswith(f"{config}: queue.max_sise: found an unknown key")
    assert 'log.level: found "loud" (a string); allowed: one of debug' in second
    told = json.loads(duck("config", "check", "--json").out)
    assert [c["key"] for c in told["complaints"]] == ["queue.max_sise", "log.level"]
    assert told["complaints"][0]["hint"] == 'did you mean "max_size"?'
    assert told["ok"] is False


def test_a_warning_is_told_and_is_no_failure(duck, config):
    config.write_text("store.retention = {completed = '1m'}\n[providers.mock]\n")
    checked = duck("config", "check")
    assert checked.status == 0
    assert checked.err.startswith("warning: store.retention.completed")
    assert json.loads(duck("config", "check", "--json").out)["warnings"]


ELSEWHERE = """
[providers.a]
adapter = "openai"
api_key = "env:DUCK_ELSEWHERE"
[providers.b]
adapter = "anthropic"
api_key = "credential:b-key"
"""


def test_a_secret_of_the_daemons_own_environment_is_a_warning(duck, config):
    config.write_text(ELSEWHERE)
    checked = duck("config", "check")
    assert (checked.status, checked.out) == (0, f"{config}: ok\n")
    first, second = checked.err.splitlines()
    assert first.startswith("warning: env:DUCK_ELSEWHERE, and the variable")
    assert second.startswith("warning: credential:b-key, and $CREDENTIALS_DIRECTORY")
    assert "its own environment decides" in first
    told = json.loads(duck("config", "check", "--json").out)
    assert (told["ok"], len(told["warnings"])) == (True, 2)


def test_strict_refuses_a_secret_that_is_not_to_be_had_here(duck, config):
    config.write_text(ELSEWHERE)
    checked = duck("config", "check", "--strict")
    assert (checked.status, checked.out) == (78, "")
    assert len(checked.err.splitlines()) == 2
    assert duck("config", "show", "--strict").status == 78


def test_a_secret_of_elsewhere_hides_nothing_else_that_is_wrong(duck, config):
    config.write_text(f'{ELSEWHERE}\n[log]\nlevel = "loud"\n')
    checked = duck("config", "check")
    assert checked.status == 78
    [line] = checked.err.splitlines()
    assert "log.level" in line
    config.write_text('[providers.a]\nadapter = "openai"\napi_key = "file:/no/key"\n')
    assert duck("config", "check").status == 78, "a file is the same for everybody"


def test_a_secret_of_elsewhere_is_shown_as_any_other(duck, config):
    config.write_text(ELSEWHERE)
    shown = duck("config", "show")
    assert (shown.status, shown.err) == (0, "")
    assert "stand-in" not in shown.out
    providers = tomllib.loads(shown.out)["providers"]
    assert [providers[name]["api_key"] for name in "ab"] == ["…", "…"]


def test_without_a_file_the_defaults_are_checked(duck):
    assert duck("config", "check").out == "built-in defaults: ok\n"


def test_a_file_that_was_asked_for_must_be_there(duck):
    assert duck("config", "check", "--config", "/nowhere/config.toml").status == 78
    assert duck("config", "show", "--config", "/nowhere/config.toml").status == 78


def test_what_is_shown_is_toml_that_says_the_same_without_secrets(duck, config):
    config.write_text(
        """
        [providers.openai]
        api_key = "env:KEY"
        model_map = { "a b" = "c" }
        headers = { "X-Team" = "canary-header" }
        price = { input = 2.5, output = 10 }
        [providers."x.y"]
        adapter = "mock"
        models = ["m"]
        """
    )
    duck.environ["KEY"] = "canary-key-4f1b9c"
    shown = duck("config", "show").out
    assert "canary" not in shown
    tables = tomllib.loads(shown)
    assert tables["providers"]["openai"]["api_key"] == "…"
    told = json.loads(duck("config", "show", "--json").out)
    assert tables["providers"]["openai"].items() <= told["providers"]["openai"].items()
    again = shown.replace('"\\u2026"', '"env:KEY"')
    config = parse(again, file="x", environ=duck.environ)
    assert config.providers["x.y"].models == ("m",)
    assert config.providers["openai"].model_map == {"a b": "c"}


def test_the_path_is_told_whether_or_not_there_is_a_file(duck, config):
    assert duck("config", "path") == (0, f"{config}\n", "")
    config.unlink()
    told = duck("config", "path")
    assert told.out == f"{config}\n"
    assert "no such file" in told.err
    assert json.loads(duck("config", "path", "--json").out) == {
        "path": str(config),
        "exists": False,
    }
