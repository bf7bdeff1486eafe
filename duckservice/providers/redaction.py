"""Keeping secrets out of what an upstream says: it may echo the key it was sent."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias, final
from urllib.parse import quote

MASK: Final = "[redacted]"

_PIECE: Final = 12
"""Characters; a piece of a secret at least this long is a secret."""
_SECRET_MIN: Final = 6
"""Characters; what is shorter (``none``, ``EMPTY``) is a placeholder and no secret."""
_BODY_SECRET_MIN: Final = 16
_START: Final = 64
"""Bytes; by so many of its first ones a form of a secret is found."""
TOKENS_MAX: Final = 2
"""So many tokens of a provider are remembered: the one in use, and the one before."""
_MASK_BYTES: Final = MASK.encode()
_Span: TypeAlias = tuple[int, int]

_KEY_SHAPES: Final = re.compile(
    r"""
    \b(?:sk|pk|rk|gsk|hf|xai|pplx|r8|tgp|nvapi|AIza|ya29)[-_.][\w.-]{6,}\*?[\w*.-]*
    | \bAIza[\w-]{16,}
    | \b(?:Bearer|Basic)\s+[\w.~+/=-]{8,}
    | \beyJ[\w-]{8,}\.[\w-]+\.[\w-]*           # a JSON web token
    | [^\s:'"`(]*\*{3,}[^\s'"`)]*              # a key that is masked only in part
    | (?<=[Kk]ey\ provided:\ )\S+
    """,
    re.VERBOSE,
)


@final
class Secrets:
    """What one provider's requests carry that nobody may see; tokens come and go.

    The configured ones are kept, and of the tokens the last `TOKENS_MAX`: a request
    under way may still carry one that is not used any more.
    """

    __slots__ = ("_configured", "_masked", "_tokens", "version")

    def __init__(self, configured: Iterable[str] = ()) -> None:
        self._configured = frozenset(configured)
        self._tokens = dict[str, None]()
        self._masked: MaskedForms | None = None
        self.version = 0
        """Another one after each change."""

    def __iter__(self) -> Iterator[str]:
        yield from self._configured
        yield from self._tokens

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._configured) + len(self._tokens)}>"

    def learn(self, secret: str) -> None:
        """Mask *secret* from now on."""
        if secret in self._tokens or secret in self._configured:
            return
        while len(self._tokens) >= TOKENS_MAX:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[secret] = None
        self._masked = None
        self.version += 1

    @property
    def masked(self) -> MaskedForms:
        """What is masked in answers."""
        if self._masked is None:
            self._masked = MaskedForms(self)
        return self._masked


@final
class Redactor:
    """Replaces secrets in a text: the known ones, and what is shaped like one.

    A known secret is found whole, in any piece of 12 characters or more, and in
    its base64 and URL-encoded forms. What `Secrets` learn later is found as well.
    """

    __slots__ = ("_pieces", "_secrets", "_version", "_whole")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = secrets if isinstance(secrets, Secrets) else None
        self._version = 0
        self._pieces = frozenset[str]()
        self._whole = list[str]()
        self._read(secrets)

    def _read(self, secrets: Iterable[str]) -> None:
        forms = {
            form
            for secret in secrets
            if len(secret) >= _SECRET_MIN
            for form in _forms_of(secret)
        }
        if self._secrets is not None:
            self._version = self._secrets.version
        self._whole = sorted(forms, key=len, reverse=True)
        self._pieces = frozenset(
            form[start : start + _PIECE]
            for form in forms
            for start in range(len(form) - _PIECE + 1)
        )

    def __repr__(self) -> str:
        return "Redactor(…)"

    def __call__(self, text: str) -> str:
        """Return *text* without secrets."""
        its = self._secrets
        if its is not None and its.version != self._version:
            self._read(its)
        text = self._without_pieces(text)
        for form in self._whole:
            text = text.replace(form, MASK)
        return _KEY_SHAPES.sub(MASK, text)

    def _without_pieces(self, text: str) -> str:
        if not self._pieces:
            return text
        kept: list[str] = []
        end = 0  # of what has been copied or masked
        for start in range(len(text) - _PIECE + 1):
            if text[start : start + _PIECE] not in self._pieces:
                continue
            if start > end or not kept:
                kept += (text[end:start], MASK)
            end = start + _PIECE
        return "".join((*kept, text[end:]))


@final
class BodyMask:
    """Masks the configured secrets in the bytes of one answer, as they come.

    Wherever the bytes are cut, the same is masked: each byte of each secret, those
    that overlap as one. For what is no error: a text of the model is not searched
    for pieces of secrets, nor for what merely looks like one.
    """

    __slots__ = ("_forms", "_held", "_masked")

    def __init__(self, forms: MaskedForms) -> None:
        self._forms = forms
        self._held = b""
        """The end of what came: it may be the beginning of a secret."""
        self._masked = 0
        """So many of the bytes held are also the end of a secret, masked already."""

    def feed(self, piece: bytes) -> bytes:
        """Return what of the bytes so far may be passed on; maybe nothing."""
        if self._held:
            piece = self._held + piece
        if self._forms.may_be_in(piece):
            return self._without(*self._forms.search(piece), piece)
        if self._masked:
            return self._without([], len(piece), piece)
        self._held = b""
        return piece

    def finish(self) -> bytes:
        """Return the rest, when no more is to come."""
        rest = self._held
        if not rest:
            return b""
        found, _ = self._forms.search(rest)
        return self._without(found, len(rest), rest)

    def _without(self, found: Sequence[_Span], end: int, data: bytes) -> bytes:
        """Return *data* up to *end*, with what was *found* there masked; hold the rest."""
        kept: list[bytes] = []
        done = self._masked
        for start, stop in sorted(span for span in found if span[0] < end):
            # What overlaps the mask before it is hidden by that; what only touches
            # it gets its own.
            if start >= done:
                kept += (data[done:start], _MASK_BYTES)
            done = max(done, stop)
        kept.append(data[done:end])
        self._held, self._masked = data[end:], max(0, done - end)
        return b"".join(kept)


@final
class MaskedForms:
    """What a `BodyMask` looks for; made once for all answers of a provider.

    Secrets of less than 16 characters are left out: ``not-needed`` and the like
    stand where a server wants no key, and are words of its answers as well.

    All forms are found by their first bytes: what that costs does not grow with
    their length, and tokens often begin alike.
    """

    __slots__ = ("_by_start", "_ends", "_short", "_starts")

    def __init__(self, secrets: Iterable[str]) -> None:
        self._by_start: Final = dict[bytes, list[bytes]]()
        for secret in secrets:
            if len(secret) >= _BODY_SECRET_MIN:
                for form in dict.fromkeys(map(str.encode, _forms_of(secret))):
                    self._by_start.setdefault(form[:_START], []).append(form)
        self._starts: Final = tuple(self._by_start)
        self._short: Final = tuple(
            {start[:size] for start in self._starts for size in range(1, len(start))}
        )
        self._ends: Final = frozenset(short[-1:] for short in self._short)

    def __repr__(self) -> str:
        return "MaskedForms(…)"

    def may_be_in(self, data: bytes) -> bool:
        """Say whether `search` may find something; fast, and never wrongly False."""
        for start in self._starts:
            if start in data:
                return True
        # Most pieces end with a line break, which is in no secret.
        return data[-1:] in self._ends and data.endswith(self._short)

    def search(self, data: bytes) -> tuple[Sequence[_Span], int]:
        """Return where secrets are in *data*, and where an unfinished one may begin.

        The latter is the end of *data* if none does.
        """
        found = list[_Span]()
        end = len(data)
        for start, forms in self._by_start.items():
            at = data.find(start)
            while at >= 0:
                rest = len(data) - at
                for form in forms:
                    if data.startswith(form, at):
                        found.append((at, at + len(form)))
                    elif rest < len(form) and data.endswith(form[:rest]):
                        end = min(end, at)
                at = data.find(start, at + 1)
        last = data[1 - _START :]
        short = min((_beginning(start, last) for start in self._starts), default=0)
        return found, min(end, len(data) - len(last) + short)


def _beginning(start: bytes, end: bytes) -> int:
    """Return where in *end* its rest is the beginning of *start*, but not all of it."""
    first = start[:1]
    at = end.find(first)
    while at >= 0:
        if len(end) - at < len(start) and start.startswith(end[at:]):
            return at
        at = end.find(first, at + 1)
    return len(end)


def _forms_of(secret: str) -> Iterable[str]:
    raw = secret.encode()
    yield secret
    yield quote(secret, safe="")
    for shift in range(3):
        # The same text has three base64 forms, by where in the whole it stands;
        # the first and last characters depend on its neighbours.
        encoded = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        inner = encoded[4 if shift else 0 : len(encoded) - 1].decode()
        if len(inner) >= _PIECE:
            yield inner
            yield inner.translate(_URL_SAFE)


_URL_SAFE: Final = str.maketrans("+/", "-_")
