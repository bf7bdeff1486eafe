"""Where a provider's requests go and which headers they carry, checked once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias, final
from urllib.parse import SplitResult, urlsplit

from duckservice.config import Secret
from duckservice.errors import InvalidRequest
from duckservice.loopback import is_loopback

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*", re.ASCII)

# The transport writes these, from what is really sent.
_OURS: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "transfer-encoding"}
)


@final
class Endpoint:
    """A base URL and the headers that go with every request to it.

    Raises `ValueError`, with a message free of secrets, if the base URL is no
    http(s) URL, if a header cannot be sent, or if a secret would go over plain
    HTTP to another machine. *authenticated* says that secrets will come later.
    """

    __slots__ = ("_fixed", "_proof", "_proof_raw", "_secret", "base_url", "origin")

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str | Secret],
        *,
        authenticated: bool = False,
    ) -> None:
        url = _checked_url(base_url)
        self.base_url = base_url.rstrip("/")
        host = url.hostname or ""
        host = f"[{host}]" if ":" in host else host
        self.origin = f"{url.scheme}://{host}:{_port(url)}"
        """Scheme, host and port: what may be shown of the URL."""
        self._fixed: RawHeaders = [
            (b"host", url.netloc.encode("ascii")),
            # What is not compressed cannot be a decompression bomb.
            (b"accept-encoding", b"identity"),
        ]
        self._secret: list[tuple[bytes, Secret]] = []
        for name, value in headers.items():
            self._add(name, value)
        self._proof: Mapping[str, str] | None = None
        self._proof_raw: RawHeaders = []
        if (
            (self._secret or authenticated)
            and url.scheme == "http"
            and not is_loopback(url.hostname or "")
        ):
            raise ValueError(
                f"{self.origin} would get a key over an unencrypted connection: "
                "use https://, or a loopback address"
            )

    def url(self, path: str) -> str:
        """Return the URL of *path*, which starts with a slash."""
        if not path.startswith("/"):
            raise ValueError(f"a path starts with a slash, unlike {path!r}")
        return self.base_url + path

    def headers(
        self,
        extra: Mapping[str, str] | None = None,
        proof: Mapping[str, str] | None = None,
    ) -> RawHeaders:
        """Return all headers of one request; secrets are revealed here only.

        What *extra* has in common with the headers of every request is appended
        to their value, as to a list. *proof* authenticates the request; the headers
        of every request win over it. Raises `InvalidRequest` if one of *extra* cannot
        be sent, and `ValueError` if one of *proof* cannot.
        """
        raw = self._fixed.copy()
        for name, secret in self._secret:
            raw.append((name, secret.reveal().encode("ascii")))
        if proof:
            raw += self._checked_proof(proof)
        if extra:
            for key, value in extra.items():
                if (fault := _fault(key, value)) is not None:
                    raise InvalidRequest(fault)
                _append(raw, key.lower().encode("ascii"), value.encode("ascii"))
        return raw

    def knows(self, proof: Mapping[str, str]) -> bool:
        """Say whether *proof* is what the last request was authenticated with."""
        return proof is self._proof

    def _checked_proof(self, proof: Mapping[str, str]) -> RawHeaders:
        # A key's headers are one mapping for ever: it is looked at once.
        if proof is self._proof:
            return self._proof_raw
        ours = {name for name, _ in self._fixed} | {name for name, _ in self._secret}
        raw: RawHeaders = []
        for name, value in proof.items():
            check_header(name, value)
            if (key := name.lower().encode("ascii")) not in ours:
                raw.append((key, value.encode("ascii")))
        self._proof, self._proof_raw = proof, raw
        return raw

    def _add(self, name: str, value: str | Secret) -> None:
        text = value.reveal() if isinstance(value, Secret) else value
        check_header(name, text)
        key = name.lower().encode("ascii")
        if isinstance(value, Secret):
            self._secret.append((key, value))
        else:
            self._fixed.append((key, text.encode("ascii")))


def check_header(name: str, value: str) -> None:
    """Raise `ValueError`, without the value, for a header that cannot be sent."""
    if (fault := _fault(name, value)) is not None:
        raise ValueError(fault)


def _append(raw: RawHeaders, name: bytes, value: bytes) -> None:
    # In one line: not every server joins a list that comes in several.
    for place, (given, before) in enumerate(raw):
        if given == name:
            raw[place] = (name, before + b"," + value)
            return
    raw.append((name, value))


def _fault(name: str, value: str) -> str | None:
    """Say why the header cannot be sent, without its value; None if it can."""
    if not _NAME.fullmatch(name):
        return f"{name!r} is no name of an HTTP header"
    if name.lower() in _OURS:
        return f"the header {name!r} is not to be set"
    if not _VALUE.fullmatch(value) or value != value.strip():
        return (
            f"the value of the header {name!r} cannot be sent: it has a line break, "
            "a control character, a character outside of ASCII, or a blank at an end"
        )
    return None


def _checked_url(base_url: str) -> SplitResult:
    """Parse *base_url*. What is wrong is said without showing it: it may hold a key."""
    try:
        url = urlsplit(base_url)
        _port(url)
    except ValueError as error:
        raise ValueError("the base URL cannot be read as a URL") from error
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("the base URL must start with http:// or https:// and a host")
    if url.username is not None or url.password is not None:
        raise ValueError("the base URL must not hold a user name or a password")
    if url.query or url.fragment or "?" in base_url or "#" in base_url:
        raise ValueError("the base URL must not hold a query or a fragment")
    if not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise ValueError("the base URL must consist of printable ASCII without blanks")
    return url


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)
