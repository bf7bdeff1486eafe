"""Which adapter, with which config, understands a recorded exchange."""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs

from duckservice.config import BASE_URLS, ProviderConfig, Secret, TimeoutConfig
from tests.recordings import Record

KEY = "canary-key-2b6f0d7c41e9a853"

OWN_API = {
    "anthropic": "anthropic.",
    "bedrock": "bedrock.",
    "cohere": "cohere.",
    "gemini": "gemini.",
    "ollama": "ollama.",
    "vertex": "",
}
"""Providers whose own format is not OpenAI's, with what their own APIs' names begin with."""

OPENAI_APIS = {
    "chat_completions",
    "responses",
    "responses.input_tokens",
    "embeddings",
    "images",
}

NOT_SPOKEN = {
    "anthropic.batches": "batches of a provider are not used: the daemon has its own",
    "batches": "batches of a provider are not used: the daemon has its own",
    "bedrock.invoke": "Bedrock's older API: Converse is spoken",
    "bedrock.models": "on another host than the models are",
    "cohere.v1_chat": "Cohere's older API: v2 is spoken",
    "completions": "OpenAI's older API of bare completions is not spoken",
    "oauth2.token": "no answer of a model; tests of authentication read it",
}


@attrs.frozen(kw_only=True)
class Setting:
    """An adapter's config, but for the address of its upstream."""

    adapter: str
    path: str
    """Of the base URL."""
    fields: tuple[tuple[str, str], ...] = ()

    def config(self, provider: str, origin: str) -> ProviderConfig:
        """Return the config of the adapter at the upstream *origin*."""
        seconds = 30.0
        fields: dict = dict(self.fields)
        if self.adapter not in ("ollama", "bedrock"):
            fields["api_key"] = Secret(KEY)
        if self.adapter == "bedrock":
            fields["api_key"] = Secret(KEY)
        return ProviderConfig(
            name=provider,
            adapter=self.adapter,  # type: ignore[arg-type]
            base_url=origin + self.path,
            timeout=TimeoutConfig(
                connect=seconds, first_byte=seconds, idle=seconds, total=seconds
            ),
            **fields,
        )


def setting_of(record: Record) -> Setting | str:
    """Return what understands *record*, or why nothing does."""
    if record.expected is None:
        return NOT_SPOKEN.get(record.api, "nothing says what is to be understood")
    if record.api in NOT_SPOKEN:
        return NOT_SPOKEN[record.api]
    own = OWN_API.get(record.provider)
    if own is not None and (record.api.startswith(own) or record.api == "models"):
        return _own(record)
    if record.provider == "ollama":
        return _speaking_openai(record, "ollama", "/v1")
    if record.provider in ("llamacpp", "openai_compat") or own is not None:
        return _speaking_openai(record, "openai-compatible", "/v1")
    return _speaking_openai(record, record.provider, None)


def _own(record: Record) -> Setting:
    fields: tuple[tuple[str, str], ...] = ()
    path = urlsplit(BASE_URLS.get(record.provider, "")).path  # type: ignore[call-overload]
    if record.provider == "vertex":
        fields = (("project", "PROJECT"), ("location", "us-central1"))
        path = "/v1"
    if record.provider == "bedrock":
        fields = (("region", "us-east-1"),)
    return Setting(adapter=record.provider, path=path, fields=fields)


def _speaking_openai(record: Record, adapter: str, path: str | None) -> Setting:
    fields: list[tuple[str, str]] = []
    if record.api in ("responses", "responses.input_tokens"):
        fields.append(("api", "responses"))
    if adapter == "azure":
        asked = urlsplit(record.request.get("url") or "")
        path = ""
        if "/deployments/" in asked.path:
            version = dict(
                pair.split("=", 1) for pair in asked.query.split("&") if "=" in pair
            ).get("api-version", "2024-10-21")
            fields.append(("api_version", version))
    elif path is None:
        path = urlsplit(BASE_URLS[adapter]).path  # type: ignore[index]
    return Setting(adapter=adapter, path=path, fields=tuple(fields))
