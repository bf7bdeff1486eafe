"""How connections to a provider are made: whose certificates count, and through which proxy."""

from __future__ import annotations

import functools
import ssl
from typing import Final, final
from urllib.parse import urlsplit

import attrs
import httpx

from duckservice.config import CaFile, ProviderConfig, Proxy
from duckservice.loopback import is_loopback

CONTEXTS_KEPT_MAX: Final = 16


@final
@attrs.frozen(kw_only=True)
class WayOut:
    """The way from this machine to a provider, and to where its tokens come from."""

    ca_file: CaFile | None = None
    proxy: Proxy | None = None

    def proxy_to(self, url: str) -> Proxy | None:
        """Return what connections to *url* go through: nothing, on this machine.

        Raises `ValueError` for what would go through a proxy in clear.
        """
        parts = urlsplit(url)
        if self.proxy is None or is_loopback(parts.hostname or ""):
            return None
        if parts.scheme != "https":
            raise ValueError(
                f"{parts.scheme}://{parts.netloc} would be reached through a proxy over"
                " an unencrypted connection: use https://, or no proxy"
            )
        return self.proxy

    def ssl_context(self) -> ssl.SSLContext:
        """Return what verifies: certifi's list, and beside it the CA file."""
        return _ssl_context("" if self.ca_file is None else self.ca_file.pem)


DIRECT: Final = WayOut()
"""Where the config says nothing."""


def way_of(config: ProviderConfig) -> WayOut:
    """Return the way to the provider that *config* describes."""
    return WayOut(ca_file=config.ca_file, proxy=config.proxy)


@functools.lru_cache(maxsize=CONTEXTS_KEPT_MAX)
def _ssl_context(pem: str) -> ssl.SSLContext:
    # One for all clients: it takes 20 ms and some megabytes to build.
    context = httpx.create_ssl_context(verify=True, trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    if pem:
        context.load_verify_locations(cadata=pem)
        # A file may hold an intermediate CA alone; Python allows that from 3.13 on.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
