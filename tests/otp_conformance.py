"""Conformance with OTP: recorded traces of its supervisor, played on this library.

    python -m tests.otp_conformance [--no-reports] [--timeout SECONDS] FILE...

FILE is JSON, gzipped or not. It prints a line for each scenario that differs,
with the first difference, and closes with ``N passed, M failed``. The exit code
is 0 if all passed, 1 if any failed, 2 if a file cannot be read. A scenario that
hangs, or cannot be played, has failed; the others are played all the same.
"""

# pyright: basic
# Scenarios and traces are JSON: their types are Any, and stay unknown inside.

from __future__ import annotations

import argparse
import gzip
import json
import sys
import zlib
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from tests.otp.judge import difference, judge_apart

Json: TypeAlias = Any

FORMAT = "otp-supervision-vectors/1"


class BadFile(Exception):
    """A file that holds no scenarios; the message says which and why."""


def scenarios(path: Path) -> list[Json]:
    """Return the scenarios of a file, or raise `BadFile`."""
    try:
        data = path.read_bytes()
        content = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}") from error
    except (EOFError, zlib.error, ValueError) as error:
        raise BadFile(f"{path}: no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadFile(f"{path}: not a file of format {FORMAT}")
    found = content.get("scenarios")
    if not isinstance(found, list) or not found:
        raise BadFile(f"{path}: no scenarios in it")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        # All at first: a mistyped name is not to show up after minutes.
        found = [each for path in options.files for each in scenarios(path)]
    except BadFile as error:
        print(error, file=sys.stderr)
        return 2
    judge = partial(difference, reports=not options.no_reports)
    verdicts = judge_apart(judge, found, seconds=options.timeout)
    failed = 0
    for scenario, verdict in zip(found, verdicts, strict=True):
        if verdict is not None:
            failed += 1
            print(f"{_name(scenario)}: {verdict}", flush=True)
    print(f"{len(found) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _name(scenario: Json) -> str:
    name = scenario.get("name") if isinstance(scenario, dict) else None
    return str(name or "(no name)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.otp_conformance")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--no-reports",
        action="store_true",
        help="compare what happens, not what is reported about it",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=20.0,
        metavar="SECONDS",
        help="a scenario that takes longer has failed (default: %(default)g)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
