"""What the standard ``OTEL_*`` variables say, where the config leaves it open; pure.

    OTEL_EXPORTER_OTLP_ENDPOINT    the endpoint
    OTEL_EXPORTER_OTLP_HEADERS     more headers: name=value,name=value, URL-encoded
    OTEL_TRACES_EXPORTER=none      no traces
    OTEL_METRICS_EXPORTER=none     no metrics
    OTEL_SDK_DISABLED=true         nothing at all

All others are read by the SDK itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

import attrs

from duckservice.config import BaseUrl, Config, HeaderName, Secret, TelemetryConfig

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
HEADERS: Final = "OTEL_EXPORTER_OTLP_HEADERS"
PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
DISABLED: Final = "OTEL_SDK_DISABLED"
OUR_PROTOCOL: Final = "http/protobuf"


def with_environment(config: Config, environ: Mapping[str, str]) -> Config:
    """Return *config* with what *environ* says of telemetry.

    The environment may be that of all programs here: what is wrong in it, or needs
    what is not installed, is warned about, and nothing is sent.
    """
    its = config.telemetry
    if environ.get(DISABLED, "").strip().lower() == "true":
        return _with(config, attrs.evolve(its, otlp_endpoint=""))
    if not its.otlp_endpoint:
        endpoint, warning = _endpoint(environ)
        if warning:
            config = attrs.evolve(config, warnings=(*config.warnings, warning))
        its = attrs.evolve(its, otlp_endpoint=endpoint)
    if not its.otlp_endpoint:
        return config
    its = attrs.evolve(
        its,
        headers={**dict(_headers(environ.get(HEADERS, ""))), **its.headers},
        traces=its.traces and environ.get("OTEL_TRACES_EXPORTER", "") != "none",
        metrics=its.metrics and environ.get("OTEL_METRICS_EXPORTER", "") != "none",
    )
    return _with(config, its)


def _with(config: Config, telemetry: TelemetryConfig) -> Config:
    return attrs.evolve(config, telemetry=telemetry)


def _endpoint(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the endpoint, and a warning where there is one that is of no use."""
    # Here, as whoever sets no such variable need not pay for what reads config files.
    from duckservice.config_toml.refused import Refused  # noqa: PLC0415
    from duckservice.config_toml.scalars import base_url  # noqa: PLC0415
    from duckservice.config_toml.telemetry_rules import EXTRA, is_installed  # noqa: PLC0415

    text = environ.get(ENDPOINT, "").strip()
    if not text:
        return "", ""
    sent = "no traces and metrics are sent"
    protocol = environ.get(PROTOCOL, "").strip() or OUR_PROTOCOL
    if protocol != OUR_PROTOCOL:
        return "", f"{PROTOCOL} is not {OUR_PROTOCOL}, which is all there is: {sent}"
    try:
        endpoint = base_url(BaseUrl(), text)
    except Refused as error:
        return "", f"{ENDPOINT} is {error.found}: {sent}"
    if not is_installed():
        return "", f"{ENDPOINT} is set, but {sent} without {EXTRA}"
    return endpoint, ""


def _headers(text: str) -> Iterator[tuple[str, Secret]]:
    """Yield the headers in *text*; what is none is left out, and not shown."""
    from duckservice.config_toml.refused import Refused  # noqa: PLC0415 - as above
    from duckservice.config_toml.scalars import header_name  # noqa: PLC0415 - as above

    for pair in text.split(","):
        name, equals, value = pair.partition("=")
        plain = unquote(value.strip())
        try:
            checked = header_name(HeaderName(), name.strip())
        except Refused:
            continue
        if equals and plain and plain.isascii() and plain.isprintable():
            yield checked, Secret(plain)
