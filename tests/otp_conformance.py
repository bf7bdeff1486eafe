"""Conformance with OTP: recorded traces of its supervisor, played on this library.

    python -m tests.otp_conformance [--no-reports] FILE...

prints a line for each scenario that differs, with the first difference, and
closes with ``N passed, M failed``; the exit code is 1 if any failed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from tests.otp.compare import first_difference
from tests.otp.normalise import normalise
from tests.otp.play import play

Json: TypeAlias = Any

FORMAT = "otp-supervision-vectors/1"


def scenarios(path: Path) -> list[Json]:
    """Return the scenarios of a file, which may be gzipped."""
    data = path.read_bytes()
    content = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path}: not a file of format {FORMAT}")
    return content["scenarios"]


def difference(scenario: Json, *, reports: bool = True) -> str | None:
    """Play *scenario*; say where its trace first differs from OTP's."""
    try:
        played = play({key: scenario[key] for key in scenario if key != "trace"})
    except Exception as error:  # noqa: BLE001 - a failure to play is a difference
        return f"cannot be played: {error!r}"
    # Through JSON, for tuples and lists are the same there.
    got = json.loads(json.dumps(normalise(scenario, played)))
    wanted = normalise(scenario, scenario["trace"])
    return first_difference(scenario, wanted, got, reports=reports)


def failures(paths: list[Path], *, reports: bool) -> Iterator[tuple[str, str | None]]:
    """Yield name and difference of each scenario; None for one that passes."""
    for path in paths:
        for scenario in scenarios(path):
            yield scenario["name"], difference(scenario, reports=reports)


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.otp_conformance")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--no-reports",
        action="store_true",
        help="compare what happens, not what is reported about it",
    )
    options = parser.parse_args(arguments)
    passed = failed = 0
    for name, found in failures(options.files, reports=not options.no_reports):
        if found is None:
            passed += 1
        else:
            failed += 1
            print(f"{name}: {found}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
