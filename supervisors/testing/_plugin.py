"""The pytest plug-in: runs a test under many seeds, and one of them again.

pytest loads it for everybody who has the package installed, so it imports
nothing but pytest until a test asks for its fixtures.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import pytest

if TYPE_CHECKING:
    from supervisors.testing._schedule import Schedule
    from supervisors.testing._simulate import Faults, Result

T = TypeVar("T")

RUNS = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; pytest calls it."""
    group = parser.getgroup("supervisors", "simulations of supervision trees")
    group.addoption(
        "--fault-seed",
        type=int,
        metavar="N",
        help="run simulations with this seed only, to repeat a failure",
    )
    group.addoption(
        "--fault-runs",
        type=_positive,
        default=RUNS,
        metavar="N",
        help=f"how many seeds each simulation is run with (default: {RUNS})",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for ``fault_seed`` once for each seed; pytest calls it."""
    if "fault_seed" in metafunc.fixturenames:
        seeds = _seeds(metafunc.config, metafunc.definition.nodeid)
        metafunc.parametrize("fault_seed", seeds, indirect=True)


def _seeds(config: pytest.Config, node_id: str) -> list[int]:
    """Return the seeds of a test: always the same ones, but others than its neighbour's."""
    given: Any = config.getoption("--fault-seed")
    if given is not None:
        return [given]
    runs: Any = config.getoption("--fault-runs")
    digest = hashlib.blake2b(node_id.encode(), digest_size=4).digest()
    first = int.from_bytes(digest, "big")
    return [first + run for run in range(runs)]


@pytest.fixture
def fault_seed(request: pytest.FixtureRequest) -> int:
    """Return a seed; the test is run once for each, see ``--fault-runs``."""
    seed: int = request.param
    return seed


@attrs.frozen(kw_only=True)
class Simulation:
    """Runs an async function under each seed of a test; see ``__call__``."""

    seeds: tuple[int, ...]
    node_id: str

    def __call__(
        self,
        afn: Callable[..., Awaitable[T]],
        *args: Any,
        schedule: Callable[[int], Schedule] | None = None,
        faults: Callable[[int], Faults] | None = None,
        **options: Any,
    ) -> list[Result[T]]:
        """Run ``afn(*args)`` under each seed; return the results, by seed.

        *schedule* and *faults* make their values from the seed; the schedule is
        `Seeded` if not given. The other options are those of `simulate`. The
        first failure is raised, with the command that repeats it.
        """
        from supervisors.testing._schedule import Seeded  # noqa: PLC0415 - see above
        from supervisors.testing._simulate import simulate  # noqa: PLC0415

        results: list[Result[T]] = []
        for seed in self.seeds:
            try:
                result = simulate(
                    afn,
                    *args,
                    schedule=(schedule or Seeded)(seed),
                    seed=seed,
                    faults=None if faults is None else faults(seed),
                    **options,
                )
            except Exception as error:
                command = f"pytest {shlex.quote(self.node_id)} --fault-seed {seed}"
                error.add_note(f"to repeat this test: {command}")
                raise
            results.append(result)
        return results


@pytest.fixture
def simulation(request: pytest.FixtureRequest) -> Simulation:
    """Return a function that runs an async function under each seed of the test.

    The test itself must not be async: each run has a trio loop of its own.
    """
    node_id: str = request.node.nodeid
    if "fault_seed" in request.fixturenames:
        seeds = [request.getfixturevalue("fault_seed")]
    else:
        seeds = _seeds(request.config, node_id)
    return Simulation(seeds=tuple(seeds), node_id=node_id)
