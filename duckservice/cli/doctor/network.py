"""What `duck doctor --network` looks at: whether each provider's host can be reached.

A name is looked up, and a connection opened and closed. No byte is sent, so no key is
used and nothing is billed; whether the key is taken, `duck providers check` asks. Where a
proxy is on the way, it is asked for the tunnel, with its login.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from duckservice.cli.doctor.finding import Finding

if TYPE_CHECKING:
    from duckservice.config import Config, ProviderConfig, Proxy

_SECONDS: Final = 5.0


def findings(config: Config) -> Iterator[Finding]:
    """Judge the way to each provider that has one."""
    for provider in config.providers.values():
        subject = f"network {provider.name}"
        if provider.adapter == "mock":
            yield Finding(subject, "skipped", "is in this process: it has no host")
            continue
        try:
            url = _base_url(provider)
        except (ValueError, ImportError) as error:
            yield Finding(
                subject, "failed", f"has no URL: {type(error).__name__}", "set base_url"
            )
            continue
        proxy = _proxy(provider, url)
        yield of_host(subject, url) if proxy is None else of_proxy(subject, url, proxy)


def _proxy(provider: ProviderConfig, url: str) -> Proxy | None:
    from duckservice.providers.way_out import way_of

    return way_of(provider).proxy_to(url)


def _base_url(provider: ProviderConfig) -> str:
    from duckservice.providers.adapters import adapter_of

    return adapter_of(provider.adapter).base_url(provider)


def of_host(
    subject: str,
    url: str,
    *,
    connect: Callable[..., socket.socket] = socket.create_connection,
) -> Finding:
    """Judge the way to the host in *url*."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        connect((host, port), _SECONDS).close()
    except socket.gaierror as error:
        return Finding(
            subject,
            "failed",
            f"{host}: the name cannot be looked up ({error.strerror})",
            "is base_url right, and does DNS work (getent hosts NAME)?",
        )
    except OSError as error:
        why = error.strerror or type(error).__name__
        return Finding(
            subject,
            "failed",
            f"{host}, port {port}: no connection ({why})",
            "does the host run, and does a firewall let duckd out?",
        )
    return Finding(subject, "ok", f"{host}, port {port}: takes connections")


def of_proxy(subject: str, url: str, proxy: Proxy) -> Finding:
    """Judge whether *proxy* makes a tunnel to the host in *url*; nothing goes through it."""
    from duckservice.providers import tunnel

    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    advice = "is proxy right in the config, its login too, and may it reach that host?"
    try:
        with socket.create_connection((proxy.host, proxy.port), _SECONDS) as wire:
            wire.sendall(tunnel.request(proxy, host, port))
            answer = b""
            while not tunnel.is_made(answer, proxy, host, port):
                data = wire.recv(4096)
                if not data:
                    raise tunnel.Denied(tunnel.CUT_OFF)
                answer += data
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        return Finding(subject, "failed", f"the proxy {proxy}: {why}", advice)
    detail = f"{host}, port {port}: the proxy {proxy} makes a tunnel"
    return Finding(subject, "ok", detail)
