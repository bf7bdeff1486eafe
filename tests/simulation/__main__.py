"""python -m tests.simulation: run worlds under policies, print what came of it.

The exit code is 1 if a policy of the service has broken a promise; naive ones may.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from tests.simulation.policies import NAIVE, POLICIES
from tests.simulation.report import head, line, row, summary
from tests.simulation.run import run
from tests.simulation.world import WORLDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    its = _parser().parse_args(arguments)
    seeds = [its.seed] if its.seed is not None else range(1, its.seeds + 1)
    if not its.json:
        print(head())
    rows = list[dict[str, object]]()
    for world in its.world or WORLDS:
        for policy in its.policy or ["default"]:
            runs = [run(WORLDS[world], policy, seed, its.minutes) for seed in seeds]
            rows.append(row(runs))
            if not its.json:
                print(line(rows[-1]), flush=True)
    print(json.dumps(rows, indent=1) if its.json else f"\n{summary(rows)}")
    bad = [each for each in rows if each["broken"] and each["policy"] not in NAIVE]
    for each in bad:
        print(f"{each['world']}, {each['policy']}: {each['examples']}", file=sys.stderr)
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    add = parser.add_argument
    add("--minutes", type=float, default=40.0, help="virtual ones, for each seed")
    add("--seeds", type=int, default=1, help="so many, from 1")
    add("--seed", type=int, help="only this one")
    add("--world", action="append", choices=WORLDS, help="default: all")
    add("--policy", action="append", choices=POLICIES, help="default: default")
    add("--json", action="store_true", help="every figure, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
