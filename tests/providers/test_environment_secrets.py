"""Secrets that no config names, but the environment: nobody sees them either."""

from __future__ import annotations

import io
import json

import pytest
import structlog

from duckservice import log
from duckservice.config import LogConfig, ProviderConfig, Secret
from duckservice.errors import DuckError, ProviderAuthError
from duckservice.providers.auth.aws import AwsCredentials
from duckservice.providers.auth.entra import DefaultEntraTokens
from duckservice.providers.auth.google import GoogleTokens
from duckservice.providers.catalog import make_provider
from duckservice.providers.redaction import MASK
from duckservice.redaction import environment_secrets, redact, register_environment
from tests.providers.bedrock import NOVA, ask
from tests.upstream import answer, open_upstream

# None is shaped like a key: only who knows them can find them.
CANARIES = {
    "AWS_BEARER_TOKEN_BEDROCK": "canary-bedrock-51d0c7a2",
    "AWS_SECRET_ACCESS_KEY": "canary/aws+secret/51d0c7a2",
    "AWS_SESSION_TOKEN": "canary-session-51d0c7a2",
    "AWS_ACCESS_KEY": "canary-older-name-51d0c7a2",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN": "canary-container-51d0c7a2",
    "AZURE_CLIENT_SECRET": "canary-entra-51d0c7a2",
    "AZURE_PASSWORD": "canary-password-51d0c7a2",
    "AZURE_CLIENT_CERTIFICATE_PASSWORD": "canary-certificate-51d0c7a2",
    "IDENTITY_HEADER": "canary-identity-51d0c7a2",
    "MSI_SECRET": "canary-msi-51d0c7a2",
    "GOOGLE_API_KEY": "canary-google-51d0c7a2",
}
PLAIN = {
    "AWS_REGION": "eu-central-1",
    "AWS_PROFILE": "production",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/token",
    "AZURE_AUTHORITY_HOST": "login.example.org",
    "AZURE_TENANT_ID": "tenant-of-the-ducks",
    "AZURE_FEDERATED_TOKEN_FILE": "/var/run/secrets/azure",
    "GOOGLE_APPLICATION_CREDENTIALS": "/home/duck/google.json",
    "HOME": "/home/duck-of-the-house",
    "MY_SECRET": "of-another-program",
}


def test_the_clouds_own_variables_are_known_by_their_names():
    found = {secret.reveal() for secret in environment_secrets(CANARIES | PLAIN)}
    assert found == set(CANARIES.values())


@pytest.mark.parametrize("name", CANARIES)
def test_a_line_of_the_log_has_none_of_them(name):
    register_environment({name: CANARIES[name]})
    written = io.StringIO()
    log.setup(LogConfig(format="json"), written)
    error = ValueError(f"refused: {CANARIES[name]}")
    structlog.get_logger().warning("x", said=f"<{CANARIES[name]}>", exc_info=error)
    assert CANARIES[name] not in written.getvalue()
    assert json.loads(written.getvalue())["said"] == "<…>"
    assert redact(CANARIES[name]) == "…"


def test_other_variables_stay_readable_in_the_log():
    register_environment(PLAIN)
    for value in PLAIN.values():
        assert redact(value) == value


async def test_an_upstream_that_echoes_bedrocks_token_shows_it_to_nobody(monkeypatch):
    token = CANARIES["AWS_BEARER_TOKEN_BEDROCK"]
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", token)
    echo = json.dumps({"message": f"no right for {token} nor {token[:14]}"}).encode()
    async with open_upstream([[answer(echo, status=b"400 Bad")]]) as upstream:
        provider = make_provider(
            ProviderConfig(
                name="duck",
                adapter="bedrock",
                base_url=upstream.base_url,
                region="eu-central-1",
            )
        )
        with pytest.raises(DuckError) as caught:
            await provider.complete(ask(model=NOVA))
        await provider.aclose()
    assert upstream.requests[0].header("authorization") == f"Bearer {token}"
    assert MASK in caught.value.message
    assert token[:14] not in caught.value.message


async def test_an_upstream_that_echoes_a_session_token_shows_it_to_nobody(monkeypatch):
    pytest.importorskip("botocore")
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, CANARIES[name])
    token = CANARIES["AWS_SESSION_TOKEN"]
    echo = json.dumps({"message": f"the token {token} is not valid"}).encode()
    async with open_upstream([[answer(echo, status=b"400 Bad")]]) as upstream:
        provider = make_provider(
            ProviderConfig(
                name="duck",
                adapter="bedrock",
                base_url=upstream.base_url,
                region="eu-central-1",
            )
        )
        with pytest.raises(DuckError) as caught:
            await provider.complete(ask(model=NOVA))
        await provider.aclose()
    assert upstream.requests[0].header("x-amz-security-token") == token
    assert MASK in caught.value.message
    assert token not in caught.value.message


async def test_a_login_library_that_quotes_the_environment_is_redacted(monkeypatch):
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)

    def quotes():
        raise ValueError(" ".join(CANARIES.values())[:250])

    with pytest.raises(ProviderAuthError) as caught:
        await DefaultEntraTokens(provider="duck", make=quotes).fetch()
    assert MASK in caught.value.message
    assert "canary" not in caught.value.message


async def test_a_login_library_that_quotes_the_configs_keys_is_redacted(monkeypatch):
    keys = AwsCredentials(
        provider="duck",
        region="eu-central-1",
        access_key_id=Secret("AKIDEXAMPLE-51d0c7a2"),
        secret_access_key=Secret("canary-of-config-51d0c7a2"),
    )

    def quotes(*_):
        raise ValueError("not canary-of-config-51d0c7a2")

    monkeypatch.setattr(AwsCredentials, "_find", quotes)
    with pytest.raises(ProviderAuthError) as caught:
        await keys.headers("POST", "https://x.example/", b"")
    assert MASK in caught.value.message
    assert "canary" not in caught.value.message


async def test_a_login_library_that_quotes_googles_file_is_redacted(
    tmp_path, monkeypatch
):
    pytest.importorskip("google.auth")
    file = tmp_path / "google.json"
    file.write_text(
        json.dumps({"type": "external", "client_secret": "canary-of-file-51d0c7a2"})
    )

    def quotes(*_, **__):
        raise ValueError("in the file: canary-of-file-51d0c7a2")

    monkeypatch.setattr("google.auth.load_credentials_from_file", quotes)
    tokens = GoogleTokens(provider="duck", credentials_file=file, environ={})
    with pytest.raises(ProviderAuthError) as caught:
        await tokens.fetch()
    assert MASK in caught.value.message
    assert "canary" not in caught.value.message
