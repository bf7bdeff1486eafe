"""From a provider's keys, or its ``auth`` table, to its credentials."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import assert_never

import attrs

from duckservice.config import AuthConfig, ProviderConfig, Secret, keys_of
from duckservice.providers.auth import Credentials, entra, google
from duckservice.providers.auth.keys import Keys
from duckservice.providers.auth.oauth2 import ClientCredentials, RefreshToken
from duckservice.providers.auth.token_endpoint import TokenEndpoint
from duckservice.providers.auth.tokens import BearerTokens, TokenSource
from duckservice.providers.way_out import way_of


def credentials_of(
    config: ProviderConfig,
    *,
    key_header: str,
    made: Callable[[ProviderConfig], Credentials | None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Credentials | None:
    """Return what authenticates the provider's requests; None if nothing does.

    First comes what the adapter has *made* for it, then its keys, in *key_header*,
    then its ``auth`` table. Raises `ValueError` for what cannot be used.
    """
    if made is not None and (its := made(config)) is not None:
        return its
    if keys := keys_of(config):
        return Keys(config.name, keys, header=key_header)
    if config.auth is None:
        return None
    return token_credentials(config, config.auth, environ=environ)


def handed_over(
    old: Credentials | None,
    new: Credentials | None,
    *,
    before: ProviderConfig,
    now: ProviderConfig,
) -> Credentials | None:
    """Return *new*, which is of the config *now*, with what *old* knows of *before*.

    Keys keep their states, as `Keys.after` says. Tokens and signatures stay *old* where
    they would be made of the same: a refresh token that the server has replaced is known
    to *old* alone. With them stays the time limit for connecting to where tokens come from.
    Where the way there is another, *new* is used, and has the refresh token of *old*, which
    may be used on, by requests under way.
    """
    if isinstance(old, Keys) and isinstance(new, Keys):
        return new.after(old)
    if type(old) is not type(new) or _made_of(before) != _made_of(now):
        return new
    if way_of(before) == way_of(now):
        return old
    if isinstance(old, BearerTokens) and isinstance(new, BearerTokens):
        match old.source, new.source:
            case RefreshToken() as its, RefreshToken() as source:
                source.go_on_with(its.refresh_token)
            case _:
                pass
    return new


def _made_of(config: ProviderConfig) -> tuple[object, ...]:
    """Return what tokens and signatures are made of."""
    place = (config.base_url, config.region)
    return (config.name, config.adapter, config.auth, *place)


def token_credentials(
    config: ProviderConfig,
    auth: AuthConfig,
    *,
    environ: Mapping[str, str] | None = None,
) -> Credentials:
    """Return what *auth* says; for an adapter that has a default of its own."""
    environ = os.environ if environ is None else environ
    match auth.type:
        case "oauth2":
            return BearerTokens(_oauth2(config, auth, auth.token_url))
        case "google":
            return BearerTokens(
                google.GoogleTokens(
                    provider=config.name,
                    credentials_file=auth.credentials_file,
                    environ=environ,
                    scope=auth.scope or google.SCOPE,
                    connect=config.timeout.connect,
                    way=way_of(config),
                )
            )
        case "entra":
            return BearerTokens(_entra(config, auth))
        case "aws":
            msg = f"auth of type aws is for adapter bedrock, and not {config.adapter}"
            raise ValueError(msg)
        case _:
            assert_never(auth.type)


def _oauth2(config: ProviderConfig, auth: AuthConfig, url: str) -> TokenSource:
    endpoint = TokenEndpoint(
        provider=config.name,
        url=url,
        secrets=[secret.reveal() for secret in auth.secrets()],
        connect=config.timeout.connect,
        way=way_of(config),
    )
    if auth.refresh_token is not None:
        return RefreshToken(
            endpoint=endpoint,
            client_id=auth.client_id,
            client_secret=auth.client_secret,
            refresh_token=auth.refresh_token,
            scope=auth.scope,
        )
    return ClientCredentials(
        endpoint=endpoint,
        client_id=auth.client_id,
        client_secret=auth.client_secret or Secret(""),
        scope=auth.scope,
        audience=auth.audience,
    )


def _entra(config: ProviderConfig, auth: AuthConfig) -> TokenSource:
    scope = auth.scope or entra.SCOPE
    if auth.client_secret is None:
        return entra.DefaultEntraTokens(provider=config.name, scope=scope)
    url = auth.token_url or entra.token_url(auth.tenant_id)
    return _oauth2(config, attrs.evolve(auth, scope=scope), url)
