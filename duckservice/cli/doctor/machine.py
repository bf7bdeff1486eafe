"""What `duck doctor` looks at of the machine: files, clock, proxies, extras, prices."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from duckservice.cli.doctor.finding import Finding
from duckservice.cli.text import count

if TYPE_CHECKING:
    from datetime import date

    from duckservice.config import Config

FILES_LEAST: Final = 2048
"""1,024 clients, as many connections to providers, and a few dozen of our own."""
PRICES_DAYS: Final = 120
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
_EXTRAS: Final = {
    "aws": "botocore",
    "azure": "azure.identity",
    "gcp": "google.auth",
    "otel": "opentelemetry.sdk",
}
_LOGINS: Final = {"aws": "aws", "entra": "azure", "google": "gcp"}


def findings(
    environ: Mapping[str, str], config: Config | None, pid: int | None
) -> Iterator[Finding]:
    """Judge what duckd finds on this machine; *pid* is the one that runs, if any."""
    yield _open_files(pid)
    yield of_clock(time.time(), Path(__file__).stat().st_mtime)
    yield of_proxies(environ, config)
    if config is not None:
        yield of_extras(config, environ)
        yield from _prices(config)


def _open_files(pid: int | None) -> Finding:
    if pid is None:
        return of_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0], "here")
    try:
        text = Path(f"/proc/{pid}/limits").read_text("ascii")
    except OSError as error:
        return Finding("open files", "skipped", f"process {pid}: {error.strerror}")
    line = next(its for its in text.splitlines() if its.startswith("Max open files"))
    soft = line.split()[3]
    limit = resource.RLIM_INFINITY if soft == "unlimited" else int(soft)
    return of_open_files(limit, "the daemon's")


def of_open_files(limit: int, whose: str) -> Finding:
    """Judge how many files may be open, of which each connection is one."""
    if limit == resource.RLIM_INFINITY:
        return Finding("open files", "ok", f"no limit ({whose})")
    told = f"{count(limit)} ({whose})"
    if limit >= FILES_LEAST:
        return Finding("open files", "ok", told)
    detail = f"{told}: less than 1,024 clients and their requests to providers take"
    advice = f"start duckd after `ulimit -n {FILES_LEAST}`, or with LimitNOFILE="
    return Finding("open files", "warning", detail, advice)


def of_clock(now: float, installed: float) -> Finding:
    """Judge the time of day: no certificate, and no budget, is good at a wrong one."""
    told = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"
    if now < installed - 86_400:
        detail = f"{told}, which is before this version was installed"
        return Finding("clock", "failed", detail, "set the clock (timedatectl)")
    return Finding("clock", "ok", told)


def of_proxies(environ: Mapping[str, str], config: Config | None) -> Finding:
    """Say what becomes of proxies that the environment names; their URLs stay secret."""
    named = sorted(name for name in environ if name.lower() in _PROXIES)
    if not named:
        return Finding("proxies", "ok", "the environment names none")
    detail = f"{', '.join(named)}: duckd does not use it for requests to providers"
    if config is not None and any(its.proxy for its in config.providers.values()):
        detail += "; the config names one"
    extras = sorted(_needed(config) & set(_LOGINS.values())) if config else []
    if extras:
        detail += f"; the login library of {', '.join(extras)} does, for its tokens"
    advice = f'where there is no way out without one: proxy = "env:{named[0]}"'
    return Finding("proxies", "warning", detail, advice)


def of_extras(config: Config, environ: Mapping[str, str]) -> Finding:
    """Judge whether the libraries are there that *config* needs to log in."""
    needed = _needed(config)
    if environ.get("AWS_BEARER_TOKEN_BEDROCK"):
        needed -= {"aws"}
    missing = sorted(extra for extra in needed if not _is_installed(_EXTRAS[extra]))
    if missing:
        detail = f"the config needs {', '.join(missing)}, which is not installed"
        advice = f"pip install 'duckservice[{','.join(missing)}]'"
        return Finding("extras", "failed", detail, advice)
    told = ", ".join(sorted(needed)) or "none"
    also = "; tokens are counted by tiktoken" if _is_installed("tiktoken") else ""
    return Finding("extras", "ok", f"needed, and there: {told}{also}")


def _needed(config: Config) -> set[str]:
    """Return the extras that *config* needs, most of them to log in to a provider."""
    from duckservice.config import keys_of

    needed: set[str] = {"otel"} if config.telemetry.enabled else set()
    for provider in config.providers.values():
        auth = provider.auth
        if auth is not None and not (auth.type == "entra" and auth.client_secret):
            needed |= {_LOGINS[auth.type]} if auth.type in _LOGINS else set()
        elif auth is None and not keys_of(provider) and not provider.headers:
            needed |= {"bedrock": {"aws"}, "vertex": {"gcp"}}.get(
                provider.adapter, set()
            )
    return needed


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def _prices(config: Config) -> Iterator[Finding]:
    providers = config.providers.values()
    if all(its.adapter == "mock" or its.price is not None for its in providers):
        return
    from duckservice.providers.price_list import price_list

    today = datetime.now(UTC).date()
    yield of_prices(price_list(today).as_of, today)


def of_prices(as_of: date | None, today: date) -> Finding:
    """Judge a price list by its age."""
    if as_of is None:
        return Finding("prices", "warning", "the list does not say how old it is")
    days = (today - as_of).days
    told = f"the list knows prices up to {as_of} ({days} days ago)"
    if days <= PRICES_DAYS:
        return Finding("prices", "ok", told)
    advice = "pip install --upgrade genai-prices, or set price in the config"
    return Finding("prices", "warning", told, advice)
