"""Google's tokens: of a service account, of a user, or of the machine.

    credentials file, else $GOOGLE_APPLICATION_CREDENTIALS, else gcloud's own file:
        service_account    a JWT signed by google-auth, exchanged by us (RFC 7523)
        authorized_user    its refresh token, exchanged by us
        anything else      google-auth does all of it (workload identity, ...)
    no file                google-auth asks the machine's metadata server

A file is read again for each token, so one that is replaced needs no restart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast, final

import attrs
import msgspec
import trio

from duckservice.config import Secret
from duckservice.errors import ProviderAuthError
from duckservice.providers.auth.library import Library
from duckservice.providers.auth.oauth2 import RefreshToken
from duckservice.providers.auth.token_endpoint import TokenEndpoint
from duckservice.providers.auth.tokens import Token
from duckservice.providers.way_out import DIRECT, WayOut

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - a URL
EXTRA: Final = "gcp"

_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_JWT_LIFETIME: Final = 3600
_FILE_BYTES_MAX: Final = 256 * 1024
_SECRET_ENDS: Final = ("private_key", "secret", "token")


@final
@attrs.define(eq=False, kw_only=True)
class GoogleTokens:
    """A `TokenSource` of Google Cloud's."""

    provider: str
    credentials_file: Path | None
    environ: Mapping[str, str] = attrs.field(repr=False)
    scope: str = SCOPE
    connect: float = 5.0
    way: WayOut = DIRECT
    wall_clock: Callable[[], float] = time.time
    _found: Any = attrs.field(default=None, init=False, repr=False)
    """google-auth's credentials, which know when they are to be renewed."""
    _library: Library = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Prepare the calls of the library; nothing is imported yet."""
        self._library = Library(provider=self.provider, extra=EXTRA, passing=_may_pass)

    async def fetch(self) -> Token:
        """Return a new token."""
        file = self.credentials_file or default_file(self.environ)
        if file is None:
            return await self._by_library(None)
        info = await self._read(_expanded(file, self.environ))
        match info.get("type"):
            case "service_account":
                return await self._service_account(info)
            case "authorized_user":
                return await self._user(info)
            case _:
                return await self._by_library(
                    _expanded(file, self.environ), _secrets_in(info)
                )

    async def _service_account(self, info: Mapping[str, Any]) -> Token:
        url = _text(info, "token_uri") or TOKEN_URL
        private_key = _text(info, "private_key")
        now = int(self.wall_clock())
        claims = {
            "iss": _text(info, "client_email"),
            "scope": self.scope,
            "aud": url,
            "iat": now,
            "exp": now + _JWT_LIFETIME,
        }
        assertion = await self._library.call(
            lambda: _signed(info, claims), secrets=[private_key]
        )
        endpoint = self._endpoint(url, assertion)
        form = {"grant_type": _JWT_BEARER, "assertion": assertion}
        return (await endpoint.exchange(form)).token

    async def _user(self, info: Mapping[str, Any]) -> Token:
        refresh_token = _text(info, "refresh_token")
        client_secret = _text(info, "client_secret")
        url = _text(info, "token_uri") or TOKEN_URL
        source = RefreshToken(
            endpoint=self._endpoint(url, refresh_token, client_secret),
            client_id=_text(info, "client_id"),
            client_secret=Secret(client_secret),
            refresh_token=Secret(refresh_token),
        )
        return await source.fetch()

    async def _by_library(
        self, file: Path | None, secrets: Sequence[str] = ()
    ) -> Token:
        def fetch() -> Token:
            if self._found is None:
                self._found = _library_credentials(file, self.scope)
            return _refreshed(self._found, self.wall_clock)

        return await self._library.call(fetch, secrets=secrets)

    def _endpoint(self, url: str, *secrets: str) -> TokenEndpoint:
        try:
            return TokenEndpoint(
                provider=self.provider,
                url=url,
                secrets=secrets,
                connect=self.connect,
                way=self.way,
            )
        except ValueError as error:
            raise self._bad_file(f"token_uri: {error}") from error

    async def _read(self, path: Path) -> Mapping[str, Any]:
        try:
            content = await trio.to_thread.run_sync(_content, path)
            info = msgspec.json.decode(content)
        except OSError as error:
            raise self._bad_file(f"{path}: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            info = None
        if not isinstance(info, dict):
            raise self._bad_file(f"{path} is no JSON object")
        return cast("dict[str, Any]", info)

    def _bad_file(self, why: str) -> ProviderAuthError:
        return ProviderAuthError(
            f"{self.provider} has no usable Google credentials file: {why}",
            provider=self.provider,
        )


def default_file(environ: Mapping[str, str]) -> Path | None:
    """Return the file with the application default credentials, if there is one."""
    if named := environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(named)
    folder = environ.get("CLOUDSDK_CONFIG")
    if not folder and (home := environ.get("HOME")):
        folder = f"{home}/.config/gcloud"
    if not folder:
        return None
    file = Path(folder, "application_default_credentials.json")
    return file if file.is_file() else None


def _expanded(path: Path, environ: Mapping[str, str]) -> Path:
    if path.parts[:1] == ("~",):
        return Path(environ.get("HOME", "/"), *path.parts[1:])
    return path


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_FILE_BYTES_MAX)


def _text(info: Mapping[str, Any], key: str) -> str:
    value = info.get(key)
    return value if isinstance(value, str) else ""


def _secrets_in(info: Mapping[str, Any]) -> Sequence[str]:
    """Return the texts in *info*, at its top, that are named like secrets."""
    return [
        value
        for name, value in info.items()
        if isinstance(value, str) and name.endswith(_SECRET_ENDS)
    ]


def _signed(info: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    signer = import_module("google.auth.crypt").RSASigner
    key = signer.from_service_account_info(dict(info))
    encoded: bytes = import_module("google.auth.jwt").encode(key, dict(claims))
    return encoded.decode("ascii")


def _library_credentials(file: Path | None, scope: str) -> Any:
    library = import_module("google.auth")
    if file is None:
        return library.default(scopes=[scope])[0]
    return library.load_credentials_from_file(str(file), scopes=[scope])[0]


def _refreshed(credentials: Any, wall_clock: Callable[[], float]) -> Token:
    credentials.refresh(import_module("google.auth.transport.requests").Request())
    lifetime = 300.0
    if credentials.expiry is not None:  # UTC, but without saying so
        lifetime = credentials.expiry.timestamp() - wall_clock()
    return Token(value=credentials.token, lifetime=max(lifetime, 1.0))


def _may_pass(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return "TransportError" in names or bool(getattr(error, "retryable", False))
