"""The example at the top of the project runs, and explains every key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args, get_type_hints

import attrs
import trustme

from duckservice.config import Config, load, parse
from duckservice.config_toml.structure import keys_of

EXAMPLE = Path(__file__).parents[2] / "config.toml"


def test_the_example_runs_as_it_is_on_the_mock_provider():
    config = load(EXAMPLE, {})
    assert [p.adapter for p in config.providers.values()] == ["mock"]
    assert not config.warnings


def test_what_the_example_sets_are_the_defaults():
    assert load(EXAMPLE, {}) == Config.default()


def test_the_example_stays_right_when_its_providers_are_switched_on(tmp_path):
    key = tmp_path / "key"
    key.write_text("some-key-for-this-test")
    key.chmod(0o600)
    text = re.sub(
        r"^# \[budgets.*?(?=^\[log)",
        "",
        EXAMPLE.read_text(),
        flags=re.MULTILINE | re.DOTALL,
    )
    text = re.sub(r"^# (?=\[providers|[a-z_]+ = )", "", text, flags=re.MULTILINE)
    text = text.replace("/home/me/.config/duckd/anthropic.key", str(key))
    text = text.replace("/home/me/.config/duckd/google.json", str(key))
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    text = text.replace("/etc/ssl/certs/company.pem", str(authority))
    environ = dict.fromkeys(re.findall(r'"env:([A-Z_]+)"', text), "k" * 20)
    config = parse(text, file="config.toml", environ=environ)
    assert list(config.providers) == [
        "mock", "openai", "anthropic", "gemini-of-the-firm", "azure", "bedrock",
        "behind-a-gateway", "local",
    ]  # fmt: skip
    types = [its.auth.type for its in config.providers.values() if its.auth]
    assert types == ["google", "entra", "aws", "oauth2"]
    assert config.service.socket is not None


def test_the_example_mentions_every_key():
    text = EXAMPLE.read_text()
    missing = {key for key in _keys(Config) if not re.search(rf"\b{key}\b *=", text)}
    assert not missing
    for table in keys_of(Config):
        assert re.search(rf"^(# )?\[{table}\b", text, re.MULTILINE), table


def _keys(cls):
    """Yield every key below the tables of *cls*."""
    hints = get_type_hints(cls)
    for name in keys_of(cls):
        inner = [hints[name], *get_args(hints[name])]
        tables = [kind for kind in inner if isinstance(kind, type) and attrs.has(kind)]
        for table in tables:
            yield from _keys(table)
        if not tables and (cls.__name__, name) != ("ProviderConfig", "name"):
            yield name
        if tables and cls is not Config:
            yield name


def test_the_keys_are_found_at_all():
    assert isinstance(Config().providers, Mapping)
    assert {"capacity", "half_open_max", "limit_usd", "tag"} <= set(_keys(Config))
