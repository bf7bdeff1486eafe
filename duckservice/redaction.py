"""Takes secrets out of text: the registered ones, and whatever looks like a key."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote

from duckservice.config import Config, Secret, keys_of

MARK: Final = "…"

SECRET_CHARS_MIN: Final = 8
"""Shorter secrets are not looked for: dummies like "ollama" are words as well."""

_SHAPES = re.compile(
    r"\b(?:sk-[\w*-]{8,}|AIza[\w-]{20,}|gsk_\w{16,}|xai-[\w-]{16,}|hf_\w{16,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16})"
    r"|(?P<scheme>\bbearer\s+)[\w.~+/=*-]{6,}"
    r"|(?P<query>[?&](?:key|api[_-]key|access_token|token)=)[^&\s\"']+",
    re.IGNORECASE,
)
_TRACES: Final = (
    "sk-", "aiza", "gsk_", "xai-", "hf_", "akia", "asia", "bearer", "key=", "token="
)  # fmt: skip
"""One of these is in every text, in lower case, that `_SHAPES` matches."""

SECRET_NAME: Final = re.compile("auth|cookie|key|secret|token", re.IGNORECASE)
"""It is in the name of a header whose value is secret."""

_SECRET_VARIABLES: Final = re.compile(
    r"(?:AWS|AZURE|GOOGLE)_(?:\w+_)?"
    r"(?:KEY|SECRET|PASSWORD|TOKEN|BEARER_TOKEN_\w+|AUTHORIZATION_TOKEN)"
    r"|IDENTITY_HEADER|MSI_SECRET"  # of Azure's managed identities
)

_registered: set[str] = set()


def register_secret(secret: Secret) -> None:
    """Have *secret* redacted from now on: as it is, in base64 and URL-encoded."""
    value = secret.reveal()
    if len(value) >= SECRET_CHARS_MIN:
        _registered.update(_forms(value))


def register_config(config: Config) -> None:
    """Have all `secrets_of` *config* redacted."""
    for secret in secrets_of(config):
        register_secret(secret)


def register_environment(environ: Mapping[str, str]) -> None:
    """Have all `environment_secrets` of *environ* redacted."""
    for secret in environment_secrets(environ):
        register_secret(secret)


def environment_secrets(environ: Mapping[str, str]) -> Iterator[Secret]:
    """Yield what adapters and the clouds' libraries take from *environ* as secrets.

    No config names these variables: they are known by what AWS, Azure and Google call
    theirs. One that names a file (``..._FILE``) holds no secret.
    """
    for name, value in environ.items():
        if value and _SECRET_VARIABLES.fullmatch(name):
            yield Secret(value)


def secrets_of(config: Config) -> Iterator[Secret]:
    """Yield every secret in *config*, and what headers named like a key carry."""
    for provider in config.providers.values():
        yield from keys_of(provider)
        if provider.auth is not None:
            yield from provider.auth.secrets()
        if provider.proxy is not None:
            yield from provider.proxy.secrets()
        for name, value in provider.headers.items():
            if SECRET_NAME.search(name):
                yield Secret(value)
    for secret in config.telemetry.headers.values():
        yield from (secret, *map(Secret, secret.reveal().split()[1:]))


def masked(key: str) -> str:
    """Return what may be shown of *key*: enough to tell it from its neighbours."""
    return f"{MARK}{key[-4:]}" if len(key) >= 16 else MARK


def _forms(value: str) -> set[str]:
    raw = value.encode("utf-8", "surrogatepass")
    encoded = (base64.b64encode(raw), base64.urlsafe_b64encode(raw))
    return {value, quote(raw, safe=""), *(e.decode().rstrip("=") for e in encoded)}


def holds_secret(text: str) -> bool:
    """Say whether `redact` might change *text*; fast, and never wrongly False."""
    # In plain loops: every log line is asked, and generators would take twice as long.
    lower = text.lower()
    for trace in _TRACES:
        if trace in lower:
            return True
    for form in _registered:  # noqa: SIM110 - as above
        if form in text:
            return True
    return False


def redact(text: str) -> str:
    """Return *text* with every secret in it replaced by "…"."""
    if not holds_secret(text):
        return text
    for form in sorted(_registered, key=len, reverse=True):
        text = text.replace(form, MARK)
    return _SHAPES.sub(_marked, text)


def _marked(match: re.Match[str]) -> str:
    return (match["scheme"] or match["query"] or "") + MARK
