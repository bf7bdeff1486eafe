"""What `duck doctor` looks at of the installation: Python, packages, TLS, limits."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from typing import Final

from duckservice.cli.doctor.finding import Finding

PYTHON_LEAST: Final = (3, 11)


def findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Judge what duckd would run on, if it was started from here."""
    yield of_python(sys.version_info[:3])
    yield from of_packages("duckservice")
    yield of_trust(environ)


def of_python(version: tuple[int, ...]) -> Finding:
    """Judge a Python by its *version*."""
    told = f"{'.'.join(map(str, version))} ({platform.python_implementation()})"
    if version < PYTHON_LEAST:
        return Finding("python", "failed", told, "install Python 3.11 or newer")
    return Finding("python", "ok", told)


def of_packages(root: str) -> Iterator[Finding]:
    """Judge each package that *root* needs by what *root* says of its version."""
    from importlib.metadata import PackageNotFoundError, requires, version

    try:
        yield Finding(root, "ok", version(root))
        needs = requires(root) or []
    except PackageNotFoundError:
        yield Finding(
            root, "failed", "is not installed", f"pip install {root}, in this Python"
        )
        return
    there: list[str] = []
    for text in needs:
        name, bounds, marker = _parted(text)
        if marker:
            continue  # of an extra: only what the config asks for is missed
        try:
            found = version(name)
        except PackageNotFoundError:
            detail = "is not installed"
        else:
            if _fits(found, bounds):
                there.append(f"{name} {found}")
                continue
            detail = f"{found}, and {bounds} is needed"
        yield Finding(name, "failed", detail, f"pip install '{name}{bounds}'")
    yield Finding("packages", "ok", ", ".join(there))


def _parted(requirement: str) -> tuple[str, str, str]:
    """Return the name, the bounds and the marker in *requirement*."""
    rest, _, marker = requirement.partition(";")
    rest = rest.strip()
    end = next((at for at, c in enumerate(rest) if c in "<>=!~ ["), len(rest))
    return rest[:end], rest[end:].strip(), marker.strip()


def _fits(version: str, bounds: str) -> bool:
    """Say whether *version* is within *bounds*, of which only ``>=`` and ``<`` count."""
    its = _numbers(version)
    for bound in filter(None, bounds.replace(" ", "").split(",")):
        if bound.startswith(">=") and its < _numbers(bound[2:]):
            return False
        if bound.startswith("<") and bound[1:2] != "=" and its >= _numbers(bound[1:]):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def of_trust(environ: Mapping[str, str]) -> Finding:
    """Judge the list of authorities that providers' certificates are held against."""
    import ssl

    import certifi

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certifi.where())
        count = len(context.get_ca_certs())
    except (OSError, ssl.SSLError) as error:
        detail = f"{certifi.where()}: {type(error).__name__}: no provider is trusted"
        return Finding("tls", "failed", detail, "pip install --force-reinstall certifi")
    told = f"{count} authorities, of certifi; {ssl.OPENSSL_VERSION}"
    named = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name)]
    if named:
        return Finding(
            "tls",
            "warning",
            f"{told}; duckd does not obey {' and '.join(named)}, which the environment"
            " sets",
            "to trust an authority of your own, have a gateway on loopback as base_url",
        )
    return Finding("tls", "ok", told)
