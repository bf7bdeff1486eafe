"""One OAuth 2 token endpoint: a form goes there, a token comes back.

its answer                                        what is raised
429                                               RateLimited
5xx, server_error, temporarily_unavailable        ProviderError, retryable
any other error (invalid_client, invalid_grant)   ProviderAuthError
no token, or not a bearer's, or no JSON           BadProviderResponse
no answer                                         as for every request
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import time
from typing import Final, final
from urllib.parse import urlencode, urlsplit

import attrs
import msgspec

from duckservice.config import TimeoutConfig
from duckservice.errors import (
    BadProviderResponse,
    DuckError,
    ProviderAuthError,
    ProviderError,
    RateLimited,
)
from duckservice.providers.auth.tokens import Token
from duckservice.providers.endpoint import Endpoint, check_header
from duckservice.providers.http import HttpClient, HttpLimits
from duckservice.providers.reading import UNREADABLE, mapping_or_empty, text_or
from duckservice.providers.redaction import Redactor, Secrets
from duckservice.providers.retry_after import retry_after
from duckservice.providers.way_out import DIRECT, WayOut

LIFETIME_DEFAULT: Final = 300.0
"""Seconds, for a token that does not say."""
LIFETIME_MAX: Final = 86_400.0
TOTAL: Final = 30.0
"""Seconds that a token may take."""
TOKEN_CHARACTERS_MAX: Final = 32_768
DESCRIPTION_CHARACTERS_MAX: Final = 300

_BODY_MAX: Final = 256 * 1024
_HEADERS: Final = {
    "accept": "application/json",
    "content-type": "application/x-www-form-urlencoded",
    "user-agent": "duckservice",
}
_PASSING: Final = {"server_error", "temporarily_unavailable", "slow_down"}


@attrs.frozen(kw_only=True)
class Grant:
    """What the endpoint gave."""

    token: Token
    refresh_token: str | None = attrs.field(default=None, repr=False)
    """For the next time, where it is another one."""


@final
class TokenEndpoint:
    """Where one provider's tokens come from. Many tasks may use it at once.

    Raises `ValueError`, free of secrets, for a URL that cannot be used, or over
    which secrets would go in clear.
    """

    def __init__(
        self,
        *,
        provider: str,
        url: str,
        secrets: Iterable[str],
        connect: float = 5.0,
        way: WayOut = DIRECT,
    ) -> None:
        origin = Endpoint(url, {}, authenticated=True).origin
        way.proxy_to(url)
        self._way = way
        parts = urlsplit(url)
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path or "/"
        self._provider = provider
        self._name = f"the token endpoint of {provider} ({origin})"
        self._secrets = Secrets(secrets)
        self._redact = Redactor(self._secrets)
        self._timeout = TimeoutConfig(
            connect=connect, first_byte=TOTAL, idle=TOTAL, total=TOTAL
        )

    def __repr__(self) -> str:
        return f"<{self._name}>"

    def mask(self, secret: str) -> None:
        """Keep *secret* out of errors as well."""
        self._secrets.learn(secret)

    async def exchange(self, form: Mapping[str, str]) -> Grant:
        """Send *form* and return what comes for it.

        Raises `DuckError` as above; none of them shows a secret.
        """
        # Tokens are fetched about once an hour: no connection is kept for that.
        http = HttpClient(
            provider=self._name,
            base_url=self._base,
            headers=_HEADERS,
            timeout=self._timeout,
            classify=self._refusal,
            secrets=self._secrets,
            way=self._way,
            limits=HttpLimits(body_bytes_max=_BODY_MAX, error_body_bytes_max=_BODY_MAX),
        )
        try:
            answer = await http.request(
                "POST", self._path, content=urlencode(form).encode()
            )
            return self._grant(answer.body)
        except DuckError as error:
            error.provider = self._provider
            raise
        finally:
            await http.aclose()  # noqa: ASYNC102 - it waits for nothing

    def _grant(self, body: bytes) -> Grant:
        answer = mapping_or_empty(_json(body))
        if "error" in answer:  # some send it with a 200
            raise self._error(200, answer, {})
        value = answer.get("access_token")
        kind = answer.get("token_type", "bearer")
        if not isinstance(value, str) or not value:
            raise self._bad("no access_token")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise self._bad("a token that is not a bearer's")
        if len(value) > TOKEN_CHARACTERS_MAX or not _is_sendable(value):
            raise self._bad("a token that no header can carry")
        return Grant(
            token=Token(value=value, lifetime=self._lifetime(answer.get("expires_in"))),
            refresh_token=text_or(answer.get("refresh_token"), "") or None,
        )

    def _lifetime(self, said: object) -> float:
        if said is None:
            return LIFETIME_DEFAULT
        if isinstance(said, str) and said.isascii() and said.isdigit():
            said = int(said[:18])  # some of Microsoft's say it as text
        if isinstance(said, bool) or not isinstance(said, int | float) or not said > 0:
            raise self._bad("an expires_in that is no number of seconds")
        return min(float(said), LIFETIME_MAX)

    def _refusal(
        self, status: int, headers: Mapping[str, str], body: bytes
    ) -> DuckError:
        return self._error(status, mapping_or_empty(_json(body)), headers)

    def _error(
        self, status: int, answer: Mapping[str, object], headers: Mapping[str, str]
    ) -> DuckError:
        word = text_or(answer.get("error"), "")
        said = ": ".join(
            filter(None, (word, text_or(answer.get("error_description"), "")))
        )
        said = " ".join(self._redact(said[:2000]).split())[:DESCRIPTION_CHARACTERS_MAX]
        said = "".join(c for c in said if c.isprintable()) or "no reason given"
        kind: type[ProviderError] = ProviderAuthError
        if status == 429:
            kind = RateLimited
        elif status >= 500 or word in _PASSING:
            kind = ProviderError
        error = kind(
            f"{self._name} gives no token: {status}: {said}",
            provider=self._provider,
            retry_after=retry_after(headers, time())
            if kind is not ProviderAuthError
            else None,
        )
        error.upstream_status = status
        return error

    def _bad(self, what: str) -> BadProviderResponse:
        return BadProviderResponse(f"{self._name} sent {what}", provider=self._provider)


def _json(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except UNREADABLE:
        return None


def _is_sendable(token: str) -> bool:
    try:
        check_header("authorization", f"Bearer {token}")
    except ValueError:
        return False
    return " " not in token
