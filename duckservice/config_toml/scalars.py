"""What each marker of `duckservice.config` allows, and the value that it gives."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from duckservice.config import (
    BaseUrl,
    Duration,
    HeaderName,
    HeaderValue,
    Money,
    Number,
    OctalMode,
    Size,
    Text,
    Whole,
)
from duckservice.config_toml.refused import Refused, shown

_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ms|[smhd]))+")
_DURATION_PART = re.compile(r"([0-9.]+)(ms|[smhd])")
_BYTES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(B|[kKMGT]B|[KMGT]iB)")
_YEAR = 365 * 86400
_USD_MAX = 1_000_000_000
_DECIMALS = 12
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# What we write ourselves; a second one would make requests ambiguous.
_OUR_HEADERS = frozenset(
    {"connection", "content-length", "content-type", "host", "transfer-encoding"}
)


def whole(marker: Whole, value: Any) -> int:
    """Return a whole number between the marker's bounds."""
    match value:
        case bool():
            pass
        case int() if marker.least <= value <= marker.most:
            return value
        case _:
            pass
    raise Refused(shown(value), f"a whole number from {marker.least} to {marker.most}")


def number(marker: Number, value: Any) -> float:
    """Return a finite number of more than 0."""
    exact = _exact(value)
    if exact is not None and 0 < exact <= marker.most and float(exact) > 0:
        return float(exact)
    raise Refused(shown(value), f"a number above 0, up to {marker.most}")


def money(_: Money, value: Any) -> str:
    """Return the exact decimal text of an amount of US dollars."""
    exact = _exact(value)
    # Decimals are counted before it is written: 1e-999999999 fills the memory.
    if exact is not None and 0 <= exact <= _USD_MAX and _decimals(exact) <= _DECIMALS:
        return f"{exact.copy_abs():f}"
    raise Refused(
        shown(value),
        f"a number of US dollars from 0 to {_USD_MAX}, with at most"
        f" {_DECIMALS} decimals",
    )


def _decimals(exact: Decimal) -> int:
    exponent = exact.as_tuple().exponent
    assert isinstance(exponent, int), "only NaN and infinity have letters there"
    return -exponent


def _exact(value: Any) -> Decimal | None:
    """Return a finite number exactly; None for what is not one."""
    match value:
        case bool():
            return None
        case Decimal() if value.is_finite():
            return value
        case int():
            return Decimal(value)
        case _:
            return None


def duration(marker: Duration, value: Any) -> float:
    """Return a length of time in seconds."""
    exact = _parsed(value) if isinstance(value, str) else _exact(value)
    if exact is not None and 0 <= exact <= _YEAR:
        seconds = float(exact)
        if seconds > 0 or marker.zero:
            return seconds
    least = "0 or more" if marker.zero else "more than 0"
    raise Refused(
        shown(value),
        'a duration such as "500ms", "5s", "10m" or "1h30m", or a number of seconds;'
        f" {least}, at most 365 days",
    )


def _parsed(text: str) -> Decimal | None:
    if len(text) > 64 or not _DURATION.fullmatch(text):
        return None
    parts = _DURATION_PART.findall(text)
    return sum((Decimal(n) * _SECONDS[unit] for n, unit in parts), Decimal(0))


def size(marker: Size, value: Any) -> int:
    """Return a number of bytes between the marker's bounds."""
    exact = _sized(value) if isinstance(value, str) else _exact(value)
    if (
        exact is not None
        and exact == exact.to_integral_value()
        and marker.least <= exact <= marker.most
    ):
        return int(exact)
    raise Refused(
        shown(value),
        'a size such as "512KiB", "64MiB" or "1GB", or a whole number of bytes;'
        f" from {_written(marker.least)} to {_written(marker.most)}",
    )


def _sized(text: str) -> Decimal | None:
    found = _SIZE.fullmatch(text)
    return None if found is None else Decimal(found[1]) * _BYTES[found[2]]


def _written(count: int) -> str:
    unit = max((u for u in _BYTES if not count % _BYTES[u]), key=lambda u: _BYTES[u])
    return f"{count // _BYTES[unit]}{unit}"


def octal_mode(marker: OctalMode, value: Any) -> int:
    """Return a file mode."""
    for mode in marker.modes:
        if value in (f"{mode:04o}", f"{mode:o}", f"0o{mode:o}"):
            return mode
    allowed = " or ".join(f'"{mode:04o}"' for mode in marker.modes)
    raise Refused(shown(value), f"{allowed}, as a string")


def text(marker: Text, value: Any) -> str:
    """Return some text without control characters."""
    least = 0 if marker.empty else 1
    match value:
        case str() if least <= len(value) <= marker.chars_max and not (
            _CONTROL.search(value)
        ):
            return value
        case _:
            pass
    at_least = "" if marker.empty else "non-empty "
    raise Refused(
        shown(value),
        f"a {at_least}string of at most {marker.chars_max} characters, without"
        f" control characters",
    )


def header_name(_: HeaderName, value: Any) -> str:
    """Return the name of a header that we do not set ourselves."""
    match value:
        case str() if _TOKEN.fullmatch(value) and value.lower() not in _OUR_HEADERS:
            return value
        case _:
            pass
    raise Refused(
        shown(value),
        "the name of an HTTP header, other than " + ", ".join(sorted(_OUR_HEADERS)),
    )


def header_value(_: HeaderValue, value: Any) -> str:
    """Return a header's value; it is never quoted, since it may be a secret."""
    allowed = "a string of printable ASCII, without CR, LF or NUL"
    if not isinstance(value, str):
        raise Refused("something else than a string", allowed)
    if len(value) > 8192 or not all(" " <= c <= "~" or c == "\t" for c in value):
        raise Refused("a value that a header cannot carry (not shown)", allowed)
    return value


def base_url(marker: BaseUrl, value: Any) -> str:
    """Return a URL; that of a provider has no slashes at its end."""
    allowed = "an http or https URL with a host, without user, query or fragment"
    # A URL that is refused may be one with a password in it.
    if not isinstance(value, str):
        raise Refused(shown(value), allowed)
    parts = _split(value)
    if parts is None or _CONTROL.search(value) or " " in value or not value.isascii():
        raise Refused("a malformed URL", allowed)
    if "://" not in value and parts.scheme not in ("http", "https"):
        raise Refused("a URL without a scheme", allowed, hint="add http:// or https://")
    for problem, present in (
        ("a URL with another scheme", parts.scheme not in ("http", "https")),
        ("a URL without a host", not parts.hostname),
        ("a URL with a user or a password", "@" in parts.netloc),
        ("a URL with a query", "?" in value),
        ("a URL with a fragment", "#" in value),
    ):
        if present:
            raise Refused(problem, allowed)
    return value if marker.exact else value.rstrip("/")


def _split(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
        _ = parts.port  # is parsed only when it is asked for
    except ValueError:
        return None
    return parts if "\\" not in value and len(value) <= 2048 else None


def path(value: Any) -> Path:
    """Return a path; `duckservice.paths` knows the home that a "~/" stands for."""
    match value:
        case str() if value.startswith(("/", "~/")) and not _CONTROL.search(value):
            return Path(value)
        case _:
            pass
    raise Refused(shown(value), 'an absolute path, or one that starts with "~/"')


def boolean(value: Any) -> bool:
    """Return a boolean."""
    if isinstance(value, bool):
        return value
    raise Refused(shown(value), "true or false")
