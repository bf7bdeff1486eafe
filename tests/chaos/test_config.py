"""The user's config on the bench: its policy is kept, its keys and addresses are not."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from duckservice.chaos.reach import reach_of, reaches
from duckservice.chaos.rehearsal import rehearse
from duckservice.chaos.stand_ins import load
from duckservice.config import Config, ConfigError, keys_of

SECRET = "real-secret-5c1e94b07d"

EVERYTHING = f"""
[service]
socket = "/run/user/1/duckd.sock"
state_dir = "/home/me/state"
[store]
url = "sqlite:////home/me/jobs.sqlite"
[retry]
max_attempts = 4
[budgets.daily]
limit_usd = 0.01
[providers.openai]
api_key = "env:NOT_SET_ANYWHERE"
api_keys = ["file:/not/there", "credential:none", "{SECRET}", "env:EMPTY:"]
models = ["m", "gpt-*"]
limits = {{ requests_per_minute = 1 }}
[providers.gateway]
adapter = "openai-compatible"
base_url = "https://llm.example.com/deep/v1"
headers = {{ Authorization = "Bearer {SECRET}" }}
auth = {{ type = "oauth2", token_url = "https://login.example.com/token", client_id = "duck", client_secret = "{SECRET}" }}
ca_file = "/not/there.pem"
proxy = "http://me:{SECRET}@proxy.example:3128"
models = ["m"]
[providers.local]
adapter = "ollama"
models = ["other"]
[providers.vertex]
project = "p"
models = ["claude-*"]
[providers.azure]
base_url = "https://name.openai.azure.com"
api_version = "2024-10-21"
api_key = "env:ALSO_NOT_SET"
models = ["dep[lo]y"]
[providers.mock]
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(EVERYTHING)
    return load(file, {"EMPTY": ""})


def test_no_secret_of_the_config_is_looked_up_or_kept(config):
    shown = [
        key.reveal() for its in config.providers.values() for key in keys_of(its)
    ] + [v for its in config.providers.values() for v in its.headers.values()]
    auth = config.providers["gateway"].auth
    shown += [secret.reveal() for secret in auth.secrets()]
    assert SECRET not in " ".join(shown)
    # The one with an empty default is not there; the others are, each as another.
    assert len(set(map(str.strip, shown))) == len(shown)
    assert len(keys_of(config.providers["openai"])) == 4


def test_a_key_with_an_empty_default_is_there_if_its_variable_is_set(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[providers.openai]\napi_key = "env:MAYBE:"\n')
    [without] = load(file, {}).providers.values()
    [with_one] = load(file, {"MAYBE": SECRET}).providers.values()
    assert without.api_key is None
    assert with_one.api_key is not None
    assert with_one.api_key.reveal() != SECRET


def test_what_is_wrong_in_the_config_is_said_without_its_secrets(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(f'[providers.openai]\napi_key = "{SECRET}"\npriority = -1\n')
    with pytest.raises(ConfigError) as refused:
        load(file, {})
    assert "providers.openai.priority" in str(refused.value)
    file.write_text(f"[providers.openai]\napi_key = {SECRET}\n")
    with pytest.raises(ConfigError) as refused:
        load(file, {})
    assert SECRET not in str(refused.value)
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml", {})


def test_every_provider_is_on_loopback_with_a_stand_in_and_no_login(config):
    rehearsal = rehearse(config)
    ports = dict.fromkeys(rehearsal.config.providers, 4711)
    for its in rehearsal.at(ports).providers.values():
        assert urlsplit(its.base_url).netloc == "127.0.0.1:4711"
        assert its.auth is None
        assert keys_of(its)
    assert rehearsal.left_out == ("mock",)


def test_the_path_of_an_address_is_kept_since_it_says_the_format(config):
    made = rehearse(config).at(dict.fromkeys(rehearse(config).config.providers, 1))
    assert made.providers["gateway"].base_url.endswith(":1/deep/v1")


def test_the_users_files_are_left_alone(config):
    made = rehearse(config).config
    assert made.service.socket is None
    assert made.service.state_dir is None
    assert made.store.url == "sqlite"


def test_the_policy_is_kept_and_what_would_hold_it_up_is_off(config):
    made = rehearse(config).config
    assert made.retry.max_attempts == 4
    assert not made.budgets
    assert made.providers["openai"].limits.requests_per_minute is None


def test_times_are_scaled_by_one_factor_but_not_below_what_a_machine_needs(config):
    rehearsal = rehearse(config)
    its = rehearsal.config.providers["openai"]
    assert rehearsal.factor == 1 / 60
    assert (its.timeout.first_byte, its.timeout.idle) == (1.0, 0.5)
    assert its.timeout.connect == 0.5
    assert its.breaker.reset_timeout == 1.0
    assert rehearsal.config.retry.base_delay == pytest.approx(1 / 60)
    assert "1/60 of the config's" in rehearsal.times


def test_short_times_are_not_made_longer():
    text = "[providers.openai]\ntimeout = { first_byte = 0.1, idle = 0.1 }\n"
    text += "breaker = { reset_timeout = 0.2 }\n"
    made = rehearse(parsed(text))
    its = made.config.providers["openai"]
    assert made.factor == 1.0
    assert (its.timeout.first_byte, its.timeout.idle) == (0.1, 0.1)
    assert its.breaker.reset_timeout == 0.2


def parsed(text):
    from duckservice.config import parse

    return parse(text, file="config.toml", environ={})


@pytest.mark.parametrize("text", ["", "[providers.mock]\n"])
def test_where_no_provider_can_fail_two_of_ours_are_tried(text):
    for config in (parsed(text), Config.default()):
        rehearsal = rehearse(config)
        assert rehearsal.is_ours
        [reach] = reaches(rehearsal.config)
        assert reach.providers == ("first", "second")


def test_the_models_asked_for_reach_every_provider(config):
    found = reaches(rehearse(config).config)
    assert found[0].model == "m"
    assert found[0].providers == ("openai", "gateway")
    reached = {name for its in found for name in its.providers}
    assert reached == {"openai", "gateway", "local", "vertex", "azure"}


def test_a_fallback_model_reaches_who_serves_it():
    text = '[routing]\nfallbacks = { "a" = ["b"] }\n'
    text += '[providers.openai]\nmodels = ["a"]\n[providers.groq]\nmodels = ["b"]\n'
    config = rehearse(parsed(text)).config
    assert reaches(config)[0].providers == ("openai", "groq")
    assert reach_of("b", config).providers == ("groq",)
    assert reach_of("c", config).providers == ()
