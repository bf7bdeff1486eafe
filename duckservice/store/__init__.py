"""Where the store's engines are opened, by the URL of the config."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from duckservice.store.base import Store

DATABASE = "jobs.sqlite3"
"""The file in the state directory, where the URL is just ``sqlite``."""


class UnknownStore(ValueError):
    """The URL names no engine that this version has."""


@asynccontextmanager
async def open_store(
    url: str, *, state_dir: Path, aging: float = 30.0
) -> AsyncGenerator[Store]:
    """Open the store of *url* for the length of a block.

    ``memory`` forgets all at the block's end; ``sqlite`` is a file in *state_dir*,
    ``sqlite:///path`` is the file ``/path``: a daemon has no directory that others
    would be relative to. After *aging* seconds a waiting job rises by one class.

    Raises:
        UnknownStore: the URL names no engine that this version has.
        StoreUnavailable: it cannot be opened, or is in use.
    """
    path = sqlite_path(url, state_dir)
    if path is not None:
        from duckservice.store.sqlite import open_sqlite  # noqa: PLC0415 (start fast)

        async with open_sqlite(path, aging=aging) as store:
            yield store
    else:
        from duckservice.store.memory import open_memory  # noqa: PLC0415

        async with open_memory(aging=aging) as store:
            yield store


def sqlite_path(url: str, state_dir: Path) -> Path | None:
    """Return the database's file; None if *url* names the memory.

    Raises:
        UnknownStore: the URL names no engine that this version has.
    """
    if url == "memory":
        return None
    if url == "sqlite":
        return state_dir / DATABASE
    scheme, slashes, rest = url.partition(":///")
    if scheme == "sqlite" and slashes and rest:
        return Path("/" + rest.lstrip("/"))
    # Only the scheme is quoted: a URL of a database may hold its password.
    engine = url.partition(":")[0]
    if engine in ("postgresql", "postgres"):
        msg = "store.url: this version has no PostgreSQL; use sqlite or sqlite:///path"
    else:
        msg = (
            f"store.url: there is no engine {engine!r};"
            " use sqlite, sqlite:///path or memory"
        )
    raise UnknownStore(msg)
