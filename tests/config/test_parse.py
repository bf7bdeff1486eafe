"""config.toml as a whole: what is accepted, and every complaint at once."""

from __future__ import annotations

from contextlib import suppress

import attrs
import pytest
from hypothesis import given, strategies as st

from duckservice.config import (
    Config,
    ConfigError,
    ProviderConfig,
    Secret,
    keys_of,
    load,
    parse,
)
from duckservice.config_toml import provider_rules

CANARY = "canary-4f1b9c-key"

EVERYTHING = """
[service]
socket = "/run/x.sock"
state_dir = "/var/x"
access = { mode = "0660", group = "root" }
http = ""
drain_grace = "0s"

[store]
url = "memory"
retention = { completed = "1d", discarded = "2d", cancelled = "3d", expired = "4d", streams = "5h" }
max_bytes = "64GiB"
max_request = "1MiB"
max_result = "2MiB"

[queue]
max_size = 10
max_jobs = 1000000
aging = "1m"

[providers.openai]
adapter = "openai"
api_key = "env:OPENAI_API_KEY"
base_url = "https://api.openai.com/v1"
models = ["gpt-4o", "gpt-4o-*"]
model_map = { "fast" = "gpt-4o-mini" }
priority = 1
weight = 1
max_concurrency = 64
timeout = { connect = "5s", first_byte = "60s", idle = "30s", total = "10m" }
headers = { "X-Team" = "core" }
rate_limit = { capacity = 100, refill_rate = 10.0 }
limits = { requests_per_minute = 500, tokens_per_minute = 200000 }
breaker = { failure_threshold = 5, reset_timeout = "60s", success_threshold = 3, half_open_max = 1 }
price = { input = 2.5, output = 10.0 }

[retry]
max_attempts = 3
base_delay = "1s"
max_delay = "10s"
jitter = true

[routing]
strategy = "priority"
fallbacks = { "gpt-4o" = ["claude-3-5-sonnet-20241022"] }

[cache]
enabled = false
ttl = "5m"
max_entries = 10000

[log]
level = "info"
format = "auto"
debug_bodies = false
"""


def read(text, *, private=False, **environ):
    return parse(text, file="config.toml", environ=environ, private=private)


def complaints(text, **environ):
    """Return the complaints about *text* by key."""
    with pytest.raises(ConfigError) as refusal:
        read(text, **environ)
    return {c.key: str(c) for c in refusal.value.complaints}


def test_every_key_of_the_contract_is_read():
    config = read(EVERYTHING, OPENAI_API_KEY=CANARY)
    provider = config.providers["openai"]
    assert provider.api_key == Secret(CANARY)
    assert provider.timeout.total == 600
    assert provider.price is not None
    assert (provider.price.input, provider.price.output) == ("2.5", "10.0")
    assert provider.models == ("gpt-4o", "gpt-4o-*")
    assert config.routing.fallbacks == {"gpt-4o": ("claude-3-5-sonnet-20241022",)}
    assert config.service.access.mode == 0o660
    assert config.service.drain_grace == 0
    assert [its.rsplit(" ", 1)[0] for its in config.warnings] == [
        "providers.openai.api_key (…-key) does not look like a key of",
        'routing.fallbacks."gpt-4o": no provider serves',
    ]
    assert not config.is_default


def test_an_absent_key_has_its_default():
    config = read("[providers.mock]\n")
    assert config == Config.default()
    mock = ProviderConfig(name="mock", adapter="mock", models=("mock-echo", "mock-*"))
    assert config.providers["mock"] == mock


def test_without_a_file_the_mock_provider_answers_and_the_config_says_so():
    config = load(None, {})
    assert config.is_default
    assert list(config.providers) == ["mock"]


def test_without_a_provider_the_mock_provider_answers_with_a_warning():
    config = read("")
    assert list(config.providers) == ["mock"]
    assert "mock" in config.warnings[0]
    assert not config.is_default


def test_every_complaint_comes_at_once_with_key_found_and_allowed():
    found = complaints(
        """
        qeue = 1
        [service]
        drain_grace = "soon"
        access = { mode = "0777" }
        [queue]
        max_size = true
        max_sise = 5
        [providers.openai]
        api_key = "env:NOT_SET"
        models = "gpt-4o"
        rate_limit = { capacity = "many" }
        timeout = { connect = -1, total = nan }
        headers = { "X-A" = "a\\nb", "B c" = "d" }
        [providers."bad name"]
        adapter = "mock"
        [providers.claude]
        priority = 1
        [retry]
        jitter = 1
        [cache]
        enabled = true
        max_bytes = "8KiB"
        [routing]
        strategy = "cheapst"
        fallbacks = { a = ["", 5] }
        [log]
        level = []
        """
    )
    assert list(found) == [
        "qeue",
        "service.access.mode",
        "service.drain_grace",
        "queue.max_sise",
        "queue.max_size",
        "providers.openai.api_key",
        "providers.openai.models",
        "providers.openai.timeout.connect",
        "providers.openai.timeout.total",
        "providers.openai.headers.X-A",
        'providers.openai.headers."B c"',
        "providers.openai.rate_limit.capacity",
        "providers.openai.rate_limit.refill_rate",
        'providers."bad name"',
        "providers.claude.adapter",
        "retry.jitter",
        "routing.strategy",
        "routing.fallbacks.a[0]",
        "routing.fallbacks.a[1]",
        "cache.max_bytes",
        "log.level",
    ]
    assert found["queue.max_size"] == (
        "config.toml: queue.max_size: found true (a boolean);"
        " allowed: a whole number from 1 to 1000000"
    )
    assert found["qeue"].endswith('; did you mean "queue"?')
    assert found["queue.max_sise"].endswith('; did you mean "max_size"?')
    assert found["routing.strategy"].endswith('; did you mean "cheapest"?')
    assert "found nothing" in found["providers.openai.rate_limit.refill_rate"]


def test_a_wrong_key_does_not_hide_what_is_wrong_with_the_others_together():
    text = """
    [service]
    http = "0.0.0.0:8731"
    drain_grace = "soon"
    access = { mode = 600, group = "no-such-ducks" }
    [cache]
    enabled = true
    max_bytes = "1KiB"
    ttl = "for ever"
    [retry]
    base_delay = "1 s and a bit"
    max_delay = "1ms"
    [providers.local]
    adapter = "openai-compatible"
    priority = "first"
    """
    with pytest.raises(ConfigError) as caught:
        parse(text, file="x.toml", environ={})
    assert {complaint.key for complaint in caught.value.complaints} == {
        "service.http",  # and that it needs a token_file, whatever it is
        "service.token_file",
        "service.drain_grace",
        "service.access.mode",  # and nothing about that it has a group
        "service.access.group",  # but that there is no such group
        "cache.ttl",
        "cache.max_bytes",
        "retry.base_delay",  # by which max_delay cannot be judged
        "providers.local.base_url",
        "providers.local.priority",
    }


def test_an_unknown_group_is_one_of_all_complaints():
    text = """
    service.access = { mode = "0660", group = "no-such-ducks" }
    queue.max_size = 0
    """
    found = complaints(text)
    assert list(found) == ["service.access.group", "queue.max_size"]
    told = found["service.access.group"]
    assert told.startswith("config.toml: ")
    assert 'found "no-such-ducks" (a string), a group that this machine has not' in told
    assert "allowed: the name of a group of this machine" in told


def test_the_error_is_the_list_of_complaints_one_a_line():
    with pytest.raises(ConfigError) as refusal:
        read("a = 1\nb = '''x\ny'''\n")
    lines = str(refusal.value).split("\n")
    assert len(lines) == len(refusal.value.complaints) == 2
    assert all(line.startswith("config.toml: ") for line in lines)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("providers = 5", "providers"),
        ("[[providers.openai]]", "providers.openai"),
        ("providers.openai = 1", "providers.openai"),
        ("[providers.mock]\nname = 'x'", "providers.mock.name"),
        ("warnings = ['x']", "warnings"),
        ("is_default = true", "is_default"),
        ("queue = []", "queue"),
        ("routing.fallbacks = { a = 'b' }", "routing.fallbacks.a"),
        ("service.socket = 5", "service.socket"),
        ("service.access = { mode = '0660' }", "service.access.group"),
        ("service.access = { group = 'root' }", "service.access.mode"),
        ("retry = { base_delay = '20s' }", "retry.max_delay"),
        ("providers.mock.models = []", "providers.mock.models"),
        ("providers.mock.models = 'gpt-4o'", "providers.mock.models"),
        ("providers.mock.models = ['a', '']", "providers.mock.models[1]"),
        ("queue.max_size = 2024-01-01", "queue.max_size"),
        ("providers.x.adapter = 'openai-compatible'", "providers.x.base_url"),
        ("providers.mock.limits = { requests_per_minute = 0 }",
         "providers.mock.limits.requests_per_minute"),
        ("providers.mock.price = { input = 1 }", "providers.mock.price.output"),
        ("providers.mock.price = { input = inf, output = 1 }",
         "providers.mock.price.input"),
    ],
)  # fmt: skip
def test_the_complaint_names_the_key(text, key):
    assert list(complaints(text)) == [key]


@pytest.mark.parametrize(
    "text", ["a = ", "\0", "a = 1\na = 2", "x = " + "[" * 100_000, "x = " + "9" * 9999]
)
def test_what_is_not_toml_is_one_complaint_about_the_file(text):
    assert list(complaints(text)) == [""]


@given(st.text())
def test_any_text_is_read_or_refused(text):
    with suppress(ConfigError):
        assert read(text).providers


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("store.url = 'postgresql://u:canary@h/d'", "store.url", "not available"),
        ("store.url = 'mysql://canary'", "store.url", "sqlite"),
        ("routing.strategy = 'random'", "routing.strategy", "least_busy"),
    ],
)  # fmt: skip
def test_what_this_version_does_not_do_is_refused_and_not_ignored(text, key, reason):
    found = complaints(text)
    assert list(found) == [key]
    assert reason in found[key]
    assert "canary" not in found[key]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("store.url = 'memory'\nstore.max_bytes = '1GiB'", "store.max_bytes"),
        ("service.token_file = '/x/y'", "service.token_file"),
        ("cache.persist = true", "cache.persist"),
        ("cache.coalesce = true", "cache.coalesce"),
        ("cache.enabled = true\ncache.max_bytes = '64KiB'", "cache.max_bytes"),
        (
            "cache = { enabled = true, persist = true }\nstore.url = 'memory'",
            "cache.persist",
        ),
    ],
)
def test_what_has_no_effect_yet_is_warned_about(text, warned):
    [warning] = read(f"{text}\n[providers.mock]").warnings
    assert warned in warning


def test_a_cache_in_which_no_reply_has_room_is_refused():
    text = "cache = { enabled = true, max_bytes = '8KiB' }"
    assert "at least 16KiB" in complaints(text)["cache.max_bytes"]
    assert read(text.replace("true", "false")).cache.max_bytes == 8 << 10


def test_a_cache_is_nothing_to_warn_about():
    text = "cache = { enabled = true, persist = true, coalesce = true }"
    assert not read(f"{text}\n[providers.mock]").warnings


def test_where_and_how_many_jobs_are_kept_is_nothing_to_warn_about():
    text = "store.url = 'sqlite:///x/y.db'\nqueue.max_jobs = 5\n[providers.mock]"
    assert not read(text).warnings


def test_how_long_and_how_much_is_kept_is_read_with_units():
    store = read(
        "store.retention = { completed = '12h', streams = '1m' }\n"
        "store.max_bytes = '1.5GiB'\nstore.max_request = 4096\n"
        "store.max_result = '2MB'\n[providers.mock]"
    ).store
    assert (store.retention.completed, store.retention.streams) == (43200.0, 60.0)
    assert store.retention.discarded == 30 * 86400.0
    assert store.max_bytes == 3 << 29
    assert (store.max_request, store.max_result) == (4096, 2_000_000)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("store.retention = { completed = 0 }", "store.retention.completed"),
        ("store.retention = { failed = '1d' }", "store.retention.failed"),
        ("store.max_bytes = '1KiB'", "store.max_bytes"),
        ("store.max_bytes = '10 GB'", "store.max_bytes"),
        ("store.max_bytes = '1kiB'", "store.max_bytes"),
        ("store.max_request = 1024.5", "store.max_request"),
        ("store.max_request = true", "store.max_request"),
        ("store.max_request = -4096", "store.max_request"),
        ("store.max_result = '1TiB'", "store.max_result"),
    ],
)
def test_a_retention_or_a_size_that_makes_no_sense_is_refused(text, key):
    assert list(complaints(text)) == [key]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("store.retention.completed = '59m'", "store.retention.completed"),
        ("store.max_bytes = '64MiB'", "store.max_bytes is less than one job"),
    ],
)
def test_limits_that_lose_results_are_warned_about(text, warned):
    [warning] = read(f"{text}\n[providers.mock]").warnings
    assert warned in warning


def test_the_shape_of_a_budget_is_checked_as_well():
    found = complaints("[budgets.x]\nlimit_usd = -1\nwindow = 'week'\n[budgets.y]\n")
    assert list(found) == [
        "budgets.x.limit_usd",
        "budgets.x.window",
        "budgets.y.limit_usd",
    ]


@pytest.mark.parametrize(
    "tag", ["team", "team=", "=core", " = ", "a=b,c=d", "k" * 65 + "=v"]
)
def test_a_budgets_tag_is_one_that_a_request_can_have(tag):
    found = complaints(f"[budgets.x]\nlimit_usd = 1\nmatch = {{ tag = '{tag}' }}")
    assert list(found) == ["budgets.x.match.tag"]
    assert "key=value" in found["budgets.x.match.tag"]


def test_a_budget_of_a_provider_that_there_is_not_is_refused():
    text = "[budgets.x]\nlimit_usd = 1\nmatch = { provider = 'opnai' }"
    [(key, said)] = complaints(f"[providers.openai]\n{text}").items()
    assert key == "budgets.x.match.provider"
    assert said.endswith('allowed: one of openai; did you mean "openai"?')
    # Without a provider there is our own.
    assert list(complaints(text)) == [key]
    assert read(text.replace("opnai", "mock")).budgets
    # And where a provider is refused, who knows what it is called.
    broken = complaints(f"[providers.openai]\npriority = -1\n{text}")
    assert list(broken) == ["providers.openai.priority"]


@pytest.mark.parametrize(
    ("match", "warned"),
    [
        ("model = 'gpt-4o'", False),
        ("model = 'gpt-4*'", False),
        ("model = '*mini'", False),
        ("model = 'fast'", False),
        ("model = 'big-?'", False),
        ("model = 'mistral'", True),
        ("model = 'claude*'", True),
        ("model = 'gpt-5*'", True),
        ("provider = 'a', model = 'mistral-7b'", True),
        ("provider = 'b', model = 'mistral-7b'", False),
    ],
)
def test_a_budget_of_a_model_that_nobody_serves_is_warned_about(match, warned):
    text = f"""
        [providers.a]
        adapter = "mock"
        models = ["gpt-4o*"]
        model_map = {{ fast = "big-1" }}
        [providers.b]
        adapter = "mock"
        models = ["mistral-7b"]
        [budgets.x]
        limit_usd = 1
        match = {{ {match} }}
    """
    warnings = read(text).warnings
    assert [("budgets.x binds nothing" in its) for its in warnings] == [True] * warned
    # Who says nothing of models serves what its adapter knows.
    adapters_own = text.replace('models = ["gpt-4o*"]', "").replace("mock", "ollama")
    if "provider" not in match:
        assert not read(adapters_own).warnings


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("trheshold", '"failure_threshold" or "success_threshold"'),
        ("failure_treshold", '"failure_threshold"'),
    ],
)
def test_names_that_are_as_near_to_a_wrong_key_are_all_named(key, hint):
    [said] = complaints(f"[providers.mock]\nbreaker = {{ {key} = 1 }}").values()
    assert said.endswith(f"; did you mean {hint}?")


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("providers.mock.timeout.total = '5s'", "less than first_byte (60 s)"),
        ("providers.mock.timeout = { total = '5s', first_byte = '5s' }", None),
        ("providers.mock.breaker.slow_rate = 0.5", "without slow_call"),
        ("providers.mock.breaker = { slow_rate = 0.5, slow_call = '5s' }", None),
        ("providers.mock = {}\nrouting.sticky = 'user=x'", 'meant, as "user"'),
        ("providers.mock = {}\nrouting.sticky = 'user'", None),
    ],
)
def test_what_has_no_effect_is_warned_about(text, warned):
    warnings = read(text).warnings
    if warned is None:
        assert not warnings
    else:
        [warning] = warnings
        assert warned in warning


def test_the_tables_name_is_the_default_adapter_with_its_url():
    config = read("[providers.openai]\n[providers.anthropic]\n")
    assert config.providers["openai"].adapter == "openai"
    assert config.providers["openai"].base_url == "https://api.openai.com/v1"
    assert config.providers["anthropic"].base_url.startswith("https://api.anthropic")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
def test_a_key_may_go_over_http_to_this_machine(host):
    text = f"[providers.openai]\nbase_url = 'http://{host}:1/v1'\napi_key = 'env:K'"
    assert read(text, K=CANARY).providers["openai"].api_key


@pytest.mark.parametrize("host", ["10.0.0.1", "example.com", "localhost.example.com"])
def test_a_key_does_not_go_over_http_to_another_machine(host):
    text = f"[providers.openai]\nbase_url = 'http://{host}:1/v1'\napi_key = 'env:K'"
    assert list(complaints(text, K=CANARY)) == ["providers.openai.base_url"]
    assert read(text.replace("env:K", "env:K:")).providers["openai"].api_key is None


@pytest.mark.parametrize("name", ["a" * 65, "", "a b", "a/b", "ä", "a\\u001b"])
def test_a_provider_has_a_plain_name(name):
    assert len(complaints(f'[providers."{name}"]\nadapter = "mock"\n')) == 1


def test_an_unknown_key_cannot_draw_on_the_terminal():
    [text] = complaints('"\\u001b[2Jx" = 1').values()
    assert "\x1b" not in text


def test_no_complaint_and_no_repr_shows_a_secret():
    text = f"""
        [providers.openai]
        api_key = "{CANARY}"
        headers = {{ "X-Key" = "{CANARY}", "X-Bad" = "{CANARY}\\n" }}
        base_url = "https://{CANARY}@example.com"
    """
    with pytest.raises(ConfigError) as refusal:
        read(text)
    assert CANARY not in f"{refusal.value} {refusal.value!r}"
    assert refusal.value.__cause__ is None
    good = text.replace(f"{CANARY}\\n", CANARY).replace(f"{CANARY}@", "")
    config = read(good, private=True)
    assert CANARY not in f"{config!r} {config.redacted()} {config.warnings}"


def test_a_literal_key_in_a_private_file_is_taken_with_a_warning(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(f"[providers.openai]\napi_key = '{CANARY}'\n")
    path.chmod(0o600)
    config = load(path, {})
    assert config.providers["openai"].api_key == Secret(CANARY)
    assert "providers.openai.api_key is a literal key" in config.warnings[0]
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="a literal key"):
        load(path, {})


def test_a_file_that_cannot_be_read_is_a_complaint(tmp_path):
    path = tmp_path / "config.toml"
    for make in (
        lambda: None,
        lambda: path.write_bytes(b"\xff\xfe"),
        lambda: path.write_bytes(b"#" * 2_000_000),
    ):
        make()
        with pytest.raises(ConfigError) as refusal:
            load(path, {})
        assert [c.key for c in refusal.value.complaints] == [""]
    with pytest.raises(ConfigError):
        load(tmp_path, {})


def test_the_redacted_config_has_the_shape_of_the_file():
    config = read(EVERYTHING, OPENAI_API_KEY=CANARY)
    shown = config.redacted()
    assert shown["providers"]["openai"]["api_key"] == "…"
    assert shown["providers"]["openai"]["headers"] == {"X-Team": "…"}
    assert shown["service"]["access"]["mode"] == "0660"
    assert "name" not in shown["providers"]["openai"]
    assert set(shown) == {
        f.name for f in attrs.fields(Config) if "not_a_key" not in f.metadata
    }


# Providers: which key is for which adapter, and how they are authenticated.


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("openai.region = 'eu-central-1'", "openai.region", "for adapter bedrock"),
        ("openai.location = 'global'", "openai.location", "for adapter vertex"),
        ("gemini.project = 'x'", "gemini.project", "for adapter openai and vertex"),
        ("groq.organization = 'x'", "groq.organization", "for adapter openai"),
        ("groq.api_version = 'x'", "groq.api_version", "anthropic and azure"),
        ("cohere.api = 'responses'", "cohere.api", "a format of its own"),
        ("mock.api_keys = ['env:K']", "mock.api_keys", "no key"),
        ("azure = {}", "azure.base_url", "NAME.openai.azure.com"),
        ("bedrock = {}", "bedrock.region", "the AWS region"),
        ("openai.auth = { type = 'google' }", "openai.auth.type", "oauth2"),
        ("groq.auth = { type = 'aws' }", "groq.auth.type", "bedrock"),
        ("openai.auth = {}", "openai.auth.type", "required"),
        ("openai.auth = { type = 'oath2' }", "openai.auth.type", "did you mean"),
        ("openai.auth = 5", "openai.auth", "a table"),
    ],
)
def test_a_key_that_means_nothing_to_the_adapter_is_refused(text, key, reason):
    found = complaints(f"providers.{text}", K="k" * 20)
    assert list(found) == [f"providers.{key}"]
    assert reason in found[f"providers.{key}"]


CLIENT = "type = 'oauth2', token_url = 'https://t', client_id = 'c'"
"""An auth table but for its secret."""


@pytest.mark.parametrize(
    ("auth", "keys"),
    [
        ("type = 'oauth2'", ["client_id", "client_secret", "token_url"]),
        (CLIENT, ["client_secret"]),
        (
            CLIENT.replace("https://t", "http://far.example"),
            ["client_secret", "token_url"],
        ),
        (
            CLIENT.replace("https://t", "https://t?key=x") + ", profile = 'p'",
            ["profile", "token_url"],
        ),
        (f"{CLIENT}, refresh_token = 'env:NOT_SET'", ["refresh_token"]),
    ],
)
def test_an_auth_table_is_checked_as_a_whole(auth, keys):
    found = complaints(f"providers.openai.auth = {{ {auth} }}", K="k" * 20)
    assert sorted(found) == [f"providers.openai.auth.{key}" for key in keys]


AWS = "type = 'aws', access_key_id = 'env:K', secret_access_key = 'env:K'"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("azure.auth = { type = 'entra', client_secret = 'env:K' }", "tenant_id"),
        ("azure.auth = { type = 'entra', scope = 's', token_url = 'https://t' }",
         "token_url"),
        ("bedrock.auth = { type = 'aws', access_key_id = 'env:K' }",
         "secret_access_key"),
        ("bedrock.auth = { type = 'aws', session_token = 'env:K' }", "session_token"),
        (f"bedrock.auth = {{ profile = 'p', {AWS} }}", "profile"),
    ],
)  # fmt: skip
def test_what_goes_together_in_an_auth_table_is_there_together(text, key):
    name = text.partition(".")[0]
    more = (
        "providers.azure.base_url = 'https://x'"
        if name == "azure"
        else "providers.bedrock.region = 'eu-central-1'"
    )
    found = complaints(f"{more}\nproviders.{text}", K="k" * 20)
    assert f"providers.{name}.auth.{key}" in found


def test_a_key_and_an_auth_table_are_not_both_of_use():
    auth = f"{CLIENT}, client_secret = 'env:K'"
    text = f"[providers.openai]\nauth = {{ {auth} }}\napi_keys = ['env:K']"
    assert list(complaints(text, K="k" * 20)) == ["providers.openai.auth"]


@pytest.mark.parametrize(
    "how", ["api_keys = ['env:K']", f"auth = {{ {CLIENT}, client_secret = 'env:K' }}"]
)
def test_nothing_secret_goes_over_http_to_another_machine(how):
    text = f"[providers.openai]\nbase_url = 'http://10.0.0.1:1/v1'\n{how}"
    assert list(complaints(text, K=CANARY)) == ["providers.openai.base_url"]


def test_several_keys_are_read_and_an_empty_default_is_none_of_them():
    text = (
        "[providers.openai]\napi_key = 'env:A'\napi_keys = ['env:B', 'env:C:', 'env:A']"
    )
    found = read(text, A="sk-" + "a" * 30, B="sk-" + "b" * 30)
    keys = keys_of(found.providers["openai"])
    assert [key.reveal()[-1] for key in keys] == ["a", "b"]
    assert found.redacted()["providers"]["openai"]["api_keys"] == ["…"] * 2
    [warning] = found.warnings
    assert "api_keys[1] is the same key as api_key" in warning


def test_a_bad_reference_among_several_keys_is_named():
    text = "[providers.openai]\napi_keys = ['env:B', 'env:NOT_SET', 5]"
    assert list(complaints(text, B="b" * 20)) == [
        "providers.openai.api_keys[1]",
        "providers.openai.api_keys[2]",
    ]


@pytest.mark.parametrize(
    ("adapter", "key", "warned"),
    [
        ("openai", "sk-ant-api03-0123456789abcdefghij", "a key of anthropic"),
        ("openai", "gsk_0123456789abcdefghij0123", "a key of groq"),
        ("anthropic", "sk-proj-0123456789abcdefghij", "a key of openai"),
        ("groq", "AIzaSy0123456789abcdefghij0123456789abc", "gemini or vertex"),
        ("openai", "0123456789abcdefghij", "does not look like a key of openai"),
        ("openai", "sk-0123456789abcdefghij", None),
        ("openai", "sk-proj-0123456789abcdefghij", None),
        ("anthropic", "sk-ant-api03-0123456789abcdefghij", None),
        ("ollama", "gsk_0123456789abcdefghij0123", None),
    ],
)
def test_a_key_that_looks_like_another_providers_is_warned_about(adapter, key, warned):
    config = read(f"[providers.{adapter}]\napi_keys = ['env:K']", K=key)
    if warned is None:
        assert not config.warnings
        return
    [warning] = config.warnings
    assert warning.startswith(f"providers.{adapter}.api_keys[0] (…{key[-4:]}) ")
    assert warned in warning
    assert key not in warning


def test_a_gateway_in_front_of_a_provider_has_keys_of_its_own():
    text = (
        "[providers.openai]\nbase_url = 'https://gateway.example/v1'\napi_key = 'env:K'"
    )
    assert not read(text, K="gsk_0123456789abcdefghij0123").warnings


def test_a_literal_secret_in_an_auth_table_is_warned_about_and_never_shown():
    text = f"""
        [providers.openai.auth]
        type = "oauth2"
        token_url = "https://login.example/token/"
        client_id = "duck"
        client_secret = "{CANARY}"
        refresh_token = "{CANARY}-too"
    """
    config = read(text, private=True)
    auth = config.providers["openai"].auth
    assert auth.token_url == "https://login.example/token/"
    assert [w.split()[0] for w in config.warnings] == [
        "providers.openai.auth.client_secret",
        "providers.openai.auth.refresh_token",
    ]
    shown = config.redacted()["providers"]["openai"]["auth"]
    assert shown == {
        "type": "oauth2",
        "token_url": "https://login.example/token/",
        "client_id": "duck",
        "client_secret": "…",
        "refresh_token": "…",
    }
    assert CANARY not in f"{config!r} {config.redacted()} {config.warnings}"
    with pytest.raises(ConfigError) as refusal:
        read(text)
    assert CANARY not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "extra"),
    [
        ("vertex = { project = 'p', auth = { type = 'google' } }", "gcp"),
        ("vertex = { project = 'p' }", "gcp"),
        ("azure = { base_url = 'https://x', auth = { type = 'entra' } }", "azure"),
        ("bedrock = { region = 'r', auth = { type = 'aws' } }", "aws"),
        ("bedrock = { region = 'r' }", "aws"),
    ],
)
def test_a_login_whose_library_is_missing_says_what_to_install(
    monkeypatch, text, extra
):
    monkeypatch.setattr(provider_rules, "find_spec", lambda name: None)
    [complaint] = complaints(f"providers.{text}").values()
    assert f"pip install 'duckservice[{extra}]'" in complaint


def test_entra_with_a_clients_secret_needs_no_library(monkeypatch):
    monkeypatch.setattr(provider_rules, "find_spec", lambda name: None)
    auth = (
        "{ type = 'entra', tenant_id = 't', client_id = 'c', client_secret = 'env:K' }"
    )
    text = f"[providers.azure]\nbase_url = 'https://x'\nauth = {auth}"
    assert read(text, K="k" * 20).providers["azure"].auth.tenant_id == "t"


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:8731",
        "192.168.1.5:8731",
        "[::]:8731",
        "[2001:db8::1]:8731",
        "localhost:8731",
        "127.0.0.1",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "::1:8731",
        "http://127.0.0.1:8731",
        ":8731",
        "8731",
    ],
)
def test_a_listener_is_at_a_loopback_address_or_nowhere(address, tmp_path):
    text = f"service.http = '{address}'\nservice.token_file = '{token(tmp_path)}'"
    found = complaints(text)
    assert list(found) == ["service.http"]
    assert "IP address of this machine" in found["service.http"]


@pytest.mark.parametrize("address", ["127.0.0.1:8731", "127.1.2.3:1", "[::1]:0"])
def test_a_listener_with_a_private_token_is_accepted(address, tmp_path):
    text = f"service.http = '{address}'\nservice.token_file = '{token(tmp_path)}'"
    config = read(text)
    assert config.service.http == address
    assert not any("token" in warning for warning in config.warnings)


def test_a_listener_needs_a_token_that_nobody_else_can_read_or_guess(tmp_path):
    def complaint(file):
        text = f"service.http = '127.0.0.1:8731'\nservice.token_file = '{file}'"
        found = complaints(text)
        assert list(found) == ["service.token_file"]
        assert TOKEN[:8] not in str(found)
        return found["service.token_file"]

    assert "cannot be opened" in complaint(tmp_path / "none")
    assert "mode 0640" in complaint(token(tmp_path, mode=0o640))
    assert "mode 0604" in complaint(token(tmp_path, mode=0o604))
    assert "fewer than 16" in complaint(token(tmp_path, TOKEN[:15]))
    assert "spaces" in complaint(token(tmp_path, f"{TOKEN} {TOKEN}"))
    assert "not a regular file" in complaint(tmp_path)
    without = complaints("service.http = '127.0.0.1:8731'")
    assert list(without) == ["service.token_file"]
    assert "umask 077" in without["service.token_file"]


def test_a_credential_of_systemd_is_a_token_as_it_is(tmp_path, monkeypatch):
    file = token(tmp_path, mode=0o440)
    text = f"service.http = '127.0.0.1:8731'\nservice.token_file = '{file}'"
    assert list(complaints(text)) == ["service.token_file"]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read(text).service.token_file == file
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/")
    assert list(complaints(text)) == ["service.token_file"]


TOKEN = "canary-token-5d8e1f0a7b"


def token(folder, text=TOKEN, *, mode=0o600):
    file = folder / "token"
    file.write_text(text + "\n")
    file.chmod(mode)
    return file
