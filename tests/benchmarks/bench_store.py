"""Print how many durable submissions a second the SQLite store takes.

    python -m tests.benchmarks.bench_store [seconds] [--million] [--directory DIR]

Beside it, in the same run, what bare SQLite does with the same rows: a commit for
each, and one commit for as many as there are submitters. Each submitter sends its
next job when the last has been acknowledged, that is when it is on the disk.
``--million`` makes a database with 1,000,000 waiting jobs, and prints what it takes
to open it, and to claim from it, in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import trio

from duckservice.calls.call import Submitter
from duckservice.core.job import Submission, submit
from duckservice.core.job_order import Turns
from duckservice.store.base import Finish, NewJob
from duckservice.store.sqlite import SqliteStore, open_sqlite
from duckservice.store.sqlite_connect import connect_writer
from duckservice.store.sqlite_migrations import migrate
from duckservice.store.sqlite_rows import insert
from duckservice.store.sqlite_session import Session

SUBMITTERS = (1, 16, 256)
MILLION = 1_000_000
REQUEST = b'{"model":"gpt-4o","messages":[{"role":"user","content":"%s"}]}' % (
    b"hello " * 90
)
"""Of 0.6 kB."""
READY_MAX = 2.0
RSS_MAX_MB = 150
SUBMISSIONS_AIM = 30_000
"""A second, with the most submitters."""

_numbers = count(1)


def new_job() -> NewJob:
    submission = Submission(
        kind="chat",
        model="gpt-4o",
        request=REQUEST,
        tags={"team": "core"},
        submitter=Submitter(uid=1000, gid=1000, pid=4711),
    )
    job = submit(submission, id_=f"job_{next(_numbers):026}", now=time.time())
    return NewJob(job=job, request=REQUEST)


def bare(directory: Path, group: int, seconds: float) -> float:
    """Return rows a second, so many in each commit, with nothing else around."""
    path = directory / f"bare-{group}.sqlite3"
    path.touch()
    db = connect_writer(path)
    db.execute("CREATE TABLE job (id TEXT PRIMARY KEY, body BLOB NOT NULL)")
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        db.execute("BEGIN IMMEDIATE")
        for _ in range(group):
            db.execute(
                "INSERT INTO job VALUES (?, ?)", (f"job_{next(_numbers):026}", REQUEST)
            )
        db.execute("COMMIT")
        done += group
    rate = done / (time.perf_counter() - start)
    db.close()
    return rate


def through_the_store(
    directory: Path, submitters: int, seconds: float, *, complete: bool = False
) -> float:
    """Return jobs a second; with *complete*, each is run to its end as well."""

    async def submit_jobs(store: SqliteStore, until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            await store.insert([new_job()])
            done += 1
            if complete:
                (claimed,) = await store.claim(
                    1, time.time(), lease_until=time.time() + 60
                )
                await store.begin_attempt(
                    claimed.lease,
                    provider="p",
                    model="m",
                    reserved=100,
                    now=time.time(),
                )
                await store.end(claimed.lease, Finish(result=REQUEST), time.time())
        return done

    async def main() -> float:
        done = list[int]()

        async def one(store: SqliteStore, until: float) -> None:
            done.append(await submit_jobs(store, until))

        path = directory / f"store-{submitters}-{complete}.sqlite3"
        async with open_sqlite(path) as store:
            start = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for _ in range(submitters):
                    nursery.start_soon(one, store, start + seconds)
            return sum(done) / (time.perf_counter() - start)

    return trio.run(main)


def make_million(path: Path) -> None:
    """Make a database with a million waiting jobs, just as the store does."""
    path.touch(mode=0o600)
    db = connect_writer(path)
    migrate(db, path)
    # Only the making is not durable.
    db.execute("PRAGMA synchronous = OFF")
    session = Session(db, Turns(aging=30.0))
    for _ in range(MILLION // 1000):
        session.begin()
        for _ in range(1000):
            insert(session, new_job())
        session.commit()
    db.close()


def open_million(path: Path) -> None:
    """Print what opening takes; in this process, which has done nothing else."""

    async def main() -> None:
        before = resident_mb()
        start = time.perf_counter()
        async with open_sqlite(path) as store:
            opened = time.perf_counter() - start
            claimed = await store.claim(16, time.time(), lease_until=time.time() + 60)
            first = time.perf_counter() - start
            for one in claimed:
                await store.end(one.lease, Finish(result=b"{}"), time.time())
            start = time.perf_counter()
            for _ in range(100):
                await store.claim(1, time.time(), lease_until=time.time() + 60)
            claim = (time.perf_counter() - start) / 100
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"  open {opened:.2f} s (aim {READY_MAX:.0f}),"
                f" first 16 claimed after {first:.2f} s,"
                f" then {claim * 1e6:.0f} µs a claim;"
                f" peak RSS {peak:.0f} MB (aim {RSS_MAX_MB}), {before:.0f} before"
            )

    trio.run(main)


def resident_mb() -> float:
    """Return this process's resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def report(name: str, run: Callable[[], float], seconds: float) -> None:
    """Print what *run* achieves a second, and the processor's time for each."""
    before = time.process_time()
    rate = run()
    each = (time.process_time() - before) / (rate * seconds)
    print(f"  {name:<42}{rate:>9,.0f}/s{each * 1e6:>8.0f} µs CPU each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=3.0)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.open:
        open_million(asked.open)
        return
    with tempfile.TemporaryDirectory(dir=asked.directory) as directory:
        measure(Path(directory), asked.seconds)
        if asked.million:
            path = Path(directory, "million.sqlite3")
            make_million(path)
            size = path.stat().st_size / 2**20
            print(f"{MILLION:,} waiting jobs, {size:,.0f} MB:")
            command = [sys.executable, "-m", __spec__.name, "--open", str(path)]
            subprocess.run(command, check=True)


def measure(directory: Path, seconds: float) -> None:
    print(
        f"durable submissions of {len(REQUEST)} bytes, SQLite {sqlite3.sqlite_version};"
        f" load {os.getloadavg()[0]:.1f} at the start:"
    )
    for submitters in SUBMITTERS:
        each = "one commit each" if submitters == 1 else f"{submitters} in each commit"
        report(
            f"bare SQLite, {each}",
            partial(bare, directory, submitters, seconds),
            seconds,
        )
        aim = f" (aim {SUBMISSIONS_AIM:,}/s)" if submitters == SUBMITTERS[-1] else ""
        report(
            f"the store, {submitters} submitters{aim}",
            partial(through_the_store, directory, submitters, seconds),
            seconds,
        )
    report(
        "the store, 256 submit, run and complete",
        partial(through_the_store, directory, 256, seconds, complete=True),
        seconds,
    )


if __name__ == "__main__":
    main()
