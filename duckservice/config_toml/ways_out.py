"""What a closed network needs: the URL of a proxy, and a file with certificates of its own."""

from __future__ import annotations

import os
import re
import ssl
import stat
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from duckservice.config import CaFile, Proxy, Secret
from duckservice.config_toml import scalars
from duckservice.config_toml.refused import Refused
from duckservice.config_toml.secrets import (
    STAND_IN,
    Sources,
    is_literal,
    refused_literal,
    resolve,
)
from duckservice.redaction import redact

CA_BYTES_MAX: Final = 1 << 20
_URL: Final = '"http://host:port", or "http://user:password@host:port" as a secret'
_CERTIFICATES: Final = "a PEM file with certificates (-----BEGIN CERTIFICATE-----)"
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,253}", re.ASCII)
_LOGIN_CHARS_MAX: Final = 1024


def proxy(sources: Sources, value: object) -> Proxy | None:
    """Return the proxy whose URL *value* is, or refers to; None for an empty default.

    Only its login is a secret: a URL without one may stand in any config.
    """
    if isinstance(value, str) and is_literal(value):
        if "@" in value and not sources.literal:
            raise refused_literal()
        return _proxy(value)
    secret = resolve(sources, value)
    if secret is None or secret.reveal().startswith(STAND_IN):
        return None  # which it is, only the daemon's environment can tell
    return _proxy(secret.reveal())


def _proxy(url: str) -> Proxy:
    """Return the proxy at *url*, which is never quoted: there may be a password in it."""
    parts = _split(url)
    if parts is None or not url.isascii() or not url.isprintable() or " " in url:
        raise Refused("a malformed URL (not shown)", _URL)
    for problem, present in (
        ("a URL of another scheme (not shown)", parts.scheme != "http"),
        ("a URL without a host (not shown)", not parts.hostname),
        ("a URL without a port (not shown)", not parts.port),
        ("a URL with more than host and port (not shown)", _has_more(parts, url)),
        ("a URL with a malformed host (not shown)", not _is_host(parts)),
    ):
        if present:
            raise Refused(problem, _URL)
    assert parts.hostname is not None
    assert parts.port is not None
    return Proxy(host=parts.hostname, port=parts.port, login=_login(parts))


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # is parsed only when it is asked for
    except ValueError:
        return None
    return parts


def _has_more(parts: SplitResult, url: str) -> bool:
    return parts.path not in ("", "/") or "?" in url or "#" in url


def _is_host(parts: SplitResult) -> bool:
    return _HOST.fullmatch(parts.hostname or "") is not None


def _login(parts: SplitResult) -> Secret | None:
    if parts.username is None:
        return None
    user, password = unquote(parts.username), unquote(parts.password or "")
    login = f"{user}:{password}"
    if not user or ":" in user or not login.isprintable():
        problem = "a URL whose user or password no header can carry (not shown)"
        raise Refused(problem, _URL)
    if len(login) > _LOGIN_CHARS_MAX:
        raise Refused("a URL with a longer login (not shown)", _URL)
    return Secret(login)


def ca_file(value: Any) -> CaFile:
    """Return the certificates in the file that *value* names."""
    path = scalars.path(value)
    where = redact(str(path))
    try:
        content = _content(path.expanduser())
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "there is no home"
        problem = f"{where}, which cannot be read ({reason})"
        raise Refused(problem, _CERTIFICATES) from None
    if content is None:
        raise Refused(f"{where}, which is not a regular file", _CERTIFICATES)
    if len(content) > CA_BYTES_MAX:
        raise Refused(f"{where}, a larger file", f"at most {CA_BYTES_MAX >> 20} MiB")
    # Bundles have the names of their CAs between the certificates, in any language.
    pem = content.decode("ascii", errors="ignore")
    if not _holds_certificates(pem):
        problem = f"{where}, {_what_it_is(content)}"
        raise Refused(problem, _CERTIFICATES, hint=_hint(content))
    return CaFile(path=path, pem=pem)


def _content(path: Path) -> bytes | None:
    """Return what is in a regular file, no more than one byte too much."""
    # Without O_NONBLOCK, a FIFO would hold the start up for ever.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        is_regular = stat.S_ISREG(os.fstat(fd).st_mode)
        return os.read(fd, CA_BYTES_MAX + 1) if is_regular else None
    finally:
        os.close(fd)


def _holds_certificates(pem: str) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        return False
    return context.cert_store_stats()["x509"] > 0


def _what_it_is(content: bytes) -> str:
    if b"-----BEGIN CERTIFICATE-----" in content:
        return "with a certificate that cannot be read"
    return "which holds no certificate in PEM"


def _hint(content: bytes) -> str:
    is_der = content[:1] == b"\x30"
    return "openssl x509 -inform der -in FILE -out FILE.pem" if is_der else ""
