"""Canary keys: one for each place of a config where a secret may stand, and a detector.

A canary is random text that nothing else holds, so whatever has twelve characters of
one, as they are, in base64 or URL-encoded, was given away.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

import attrs

from tests.upstream import RESET, Action, Request, Upstream, answer, chunked, head

PIECE: Final = 12


def canary(slot: str) -> str:
    """Return the secret of one place: 44 characters, some of which URLs escape."""
    return base64.b64encode(hashlib.sha256(slot.encode()).digest()).decode()


ENVIRON: Final = {
    name: canary(name)
    for name in (
        *("CANARY_API_KEY", "CANARY_LIST_KEY", "CANARY_OAUTH_SECRET"),
        *("CANARY_REFRESH", "CANARY_ENTRA", "CANARY_AWS_ID", "CANARY_AWS_SECRET"),
        *("CANARY_AWS_SESSION", "CANARY_GEMINI", "CANARY_AZURE", "CANARY_OTLP"),
    )
}
LITERALS: Final = {
    name: canary(name)
    for name in (
        *("literal key", "header token", "header cookie", "env default"),
        "proxy login",
    )
}
FILES: Final = {
    name: canary(name)
    for name in ("key.txt", "token.txt", "credentials/anthropic", "google refresh")
}
TOKENS: Final = {"issued": canary("issued by a token endpoint")}
"""What upstreams hand out; it is in no config, and as secret."""

ALL: Final[Mapping[str, str]] = {**ENVIRON, **LITERALS, **FILES, **TOKENS}


def _forms(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield quote(secret, safe="").encode()
    yield quote_plus(secret).encode()
    for shift in range(3):
        # Its base64 depends on where in the encoded text it stands. The characters
        # at both ends depend on its neighbours.
        encoded = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        inner = encoded[4 if shift else 0 : -2]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


_PIECES: Final = {
    form[start : start + PIECE]: name
    for name, secret in ALL.items()
    for form in _forms(secret)
    for start in range(len(form) - PIECE + 1)
}


def found_in(data: bytes) -> dict[str, bytes]:
    """Return the canaries that *data* gives away, each with some bytes around it."""
    pieces = {data[at : at + PIECE] for at in range(len(data) - PIECE + 1)}
    hits = dict[str, bytes]()
    for piece in pieces & _PIECES.keys():
        at = data.find(piece)
        hits[_PIECES[piece]] = data[max(0, at - 80) : at + 80]
    return hits


# The config.

PROVIDERS: Final = (
    *("keys", "claude", "oauth", "refresh", "entra", "google", "aws"),
    *("gemini", "azure", "spare"),
)


def write_secrets(folder: Path) -> None:
    """Write the files that the config names."""
    (folder / "credentials").mkdir()
    google = {
        "type": "authorized_user",
        "client_id": "me",
        "client_secret": FILES["google refresh"],
        "refresh_token": FILES["google refresh"],
        "token_uri": "TOKEN_URI",
    }
    texts = {name: FILES[name] for name in FILES if name != "google refresh"}
    for name, text in {**texts, "google.json": json.dumps(google)}.items():
        file = folder / name
        file.touch(0o600)
        file.write_text(text)


def config(folder: Path, url: str) -> str:
    """Return a config with a canary in each of its places; all providers are at *url*."""
    google = folder / "google.json"
    google.write_text(google.read_text().replace("TOKEN_URI", f"{url}/token"))
    return f"""
[service]
http = "127.0.0.1:0"
token_file = "{folder}/token.txt"
drain_grace = "1s"
[log]
level = "debug"
format = "json"
debug_bodies = true
[telemetry]
otlp_endpoint = "{url}"
headers = {{ Authorization = "env:CANARY_OTLP" }}
export_interval = "100ms"
[retry]
max_attempts = 2
base_delay = "1ms"
max_delay = "2ms"
[providers.keys]
adapter = "openai"
api_key = "env:CANARY_API_KEY"
api_keys = ["env:CANARY_LIST_KEY", "file:{folder}/key.txt", "{LITERALS["literal key"]}"]
headers = {{ "X-Secret-Token" = "{LITERALS["header token"]}", "Cookie" = "{LITERALS["header cookie"]}" }}
base_url = "{url}/v1"
models = ["keys-*"]
[providers.claude]
adapter = "anthropic"
api_key = "credential:anthropic"
base_url = "{url}"
models = ["claude-*"]
[providers.oauth]
adapter = "openai-compatible"
base_url = "{url}/v1"
models = ["oauth-*"]
auth = {{ type = "oauth2", token_url = "{url}/token", client_id = "me", client_secret = "env:CANARY_OAUTH_SECRET" }}
[providers.refresh]
adapter = "openai-compatible"
base_url = "{url}/v1"
models = ["refresh-*"]
auth = {{ type = "oauth2", token_url = "{url}/token", client_id = "me", client_secret = "env:CANARY_OAUTH_SECRET", refresh_token = "env:CANARY_REFRESH" }}
[providers.entra]
adapter = "azure"
base_url = "{url}"
models = ["entra-*"]
auth = {{ type = "entra", tenant_id = "t", client_id = "me", client_secret = "env:CANARY_ENTRA", token_url = "{url}/token" }}
[providers.google]
adapter = "vertex"
project = "p"
location = "europe-west4"
base_url = "{url}"
models = ["google-*"]
auth = {{ type = "google", credentials_file = "{google}" }}
[providers.aws]
adapter = "bedrock"
region = "eu-central-1"
base_url = "{url}"
models = ["aws-*"]
auth = {{ type = "aws", access_key_id = "env:CANARY_AWS_ID", secret_access_key = "env:CANARY_AWS_SECRET", session_token = "env:CANARY_AWS_SESSION" }}
[providers.gemini]
api_key = "env:CANARY_GEMINI"
base_url = "{url}/v1beta"
models = ["gemini-*"]
[providers.azure]
api_key = "env:CANARY_AZURE"
base_url = "{url}"
models = ["azure-*"]
[providers.spare]
adapter = "openai"
api_key = "env:NOT_SET:{LITERALS["env default"]}"
base_url = "{url}/v1"
models = ["spare-*"]
[providers.proxied]
adapter = "openai"
api_key = "env:CANARY_API_KEY"
base_url = "https://llm.invalid/v1"
models = ["proxied-*"]
proxy = "http://me:{quote(LITERALS["proxy login"], safe="")}@{url.partition("//")[2]}"
{_patient_breakers()}
"""


def _patient_breakers() -> str:
    # All faults are to reach all providers.
    return "\n".join(
        f"[providers.{name}.breaker]\nfailure_threshold = 100000"
        for name in (*PROVIDERS, "proxied")
    )


# The upstream.

FAULTS: Final = (
    *("good", "bad-request", "broken", "cut", "hang-up", "redirect", "garbage"),
    *("reason", "page", "overloaded", "limited", "refused", "forbidden"),
)
"""Those that put a key out of use come last."""


@attrs.define
class Echo:
    """A script for an upstream that says all that it was told, in every way.

    What it does is in the request: a model ``keys-fault-broken``, say.
    """

    elsewhere: str
    """Where its redirects lead to."""
    upstream: Upstream | None = None
    faults: set[tuple[str, str]] = attrs.field(factory=set)
    """Of which providers, and which."""
    tokens: int = 0
    tunnels: int = 0
    """That it was asked for, and did not make; all faults in turn."""
    exports: int = 0
    """Of telemetry; all faults in turn."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, number: int) -> list[Action]:
        assert self.upstream is not None
        request = self.upstream.requests[number]
        if request.line.startswith("CONNECT "):
            self.tunnels += 1
            fault = FAULTS[self.tunnels % len(FAULTS)]
            return _acts(
                "refused" if fault == "good" else fault, request, self.elsewhere
            )
        if request.line.startswith("POST /token"):
            self.tokens += 1
            return [_json(_token(request))]
        if request.line.startswith(("POST /v1/traces", "POST /v1/metrics")):
            self.exports += 1
            return _acts(FAULTS[self.exports % len(FAULTS)], request, self.elsewhere)
        found = re.search(rb"([a-z]+)-fault-([a-z-]+)", request.head + request.body)
        if found is None:
            return _acts("page", request, self.elsewhere)
        name, fault = found[1].decode(), found[2].decode()
        self.faults.add((name, fault))
        return _acts(fault, request, self.elsewhere)


def _told(request: Request) -> str:
    """Return what a request has told of its sender, whole, in part and encoded."""
    secrets = [
        line.partition(b":")[2].strip().decode("latin-1")
        for line in request.head.split(b"\r\n")[1:]
    ]
    secrets += [its.rpartition(" ")[2] for its in secrets if " " in its]
    forms = [form.decode() for its in secrets for form in _forms(its)]
    pieces = [its[:20] for its in secrets] + [its[-16:] for its in secrets]
    return " ".join([*secrets, *forms, *pieces])


def _whole(request: Request) -> str:
    """Return what a model could say: secrets as they are, and in base64."""
    told = [
        line.partition(b":")[2].strip().decode("latin-1").rpartition(" ")[2]
        for line in request.head.split(b"\r\n")[1:]
        if line.lower().startswith((b"authorization: bearer", b"x-api-key", b"api-key"))
    ]
    coded = [base64.b64encode(its.encode()).decode() for its in told]
    return " ".join(["quack", *told, *coded])


def _json(value: object, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    kind = b"content-type: application/json"
    return answer(json.dumps(value).encode(), kind, *headers, status=status)


def _token(request: Request) -> object:
    return {
        "access_token": TOKENS["issued"],
        "token_type": "Bearer",
        "expires_in": 3600,
        "echo": request.body.decode(),
    }


def _error(request: Request, status: bytes, *headers: bytes) -> list[Action]:
    told = _told(request)
    error = {"message": f"Incorrect API key provided: {told}", "code": told[:200]}
    echo = [
        b"x-request-id: " + told[:500].encode(),
        b"www-authenticate: Bearer realm=" + told[:500].encode(),
        *headers,
    ]
    return [
        _json({"error": {**error, "type": told, "param": told}}, *echo, status=status)
    ]


def _acts(fault: str, request: Request, elsewhere: str) -> list[Action]:
    if fault == "good":
        return _good(request)
    if fault in _ERRORS:
        return _error(request, _ERRORS[fault], b"retry-after: 0")
    return _breaks(fault, _told(request), elsewhere)


_ERRORS: Final = {
    "bad-request": b"400 Bad Request",
    "broken": b"500 Internal Server Error",
    "overloaded": b"503 Busy",
    "limited": b"429 Slow",
    "refused": b"401 Unauthorized",
    "forbidden": b"403 Forbidden",
}


def _breaks(fault: str, told: str, elsewhere: str) -> list[Action]:
    sse = b"content-type: text/event-stream"
    match fault:
        case "cut":
            event = json.dumps({"error": {"message": told, "type": told}})
            start = head(sse, b"transfer-encoding: chunked")
            data = chunked(f"event: error\ndata: {event}\n\n".encode(), end=False)
            return [start, data, RESET]
        case "hang-up":
            return [head(sse, b"content-length: 999999"), told.encode(), RESET]
        case "redirect":
            at = f"location: {elsewhere}/?key={ALL['CANARY_API_KEY']}&{told[:300]}"
            return [answer(told.encode(), at.encode(), status=b"307 Elsewhere")]
        case "garbage":
            return [b"HTTP/9 " + told.encode() + b"\r\n\r\n", RESET]
        case "reason":
            return [answer(b"", status=b"500 " + told[:1000].encode())]
        case _:
            page = f"<html><h1>502</h1><pre>{told}</pre></html>".encode()
            return [answer(page, b"content-type: text/html", status=b"502 Bad")]


def _good(request: Request) -> list[Action]:
    """Answer in OpenAI's or Anthropic's format; others take it for a broken answer."""
    text = _whole(request)
    if b"/v1/messages" in request.head:
        reply: object = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 9, "output_tokens": 3},
        }
        return [_json(reply)]
    if b'"stream":true' in request.body.replace(b" ", b""):
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop"}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1}
        event = json.dumps({**chunk, "model": "m", "choices": [choice]})
        data = f"data: {event}\n\ndata: [DONE]\n\n".encode()
        return [answer(data, b"content-type: text/event-stream")]
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return [_json({**reply, "choices": [choice], "usage": usage})]
