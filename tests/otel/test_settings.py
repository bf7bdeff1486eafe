"""What config and environment say of telemetry, and what is refused."""

from __future__ import annotations

import attrs
import pytest

from duckservice.config import Config, ConfigError, Secret, TelemetryConfig, parse
from duckservice.config_toml import telemetry_rules
from duckservice.otel.settings import with_environment
from duckservice.redaction import secrets_of
from duckservice.reloading.changes import changes

HERE = "http://127.0.0.1:4318"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": HERE}


def read(text: str, **environ: str) -> TelemetryConfig:
    return parse(text, file="config.toml", environ=environ).telemetry


def told(**environ: str) -> TelemetryConfig:
    return with_environment(Config.default(), environ).telemetry


def complaint(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    [its] = caught.value.complaints
    return str(its)


def test_it_is_off_unless_somebody_says_where_to_send_it():
    assert not Config.default().telemetry.enabled
    assert with_environment(Config.default(), {}) == Config.default()


def test_the_config_says_where_and_how():
    its = read(
        "[telemetry]\n"
        f'otlp_endpoint = "{HERE}/"\nheaders = {{ Authorization = "env:AUTH" }}\n'
        'service_name = "mine"\nsample_ratio = 0.25\nexport_interval = "2s"\n'
        "metrics = false\n",
        AUTH="Bearer some-secret",
    )
    assert its == TelemetryConfig(
        otlp_endpoint=HERE,
        headers={"Authorization": Secret("Bearer some-secret")},
        service_name="mine",
        sample_ratio=0.25,
        export_interval=2.0,
        metrics=False,
    )


def test_the_environment_says_where_if_the_config_does_not():
    its = told(**ENDPOINT)
    assert its.otlp_endpoint == HERE
    config = attrs.evolve(
        Config.default(), telemetry=TelemetryConfig(otlp_endpoint="http://[::1]:1")
    )
    its = with_environment(config, ENDPOINT).telemetry
    assert its.otlp_endpoint == "http://[::1]:1"


def test_the_environments_headers_are_secrets_that_the_configs_go_before():
    environ = {**ENDPOINT, "OTEL_EXPORTER_OTLP_HEADERS": "a=b%20c, d=e,nonsense,Host=x"}
    assert told(**environ).headers == {"a": Secret("b c"), "d": Secret("e")}
    its = attrs.evolve(
        Config.default(),
        telemetry=TelemetryConfig(otlp_endpoint=HERE, headers={"a": Secret("mine")}),
    )
    headers = with_environment(its, environ).telemetry.headers
    assert headers == {"a": Secret("mine"), "d": Secret("e")}


@pytest.mark.parametrize(
    ("name", "value", "traces", "metrics"),
    [
        ("OTEL_TRACES_EXPORTER", "none", False, True),
        ("OTEL_METRICS_EXPORTER", "none", True, False),
        ("OTEL_TRACES_EXPORTER", "otlp", True, True),
    ],
)
def test_the_environment_switches_signals_off(name, value, traces, metrics):
    its = told(**ENDPOINT, **{name: value})
    assert (its.traces, its.metrics) == (traces, metrics)


def test_the_environment_switches_everything_off():
    config = attrs.evolve(
        Config.default(), telemetry=TelemetryConfig(otlp_endpoint=HERE)
    )
    its = with_environment(config, {"OTEL_SDK_DISABLED": "TRUE"}).telemetry
    assert not its.enabled


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://h"}, "another scheme"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:canary@h"}, "a password"),
    ],
)
def test_what_is_wrong_in_the_environment_is_warned_about_and_nothing_is_sent(
    environ, words
):
    config = with_environment(Config.default(), {**ENDPOINT, **environ})
    assert not config.telemetry.enabled
    [warning] = config.warnings
    assert words in warning
    assert "canary" not in warning


def test_without_the_extra_an_endpoint_in_the_config_is_refused(monkeypatch):
    monkeypatch.setattr(telemetry_rules, "find_spec", lambda _: None)
    text = complaint(f'[telemetry]\notlp_endpoint = "{HERE}"')
    assert "telemetry.otlp_endpoint" in text
    assert "pip install 'duckservice[otel]'" in text


def test_without_the_extra_an_endpoint_in_the_environment_is_warned_about(monkeypatch):
    monkeypatch.setattr(telemetry_rules, "find_spec", lambda _: None)
    config = with_environment(Config.default(), ENDPOINT)
    assert not config.telemetry.enabled
    [warning] = config.warnings
    assert "pip install 'duckservice[otel]'" in warning


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('otlp_endpoint = "ftp://h"', "another scheme"),
        ('otlp_endpoint = "127.0.0.1:4318"', "add http://"),
        ('otlp_endpoint = "http://u:p@h"', "a user or a password"),
        ('otlp_endpoint = "http://h/v1/traces"', "leave /v1/traces away"),
        ('otlp_endpoint = "http://h/otlp/v1/metrics/"', "leave /v1/metrics away"),
        ('otlp_endpoint = "http://h/v1/logs"', "leave /v1/logs away"),
        ("sample_ratio = 0", "above 0"),
        ("sample_ratio = 1.5", "1"),
        ('export_interval = "0s"', "export_interval"),
        ('headers = { Authorization = "Bearer canary" }', "literal key (not shown)"),
        ('headers = { Host = "env:A" }', "name of an HTTP header"),
        ('headers = { A = "env:A" }', "control or other characters"),
    ],
)
def test_what_makes_no_sense_is_refused(line, words):
    text = complaint(f"[telemetry]\n{line}", A="a\r\nb: c")
    assert words in text
    assert "canary" not in text


def test_a_base_may_have_a_path_of_its_own():
    its = read('[telemetry]\notlp_endpoint = "http://h/v1/traces/otlp/"')
    assert its.otlp_endpoint == "http://h/v1/traces/otlp"


def test_a_header_is_not_sent_in_clear_to_another_machine():
    table = '[telemetry]\nheaders = { A = "env:A" }\notlp_endpoint = '
    assert "https" in complaint(f'{table}"http://collector:4318"', A="secret")
    for endpoint in (HERE, "https://collector:4318"):
        assert read(f'{table}"{endpoint}"', A="secret").headers
    assert read('[telemetry]\notlp_endpoint = "http://collector:4318"').enabled


def test_a_header_with_an_empty_default_is_none():
    assert read('[telemetry]\nheaders = { A = "env:A:" }').headers == {}


def test_headers_are_redacted_with_and_without_their_scheme():
    its = TelemetryConfig(headers={"Authorization": Secret("Bearer some-secret")})
    found = {secret.reveal() for secret in secrets_of(Config(telemetry=its))}
    assert found == {"Bearer some-secret", "some-secret"}
    shown = Config(telemetry=its).redacted()["telemetry"]
    assert shown["headers"] == {"Authorization": "…"}
    assert "some-secret" not in repr(its)


def test_what_has_no_effect_is_warned_about():
    text = (
        f'[telemetry]\notlp_endpoint = "{HERE}"\ntraces = false\nsample_ratio = 0.1\n'
    )
    config = parse(text, file="config.toml", environ={})
    assert any("sample_ratio has no effect" in its for its in config.warnings)
    config = parse(f"{text}metrics = false", file="config.toml", environ={})
    assert any("otlp_endpoint has no effect" in its for its in config.warnings)


def test_a_change_needs_a_restart():
    old = Config.default()
    new = attrs.evolve(old, telemetry=TelemetryConfig(otlp_endpoint=HERE))
    assert changes(old, new).needs_restart == ("telemetry.otlp_endpoint",)
