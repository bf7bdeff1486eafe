"""A run repeats: the same seed gives the same calls and ends, at the same times."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.run import run
from tests.simulation.world import WORLDS

ROOT = Path(__file__).parents[2]
PROGRAM = """
from tests.simulation.run import run
from tests.simulation.world import WORLDS
print(run(WORLDS["mixed"], "default", 5, 8).digest)
"""


def test_a_seed_repeats_and_another_one_differs() -> None:
    first, again, other = (run(WORLDS["mixed"], "default", s, 5) for s in (1, 1, 2))
    assert first.digest == again.digest
    assert first.digest != other.digest


@pytest.mark.slow
def test_a_seed_repeats_in_a_process_with_other_hashes() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
