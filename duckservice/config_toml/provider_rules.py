"""What concerns several keys of a provider at once: where it is, and how it is shown who asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from duckservice.config import (
    AdapterName,
    AuthConfig,
    AuthType,
    ProviderConfig,
    keys_of,
)
from duckservice.config_toml.refused import Refused, one_of, quoted
from duckservice.loopback import is_loopback

Rule: TypeAlias = tuple[frozenset[str], Callable[[Any], Iterator[Refused]]]
"""The keys that it looks at, and the rule."""


def endpoint(provider: ProviderConfig) -> Iterator[Refused]:
    """Refuse a provider of which nobody can tell where it is."""
    if provider.adapter == "openai-compatible" and not provider.base_url:
        yield Refused(
            "nothing",
            "the endpoint's URL, which adapter openai-compatible needs",
            hint='such as "http://127.0.0.1:11434/v1"',
            key=("base_url",),
        )
    if provider.adapter == "azure" and not provider.base_url:
        yield Refused(
            "nothing",
            "the resource's URL, which adapter azure needs",
            hint='such as "https://NAME.openai.azure.com"',
            key=("base_url",),
        )
    if provider.adapter == "bedrock" and not _knows_region(provider):
        yield Refused(
            "nothing",
            "the AWS region, which adapter bedrock needs (or $AWS_REGION)",
            hint='such as "eu-central-1"',
            key=("region",),
        )
    if provider.adapter == "vertex" and not (provider.project or keys_of(provider)):
        yield Refused(
            "nothing",
            "the Google Cloud project, which adapter vertex needs without an api_key",
            key=("project",),
        )


def _knows_region(provider: ProviderConfig) -> bool:
    named = any(os.environ.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
    return bool(provider.region or provider.base_url) or named


def privacy(provider: ProviderConfig) -> Iterator[Refused]:
    """Refuse to send a key, a token or a signature in clear to another machine."""
    proves = provider.auth is not None or keys_of(provider)
    if proves and not _is_private(provider.base_url):
        yield Refused(
            "http to another machine, with a key",
            "https, or a loopback address, so that the key is not sent in clear",
            key=("base_url",),
        )


def way_out(provider: ProviderConfig) -> Iterator[Refused]:
    """Refuse a proxy for what would go through it in clear, and is no tunnel."""
    if provider.proxy is not None and not _is_private(provider.base_url):
        yield Refused(
            "http to another machine, through a proxy",
            "https: a proxy is only asked for tunnels, in which it reads nothing",
            hint="leave out proxy for a server in your own network",
            key=("base_url",),
        )


_ADAPTERS_OF: Final[Mapping[str, frozenset[AdapterName]]] = {
    "api_version": frozenset({"azure", "anthropic"}),
    "organization": frozenset({"openai"}),
    "project": frozenset({"openai", "vertex"}),
    "location": frozenset({"vertex"}),
    "region": frozenset({"bedrock"}),
}
"""Which adapters a key means something to; to the others it is a mistake."""


_OTHER_FORMATS: Final[frozenset[AdapterName]] = frozenset(
    {"anthropic", "gemini", "vertex", "bedrock", "cohere", "ollama", "mock"}
)
"""These speak neither of OpenAI's two APIs."""


def adapters(provider: ProviderConfig) -> Iterator[Refused]:
    """Refuse keys that mean nothing to the provider's adapter."""
    for key, names in _ADAPTERS_OF.items():
        value = getattr(provider, key)
        if value and provider.adapter not in names:
            only = " and ".join(sorted(names))
            yield Refused(
                f"{quoted(value)}, with adapter {provider.adapter}",
                f"nothing: it is for adapter {only}",
                key=(key,),
            )
    if provider.api == "responses" and provider.adapter in _OTHER_FORMATS:
        yield Refused(
            f"{quoted(provider.api)}, with adapter {provider.adapter}",
            '"chat": this adapter speaks a format of its own',
            key=("api",),
        )
    if provider.adapter == "mock":
        for key in ("api_keys", "auth"):
            if getattr(provider, key):
                yield Refused(
                    "a value, with adapter mock",
                    "nothing: the mock provider asks for no key",
                    key=(key,),
                )
        for key in ("ca_file", "proxy"):
            if getattr(provider, key) is not None:
                yield Refused(
                    "a value, with adapter mock",
                    "nothing: the mock provider connects to nobody",
                    key=(key,),
                )


_ADAPTERS_WITH: Final[Mapping[AuthType, frozenset[AdapterName]]] = {
    "google": frozenset({"vertex", "gemini", "openai-compatible"}),
    "entra": frozenset({"azure", "openai-compatible"}),
    "aws": frozenset({"bedrock"}),
}


def authentication(provider: ProviderConfig) -> Iterator[Refused]:
    """Refuse an auth table that is of no use beside the provider's other keys."""
    auth = provider.auth
    if auth is None:
        return
    if keys_of(provider):
        yield Refused(
            "a table, beside api_key or api_keys",
            "one of them: with a key, no token is ever asked for",
            key=("auth",),
        )
    names = _ADAPTERS_WITH.get(auth.type)
    if names is not None and provider.adapter not in names:
        yield Refused(
            f"{quoted(auth.type)}, with adapter {provider.adapter}",
            f'"oauth2": {auth.type} is for adapter {" and ".join(sorted(names))}',
            key=("auth", "type"),
        )


_KEYS_OF: Final[Mapping[AuthType, tuple[frozenset[str], frozenset[str]]]] = {
    "oauth2": (
        frozenset({"token_url", "client_id"}),
        frozenset({"client_secret", "refresh_token", "scope", "audience"}),
    ),
    "google": (frozenset(), frozenset({"credentials_file", "scope"})),
    "entra": (
        frozenset(),
        frozenset({"tenant_id", "client_id", "client_secret", "scope", "token_url"}),
    ),
    "aws": (
        frozenset(),
        frozenset({"profile", "access_key_id", "secret_access_key", "session_token"}),
    ),
}
"""What each type of authentication needs, and what else it may have."""


def auth_missing(auth: AuthConfig) -> Iterator[Refused]:
    """Refuse an auth table without what its type needs."""
    for key in sorted(_KEYS_OF[auth.type][0]):
        if not getattr(auth, key):
            yield Refused("nothing", f"a value, which {auth.type} needs", key=(key,))


def auth_foreign(auth: AuthConfig) -> Iterator[Refused]:
    """Refuse what does not belong to the type of authentication."""
    needed, optional = _KEYS_OF[auth.type]
    every = {key for kinds in _KEYS_OF.values() for kind in kinds for key in kind}
    for key in sorted(every - needed - optional):
        if getattr(auth, key):
            yield Refused(
                f"a value, with type {auth.type}",
                one_of(sorted(needed | optional)),
                key=(key,),
            )


def auth_privacy(auth: AuthConfig) -> Iterator[Refused]:
    """Refuse to send a secret in clear to another machine."""
    if not _is_private(auth.token_url):
        yield Refused(
            "http to another machine, with a secret",
            "https, or a loopback address, so that no secret is sent in clear",
            key=("token_url",),
        )


def auth_together(auth: AuthConfig) -> Iterator[Refused]:
    """Refuse halves: an id without its secret, or the other way about."""
    match auth.type:
        case "oauth2":
            if auth.client_secret is None and auth.refresh_token is None:
                yield Refused(
                    "nothing",
                    "the client's secret, or a refresh_token",
                    key=("client_secret",),
                )
        case "entra":
            yield from _whole(auth, ("tenant_id", "client_id", "client_secret"))
            if auth.token_url and auth.client_secret is None:
                yield Refused(
                    "a value, without client_secret",
                    "nothing: azure-identity knows where to ask",
                    key=("token_url",),
                )
        case "aws":
            yield from _whole(auth, ("access_key_id", "secret_access_key"))
            if auth.session_token is not None and auth.access_key_id is None:
                yield Refused(
                    "a value, without access_key_id",
                    "the keys that the token is for as well",
                    key=("session_token",),
                )
            if auth.profile and auth.access_key_id is not None:
                yield Refused(
                    "a value, beside access_key_id",
                    "one of them: a profile has its own keys",
                    key=("profile",),
                )
        case _:
            pass


def _whole(auth: AuthConfig, keys: tuple[str, ...]) -> Iterator[Refused]:
    missing = [key for key in keys if not getattr(auth, key)]
    if len(missing) == len(keys):
        return
    for key in missing:
        yield Refused("nothing", f"a value: {', '.join(keys)} go together", key=(key,))


_LIBRARIES: Final[Mapping[AuthType, tuple[str, str]]] = {
    "google": ("google.auth", "gcp"),
    "entra": ("azure.identity", "azure"),
    "aws": ("botocore", "aws"),
}
"""What a type of authentication needs: a module, and the extra that has it."""


def extras(auth: AuthConfig) -> Iterator[Refused]:
    """Refuse a login for which a library is not installed."""
    if auth.type == "entra" and auth.client_secret is not None:
        return  # plain OAuth 2
    yield from _library(auth.type, ("type",))


_LOGINS: Final[Mapping[AdapterName, AuthType]] = {"vertex": "google", "bedrock": "aws"}
"""How they are authenticated where the config says nothing."""


def default_login(provider: ProviderConfig) -> Iterator[Refused]:
    """Refuse to log in as the machine does without the library that knows how."""
    kind = _LOGINS.get(provider.adapter)
    if kind is None or provider.auth is not None or keys_of(provider):
        return
    has_header = any(name.lower() == "authorization" for name in provider.headers)
    # AWS's own variable for a key of Bedrock's, which the adapter takes from there.
    has_variable = kind == "aws" and "AWS_BEARER_TOKEN_BEDROCK" in os.environ
    if not has_header and not has_variable:
        yield from _library(kind, ("auth",))


def _library(kind: AuthType, key: tuple[str, ...]) -> Iterator[Refused]:
    module, extra = _LIBRARIES.get(kind, ("", ""))
    if module and not _is_installed(module):
        yield Refused(
            f"{quoted(kind)} as the way to log in, and {module} is not installed",
            f"an api_key, or the extra {extra}",
            hint=f"pip install 'duckservice[{extra}]'",
            key=key,
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _is_private(url: str) -> bool:
    """Say whether nobody can listen in on the way to *url*."""
    parts = urlsplit(url)
    return parts.scheme != "http" or is_loopback(parts.hostname or "")


_TOGETHER: Final = frozenset(
    {
        "type",
        "token_url",
        "tenant_id",
        "client_id",
        "client_secret",
        "refresh_token",
        "profile",
        "access_key_id",
        "secret_access_key",
        "session_token",
    }
)

RULES: Final[Mapping[type, tuple[Rule, ...]]] = {
    AuthConfig: (
        (frozenset({"type", "token_url", "client_id"}), auth_missing),
        (frozenset({"type"}), auth_foreign),
        (frozenset({"token_url"}), auth_privacy),
        (_TOGETHER, auth_together),
        (frozenset({"type", "client_secret"}), extras),
    ),
    ProviderConfig: (
        (frozenset({"adapter", "base_url", "region", "project"}), endpoint),
        (frozenset({"api_key", "api_keys", "auth", "base_url"}), privacy),
        (frozenset({"proxy", "base_url"}), way_out),
        (
            frozenset(
                {
                    "adapter",
                    "api",
                    *_ADAPTERS_OF,
                    "api_keys",
                    "auth",
                    "ca_file",
                    "proxy",
                }
            ),
            adapters,
        ),
        (frozenset({"adapter", "auth", "api_key", "api_keys"}), authentication),
        (
            frozenset({"adapter", "auth", "api_key", "api_keys", "headers"}),
            default_login,
        ),
    ),
}
