"""Fuzz one reader of foreign bytes with atheris (libFuzzer, by the coverage of our code).

    pip install atheris && python -m tests.fuzz.atheris_run --target http1 --seconds 60

Without `--target`, all of them in turn. A run begins with the seeds (`seeds.py`) and with
what runs before it have found worth keeping, in `--corpus`. What breaks a promise is left
as a file there, and shown; the exit code is 1 then. `tests/fuzz/test_targets.py` holds
what was found, for ever.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

INSTRUMENTED: Final = (
    "duckservice.gateway",
    "duckservice.providers",
    "duckservice.config_toml",
)
_STATUS: Final = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+)")
_SHOWN_LINES: Final = 40


@attrs.frozen(kw_only=True)
class Figures:
    """What a run came to."""

    target: str
    executions: int
    seconds: int
    coverage: tuple[int, int]
    """Edges of our code: after the seeds, and at the end."""
    features: tuple[int, int]
    findings: Sequence[str]

    def __str__(self) -> str:
        """Return one line of a table."""
        rate = self.executions / max(1, self.seconds)
        return (
            f"{self.target:12} {self.executions:10,} executions {rate:8,.0f}/s"
            f"   edges {self.coverage[0]:5} -> {self.coverage[1]:5}"
            f"   features {self.features[0]:6} -> {self.features[1]:6}"
            f"   findings {len(self.findings)}"
        )


def run(name: str, seconds: int, corpus: Path) -> Figures:
    """Fuzz one target in a process of its own."""
    kept, found = corpus / name, corpus / f"{name}-findings"
    for folder in (kept, found):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    command = [sys.executable, "-m", "tests.fuzz.atheris_run", "--inside", name]
    command += [str(kept), f"-max_total_time={seconds}", f"-artifact_prefix={found}/"]
    # A hang, and memory without bound, are findings too.
    command += ["-timeout=10", "-rss_limit_mb=1024", "-max_len=4096"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    text = done.stdout.decode(errors="replace")
    statuses = [tuple(map(int, found)) for found in _STATUS.findall(text)]
    if not statuses:
        raise RuntimeError(text)
    findings = sorted(path.name for path in set(found.iterdir()) - before)
    if findings or done.returncode:
        print(*text.splitlines()[-_SHOWN_LINES:], sep="\n")
    took = re.search(r"in (\d+) second", text)
    return Figures(
        target=name,
        executions=statuses[-1][0],
        seconds=int(took[1]) if took else seconds,
        coverage=(statuses[0][1], statuses[-1][1]),
        features=(statuses[0][2], statuses[-1][2]),
        findings=findings,
    )


def fuzz_here(name: str, options: Sequence[str]) -> None:
    """Fuzz in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from tests.fuzz.targets import TARGETS

        target = TARGETS[name]
        samples = target.seeds()
    folder = Path(options[0])
    for sample in samples:
        (folder / hashlib.sha256(sample).hexdigest()[:16]).write_bytes(sample)
    atheris.Setup(["fuzz", *options], target.check)
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, print the figures, and return 1 if anything was found."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["--inside"]:
        fuzz_here(given[1], given[2:])
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", action="append", help="default: all in turn")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, help="default: a temporary folder")
    its = parser.parse_args(given)
    from tests.fuzz.targets import TARGETS

    found = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in its.target or TARGETS:
            figures = run(name, its.seconds, its.corpus or Path(folder))
            print(figures, flush=True)
            found += len(figures.findings)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
