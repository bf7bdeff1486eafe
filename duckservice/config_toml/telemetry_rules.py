"""What concerns several keys of [telemetry] at once, and what they need installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit

from duckservice.config import TelemetryConfig
from duckservice.config_toml.provider_rules import Rule
from duckservice.config_toml.refused import Refused, quoted
from duckservice.loopback import is_loopback

EXTRA: Final = "pip install 'duckservice[otel]'"

_SIGNALS: Final = ("/v1/traces", "/v1/metrics", "/v1/logs")
_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http"


def is_installed() -> bool:
    """Say whether the packages of the extra are there; none of them is run."""
    try:
        return (
            find_spec(_EXPORTER) is not None
            and find_spec("opentelemetry.sdk") is not None
        )
    except ModuleNotFoundError:  # of the packages around it
        return False


def _installed(telemetry: TelemetryConfig) -> Iterator[Refused]:
    if telemetry.enabled and not is_installed():
        yield Refused(
            f"{quoted(telemetry.otlp_endpoint)} (a string), and opentelemetry is not"
            " installed",
            "an endpoint with the extra otel, or none",
            hint=EXTRA,
            key=("otlp_endpoint",),
        )


def _private(telemetry: TelemetryConfig) -> Iterator[Refused]:
    parts = urlsplit(telemetry.otlp_endpoint)
    in_clear = parts.scheme == "http" and not is_loopback(parts.hostname or "")
    if telemetry.headers and in_clear:
        yield Refused(
            "http to another machine, with headers",
            "https, or a loopback address, so that no secret is sent in clear",
            key=("otlp_endpoint",),
        )


def _is_base(telemetry: TelemetryConfig) -> Iterator[Refused]:
    """Refuse the address of one signal: the exporter puts its path behind the base."""
    parts = urlsplit(telemetry.otlp_endpoint)
    path = next((path for path in _SIGNALS if parts.path.endswith(path)), None)
    if path is not None:
        yield Refused(
            f"the address of one signal, which ends with {path}",
            "the base that all signals have",
            hint=f"leave {path} away: duckd puts it there",
            key=("otlp_endpoint",),
        )


def telemetry_warnings(telemetry: TelemetryConfig) -> Iterator[str]:
    """Yield what is accepted in the table, but does nothing."""
    if telemetry.otlp_endpoint and not telemetry.enabled:
        yield "telemetry.otlp_endpoint has no effect without telemetry.traces or metrics"
    if telemetry.sample_ratio is not None and not telemetry.traces:
        yield "telemetry.sample_ratio has no effect with telemetry.traces = false"


RULES: Final[Mapping[type, tuple[Rule, ...]]] = {
    TelemetryConfig: (
        (frozenset({"otlp_endpoint", "traces", "metrics"}), _installed),
        (frozenset({"otlp_endpoint", "headers"}), _private),
        (frozenset({"otlp_endpoint"}), _is_base),
    ),
}
