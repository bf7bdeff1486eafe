"""Makes the database file that keeps one schema version's look for ever.

    python -m tests.store.make_fixture

Once, when a version is new and before it is released: a file that is there already
is not touched. `prepare` fills it, and `test_sqlite_migrations` knows what is in it;
what a later version adds, a later fixture shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from duckservice.store.base import Batch, LedgerEntry, StoredFile
from duckservice.store.sqlite import open_sqlite
from duckservice.store.sqlite_migrations import VERSION

from .conformance import NOW
from .crash_child import prepare

FIXTURES = Path(__file__).with_name("fixtures")


async def fill(path: Path) -> None:
    async with open_sqlite(path) as store:
        await prepare(store)
        await store.set_flag("paused", "yes")
        entry = LedgerEntry(
            id="entry", provider="p", model="m", submitter=7, at=NOW, reserved=5
        )
        await store.record([entry])
        await store.create_file(
            StoredFile(id="file", name="in.jsonl", purpose="batch", created_at=NOW)
        )
        await store.append_to_file("file", b"line 1\n")
        await store.append_to_file("file", b"line 2\n")
        await store.create_batch(
            Batch(id="batch", created_at=NOW, status="in_progress", input_file="file")
        )
        await store.update_batch(await store.get_batch("batch"))


def main() -> None:
    path = FIXTURES / f"version-{VERSION:04}.sqlite3"
    if path.exists():
        sys.exit(f"{path} is there, and is kept for ever")
    FIXTURES.mkdir(exist_ok=True)
    trio.run(fill, path)
    path.with_name(path.name + ".lock").unlink()


if __name__ == "__main__":
    main()
