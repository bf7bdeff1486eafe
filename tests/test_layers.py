"""Arrows between packages point down only, and the pure parts stay pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for top in ("supervisors", "duckservice")
    for path in (ROOT / top).rglob("*.py")
)

#: What runs durable jobs and their batches, in the daemon's process.
JOBS = {"duckservice.batches", "duckservice.jobs"}
ABOVE_THE_CORE = JOBS | {
    "duckservice.actors",
    "duckservice.service",
    "duckservice.running",
    "duckservice.daemon",
    "duckservice.process",
    "duckservice.gateway",
    "duckservice.cli",
    "duckservice.dashboard",
}
IO = {"trio", "httpx", "httpcore", "httptools", "structlog", "starlette"}
#: The engines: whoever keeps something asks for the protocol, `store.base`.
ENGINES = {"sqlite3", "duckservice.store.memory", "duckservice.store.sqlite"}
#: What is above jobs: they neither know who asks for them nor what starts them.
ABOVE_JOBS = {
    "duckservice.cli",
    "duckservice.dashboard",
    "duckservice.daemon",
    "duckservice.process",
    "duckservice.gateway.app",
    "duckservice.gateway.server",
    "duckservice.running",
}
PURE = IO | ENGINES | {"supervisors", "random", "time"}

#: What a file or package must not import.
FORBIDDEN = {
    "supervisors": {"duckservice", "httpx", "structlog"},
    "supervisors/_restart.py": IO,
    "supervisors/_spec.py": IO,
    "duckservice/core": PURE
    | ABOVE_THE_CORE
    | {"duckservice.providers", "duckservice.store"},
    "duckservice/completion.py": IO | {"supervisors"} | ABOVE_THE_CORE,
    "duckservice/errors.py": IO | {"supervisors"} | ABOVE_THE_CORE,
    "duckservice/providers": {"supervisors"} | ABOVE_THE_CORE,
    "duckservice/store": {"httpx", "starlette", "structlog", "supervisors"}
    | ABOVE_THE_CORE
    | {"duckservice.config", "duckservice.providers", "duckservice.tree"},
    "duckservice/store/decisions.py": PURE,
    # A client like any other.
    "duckservice/dashboard": ENGINES
    | {
        "httpx",
        "starlette",
        "supervisors",
        "duckservice.actors",
        "duckservice.daemon",
        "duckservice.gateway.app",
        "duckservice.providers",
        "duckservice.running",
        "duckservice.service",
        "duckservice.store",
    },
    "duckservice/actors": ENGINES
    | JOBS
    | {
        "httpx",
        "duckservice.providers",
        "duckservice.service",
        "duckservice.running",
        "duckservice.gateway",
    },
    **dict.fromkeys(
        ("duckservice/calls", "duckservice/money", "duckservice/service.py"),
        ENGINES | JOBS | {"httpx", "starlette", "duckservice.gateway"},
    ),
    **dict.fromkeys(
        (
            "duckservice/assembly.py",
            "duckservice/batches/as_json.py",
            "duckservice/batches/lines.py",
            "duckservice/batches/result.py",
            "duckservice/batches/values.py",
            "duckservice/cache/as_json.py",
            "duckservice/cache/key.py",
            "duckservice/cache/recording.py",
            "duckservice/cache/reply.py",
            "duckservice/jobs/as_json.py",
            "duckservice/jobs/verdict.py",
        ),
        PURE | ABOVE_JOBS | {"duckservice.actors", "duckservice.service"},
    ),
    **dict.fromkeys(
        (
            "duckservice/batches",
            "duckservice/jobs",
            "duckservice/money",
            "duckservice/store_room.py",
            "duckservice/store_slot.py",
        ),
        ENGINES | ABOVE_JOBS | {"httpx", "starlette", "structlog"},
    ),
    "duckservice/gateway/wire": IO
    | JOBS
    | {"supervisors", "duckservice.service", "duckservice.store"},
    "duckservice/gateway/multipart.py": PURE,
    "duckservice/gateway": ENGINES
    | {
        "httpx",
        "supervisors",
        "duckservice.actors",
        "duckservice.jobs.durable",
        "duckservice.providers",
    },
    "duckservice/cli": {"httpx", "starlette"},
}

#: What may be seen of HTTP clients, and where: one seam, thin enough to replace.
HTTPX_HERE = {"duckservice/providers"}

#: The adapters, which only those import who have what they adapt to.
STRUCTLOG_HERE = {"supervisors/structlog.py"}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_in(where: str, package: str) -> bool:
    return where == package or where.startswith(package + "/")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_down(path: Path) -> None:
    where = path.relative_to(ROOT).as_posix()
    found = set(imports(path))
    for package, banned in FORBIDDEN.items():
        if is_in(where, package):
            hits = {
                name
                for name in found
                for ban in banned
                if name == ban or name.startswith(ban + ".")
            }
            if where in STRUCTLOG_HERE:
                hits -= {name for name in hits if name.startswith("structlog")}
            assert not hits, f"{package} must not import {sorted(hits)}"
    if not any(is_in(where, package) for package in HTTPX_HERE):
        assert not {n for n in found if n.split(".")[0] == "httpx"}, (
            "httpx has one home"
        )


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_says_first_what_it_is_for(path: Path) -> None:
    if path.name == "__init__.py" and not path.read_text().strip():
        return
    docstring = ast.get_docstring(parsed(path))
    assert docstring, "the first line of a file says its one responsibility"


def test_the_table_names_nothing_that_is_not_there() -> None:
    for package in FORBIDDEN:
        assert (ROOT / package).exists(), f"{package} is gone"
