"""AWS: requests signed with its keys (Signature Version 4), by botocore's signer.

    keys in the ``auth`` table       these, for ever
    else                             botocore's own chain: the profile, the environment,
                                     ~/.aws, SSO, the container, the instance

Keys of the chain that expire are renewed in time by botocore, in a thread and for all
at once, as `Renewal` says; if they are refused as expired all the same, the chain is
asked anew.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, final
from urllib.parse import urlsplit

from duckservice.config import Secret
from duckservice.errors import DuckError, ProviderAuthError
from duckservice.providers.auth import Again
from duckservice.providers.auth.library import Library
from duckservice.providers.auth.renewal import Renewal

EXTRA: Final = "aws"

CONTENT_TYPE: Final = "application/json"
"""Of every request; AWS wants it signed where it is sent."""

# At its level DEBUG it logs what it signs, session tokens included.
logging.getLogger("botocore").setLevel(logging.WARNING)


@final
class AwsCredentials:
    """The signatures of one provider's requests, as `Credentials`."""

    def __init__(
        self,
        *,
        provider: str,
        region: str,
        service: str = "bedrock",
        access_key_id: Secret | None = None,
        secret_access_key: Secret | None = None,
        session_token: Secret | None = None,
        profile: str = "",
    ) -> None:
        """Take two keys (and a token, if they are temporary), or the *profile* of AWS's files.

        With neither, what botocore finds holds. Nothing is read or imported yet.
        Raises `ValueError` for one key without the other, and for keys beside a profile.
        """
        if (access_key_id is None) != (secret_access_key is None):
            raise ValueError(
                f"{provider}: access_key_id and secret_access_key go together"
            )
        if access_key_id is None and session_token is not None:
            raise ValueError(f"{provider}: session_token is of no use without its keys")
        if access_key_id is not None and profile:
            raise ValueError(f"{provider}: either keys or a profile, not both")
        self._provider = provider
        self._region = region
        self._service = service
        self._profile = profile
        self._explicit = (access_key_id, secret_access_key, session_token)
        self._found: Any = None
        """botocore's credentials, once it has some."""
        self._keys: Any = None
        """What they were when they were last asked."""
        self._latest: _Owner | None = None
        """Whose the last signature is."""
        self._stale: _Owner | None = None
        """Whose keys were refused last as expired."""
        self._hopeless: _Owner | None = None
        """The same, once it is known that there are no others."""
        self._library = Library(provider=provider, extra=EXTRA, passing=_may_pass)
        self._renewal = Renewal[Any](
            fresh=self._fresh, valid=self._valid, fetch=self._fetch
        )

    def __repr__(self) -> str:
        return f"<AwsCredentials of {self._provider} in {self._region}>"

    async def headers(self, method: str, url: str, body: bytes) -> Mapping[str, str]:
        """Return the signature of this request and what belongs to it.

        Raises `ProviderAuthError` if there are no keys, or botocore is not installed.
        """
        made = sign(
            method,
            url,
            body,
            keys=await self._renewal.get(),
            region=self._region,
            service=self._service,
            headers={"content-type": CONTENT_TYPE},
        )
        self._latest = _owner(made)
        self._hopeless = self._latest if self._latest == self._stale else None
        return made

    def refused(self, headers: Mapping[str, str], error: DuckError) -> DuckError:
        """Forget keys that have expired; return `Again` if there may be new ones."""
        expired = isinstance(error, ProviderAuthError) and "expired" in error.message
        if not expired or self._explicit[0] is not None:
            return error
        owner = _owner(headers)
        if owner != self._latest:  # others have taken their place already
            return Again(error)
        self._found = self._keys = None
        if owner == self._hopeless:
            return error
        self._stale = owner
        return Again(error)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _fresh(self) -> Any:
        return None if self._is_due() else self._keys

    def _valid(self) -> Any:
        return None if self._is_due(0) else self._keys

    def _is_due(self, seconds: int | None = None) -> bool:
        """Say whether the keys expire within *seconds*; None: soon, says botocore."""
        renewable = hasattr(self._found, "refresh_needed")
        return renewable and bool(self._found.refresh_needed(seconds))

    async def _fetch(self) -> Any:
        """Return botocore's frozen credentials."""
        secrets = [its.reveal() for its in self._explicit if its is not None]
        found, keys = await self._library.call(self._look, secrets=secrets)
        self._found, self._keys = found, keys
        return keys

    def _look(self) -> tuple[Any, Any]:
        """Find or renew the keys; it blocks."""
        found = self._find() if self._found is None else self._found
        return found, found.get_frozen_credentials()

    def _find(self) -> Any:
        access, secret, token = self._explicit
        if access is not None and secret is not None:
            return import_module("botocore.credentials").Credentials(
                access.reveal(),
                secret.reveal(),
                None if token is None else token.reveal(),
            )
        session = import_module("botocore.session").Session(
            profile=self._profile or None
        )
        session.set_config_variable("region", self._region)
        found = session.get_credentials()
        if found is None:
            raise ProviderAuthError(
                f"{self._provider} has no AWS keys: botocore finds none in the "
                "environment, in ~/.aws, in the container or the instance; set them "
                f"there or in [providers.{self._provider}.auth], or an api_key",
                provider=self._provider,
            )
        return found


def sign(
    method: str,
    url: str,
    body: bytes,
    *,
    keys: Any,
    region: str,
    service: str,
    headers: Mapping[str, str],
) -> Mapping[str, str]:
    """Return the headers that sign a request which has *headers*; names in lower case.

    *keys* are botocore's frozen credentials. *url* is what is sent: the signer
    encodes its path once more, as all of AWS's services but S3 do.
    """
    signed = import_module("botocore.awsrequest").AWSRequest(
        method=method,
        url=url,
        data=body,
        # As it is sent: botocore would leave out a port that is the scheme's own.
        headers={**headers, "host": urlsplit(url).netloc},
    )
    import_module("botocore.auth").SigV4Auth(keys, service, region).add_auth(signed)
    made = {name.lower(): value for name, value in signed.headers.items()}
    return {name: made[name] for name in _SIGNATURE if name in made}


_SIGNATURE: Final = ("authorization", "x-amz-date", "x-amz-security-token")

_Owner = tuple[str, str]


def _owner(headers: Mapping[str, str]) -> _Owner:
    """Return whose signature it is: the key's id and the token that go with it."""
    _, _, credential = headers.get("authorization", "").partition("Credential=")
    return credential.partition("/")[0], headers.get("x-amz-security-token", "")


def _may_pass(error: Exception) -> bool:
    """Say whether *error* is of the way to a server that has keys, not of the keys."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return not names.isdisjoint(_ON_THE_WAY)


_ON_THE_WAY: Final = {"ConnectionError", "HTTPClientError", "MetadataRetrievalError"}
