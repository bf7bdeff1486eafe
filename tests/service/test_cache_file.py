"""What `cache.persist` promises: replies outlive the daemon, and are never in the way."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random

import attrs
import pytest
import trio

from duckservice.cache.file import RESTARTS_MAX
from duckservice.cache.key import key_of
from duckservice.cache.replies import ANSWERS_ANYWAY, _served_by
from duckservice.calls.call import CallOptions
from duckservice.config import (
    AuthConfig,
    CacheConfig,
    PriceConfig,
    ProviderConfig,
    Secret,
)
from duckservice.events import CacheFileFailed
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockReply, MockScript
from duckservice.running import open_running
from duckservice.tree import Seams

from .conftest import chat, mock_config

START = 1_000_000.0


@attrs.define
class Daemon:
    """One life of a daemon over a state directory, and its wall clock."""

    state_dir: Path
    now: float = START
    events: list = attrs.field(factory=list)
    lives: int = 0

    @property
    def file(self) -> Path:
        return self.state_dir / "cache.db"

    @property
    def failures(self) -> list[str]:
        return [e.reason for e in self.events if isinstance(e, CacheFileFailed)]

    @asynccontextmanager
    async def life(self, config=None, **cache):
        """Each call of each life has an answer of its own."""
        self.lives += 1
        its = {"enabled": True, "persist": True, "ttl": 60.0} | cache
        config = attrs.evolve(config or mock_config("a"), cache=CacheConfig(**its))
        replies = tuple(MockReply(text=f"{self.lives}.{n}") for n in range(1, 200))
        seams = Seams(
            random=Random(1), wall_clock=lambda: self.now, emit=self.events.append
        )
        async with open_running(
            config,
            providers={
                name: MockProvider(name, MockScript(replies=replies))
                for name in config.providers
            },
            seams=seams,
            state_dir=self.state_dir,
        ) as service:
            await ready(service)
            yield service


async def ready(service) -> None:
    """Wait for the file to be open, or to be given up."""
    its = service._cache.file
    with trio.move_on_after(2):
        while its is not None and its.in_use is None:  # noqa: ASYNC110 - no event tells
            await trio.sleep(0.005)


async def written(service) -> None:
    """Wait for all that was asked for to be on the disk."""
    with trio.fail_after(5):
        while service._cache.file.waiting:  # noqa: ASYNC110 - no event tells
            await trio.sleep(0.005)


async def told(service, request=None, options=None) -> str:
    return (await service.complete(request or chat(), options)).value.text


@pytest.fixture
def daemon(tmp_path) -> Daemon:
    return Daemon(tmp_path / "state")


async def test_a_reply_outlives_the_daemon(daemon) -> None:
    async with daemon.life() as service:
        assert await told(service) == "1.1"
    async with daemon.life() as service:
        answer = await service.complete(chat())
        assert answer.value.text == "1.1"
        assert (answer.report.cache, answer.report.provider) == ("hit", "a")
    assert daemon.failures == []


async def test_streams_and_embeddings_do_too(daemon) -> None:
    async with daemon.life() as service, service.stream(chat("x")) as first:
        before = [chunk async for batch in first.batches for chunk in batch]
    async with daemon.life() as service, service.stream(chat("x")) as second:
        assert second.report.cache == "hit"
        after = [chunk async for batch in second.batches for chunk in batch]
        assert text_of(after) == text_of(before)
        assert after[-1] == before[-1], "the usage"


def text_of(chunks) -> str:
    return "".join(getattr(chunk, "text", "") for chunk in chunks)


async def test_the_time_it_is_kept_goes_on_while_no_daemon_runs(daemon) -> None:
    async with daemon.life() as service:
        await told(service)
    daemon.now += 59.9
    async with daemon.life() as service:
        assert await told(service) == "1.1"
    daemon.now += 0.1
    async with daemon.life() as service:
        assert await told(service) == "3.1"


async def test_what_is_left_of_its_time_holds_in_memory_too(daemon) -> None:
    async with daemon.life(ttl=0.5) as service:
        await told(service)
    daemon.now += 0.45
    async with daemon.life(ttl=0.5) as service:
        assert await told(service) == "1.1"
        await trio.sleep(0.1)
        daemon.now += 0.1
        assert await told(service) == "2.1"


async def test_a_clock_that_was_set_back_keeps_nothing_longer(daemon) -> None:
    async with daemon.life(ttl=0.2) as service:
        await told(service)
    daemon.now -= 86_400
    async with daemon.life(ttl=0.2) as service:
        assert await told(service) == "1.1"
        await trio.sleep(0.25)
        daemon.now += 86_400 + 0.25
        assert await told(service) == "2.1"


async def test_a_refreshed_reply_replaces_the_one_on_the_disk(daemon) -> None:
    async with daemon.life() as service:
        await told(service)
        await written(service)
        assert await told(service, options=CallOptions(cache="refresh")) == "1.2"
    async with daemon.life() as service:
        assert await told(service) == "1.2"


async def test_the_file_holds_no_more_than_the_limits_say(daemon) -> None:
    async with daemon.life(max_entries=3) as service:
        # "a" is used again, though from memory: so "b" is the one used longest ago.
        for text in "abcad":
            await told(service, chat(text))
            await written(service)
        kept = [await service._cache.file.get(key_of(chat(text))) for text in "abcd"]
        assert [its is not None for its in kept] == [True, False, True, True]
        # To look for it was a use, too: now "a" is.
        await told(service, chat("e"))
        await written(service)
        kept = [await service._cache.file.get(key_of(chat(text))) for text in "ac"]
        assert [its is not None for its in kept] == [False, True]


async def test_the_bytes_in_the_file_are_limited_too(daemon) -> None:
    async with daemon.life(max_bytes=6_000) as service:
        for text in "abcdefghij":
            await told(service, chat(text))
        await written(service)
    with closing(sqlite3.connect(daemon.file)) as db:
        (size, count) = db.execute(
            "SELECT sum(length(body)), count(*) FROM reply"
        ).fetchone()
    assert 0 < size <= 6_000
    assert count > 1


async def test_what_is_over_leaves_the_file(daemon) -> None:
    async with daemon.life() as service:
        await told(service, chat("x"))
        await written(service)
        daemon.now += 61
        await told(service, chat("y"))
    with closing(sqlite3.connect(daemon.file)) as db:
        assert db.execute("SELECT count(*) FROM reply").fetchone() == (1,)


OTHERS = {
    "name": "b",
    "adapter": "openai",
    "api": "responses",
    "api_version": "v",
    "organization": "o",
    "project": "p",
    "location": "l",
    "region": "r",
    "base_url": "https://x",
    "models": ("m",),
    "model_map": {"mock-1": "m"},
    "leave_out": ("seed",),
    "priority": 7,
    "weight": 7,
    "headers": {"X-Tier": "gold"},
    "price": PriceConfig(input="1", output="1"),
}


def test_whatever_of_a_provider_may_change_an_answer_is_in_the_digest() -> None:
    names = {field.name for field in attrs.fields(ProviderConfig)}
    assert names == OTHERS.keys() | ANSWERS_ANYWAY


@pytest.mark.parametrize("field", OTHERS)
def test_another_of_it_is_another_provider(field) -> None:
    config = mock_config("a")
    its = attrs.evolve(config.providers["a"], **{field: OTHERS[field]})
    other = attrs.evolve(config, providers={"a": its})
    assert _served_by(other) != _served_by(config)


def test_headers_differ_by_their_values_and_keys_do_not_matter() -> None:
    config = mock_config("a")

    def served(**fields) -> bytes:
        its = attrs.evolve(config.providers["a"], **fields)
        return _served_by(attrs.evolve(config, providers={"a": its}))

    assert served(headers={"X": "1"}) != served(headers={"X": "2"})
    assert served(headers={"X": "1", "Y": "2"}) == served(headers={"y": "2", "x": "1"})
    assert served(api_key=Secret("a")) == served(api_key=Secret("b"))
    one, other, third = (
        AuthConfig(type="oauth2", client_id=id_, client_secret=Secret(secret))
        for id_, secret in (("x", "1"), ("x", "2"), ("y", "1"))
    )
    assert served(auth=one) == served(auth=other) != served(auth=third)
    assert served(model_map={"a*": "x", "ab": "y"}) != served(
        model_map={"ab": "y", "a*": "x"}
    )


async def test_no_secret_header_is_written_to_the_file(daemon) -> None:
    its = mock_config("a", headers={"X-Token": "s3cret-s3cret"})
    async with daemon.life(its) as service:
        await told(service)
        await written(service)
    for path in daemon.state_dir.iterdir():
        assert b"s3cret" not in path.read_bytes()


async def test_replies_of_other_providers_are_forgotten(daemon) -> None:
    async with daemon.life() as service:
        await told(service)
    async with daemon.life(mock_config("a", "b")) as service:
        assert await told(service) == "2.1"


async def test_nobody_else_can_read_the_file_and_no_key_is_in_it(daemon) -> None:
    async with daemon.life() as service:
        await told(service)
        await written(service)
        for path in daemon.state_dir.glob("cache.db*"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(daemon.state_dir.stat().st_mode) == 0o700


def overwrite(path: Path, at: int, what: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(what)


DAMAGES = {
    "no database": lambda path: path.write_bytes(b"quack" * 2000),
    "cut off": lambda path: os.truncate(path, 5000),
    "empty": lambda path: os.truncate(path, 0),
    "header": lambda path: overwrite(path, 0, b"x" * 16),
    "the middle": lambda path: overwrite(path, 4096, b"\xff" * 12_000),
    "a text": lambda path: path.write_bytes(path.read_bytes().replace(b"1.1", b"9.9")),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_is_as_good_as_an_empty_one(damage, daemon) -> None:
    async with daemon.life() as service:
        await told(service)
    DAMAGES[damage](daemon.file)
    async with daemon.life() as service:
        assert await told(service) == "2.1"
        assert await told(service) == "2.1"
        await written(service)
    if damage not in ("empty", "a text"):
        assert "replaced by an empty one" in daemon.failures[0]
    async with daemon.life() as service:
        assert await told(service) == "2.1", "and it is of use again"
    assert len(daemon.failures) <= 1


async def test_a_file_that_is_damaged_while_in_use_fails_no_request(daemon) -> None:
    async with daemon.life() as service:
        for number in range(30):
            await told(service, chat(f"{number}" * 500))
        await written(service)
        with closing(sqlite3.connect(daemon.file)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        overwrite(daemon.file, 0, b"\xff" * daemon.file.stat().st_size)
        for number in range(30, 60):
            await told(service, chat(f"{number}" * 500))
            await written(service)
    assert all("replaced by an empty one" in its for its in daemon.failures)


async def test_a_file_that_fails_again_and_again_is_left_alone(
    daemon, monkeypatch
) -> None:
    def fail(*_):
        raise sqlite3.OperationalError("disk I/O error")

    async with daemon.life() as service:
        monkeypatch.setattr("duckservice.cache.table.CacheTable.put", fail)
        for number in range(RESTARTS_MAX + 3):
            assert await told(service, chat(str(number))) == f"1.{number + 1}"
            await written(service)
        await told(service, chat("0"))
    assert len(daemon.failures) == RESTARTS_MAX + 1
    assert "left alone" in daemon.failures[-1]


async def test_a_place_that_cannot_be_used_is_told_and_memory_does(daemon) -> None:
    daemon.file.mkdir(parents=True, mode=0o700)
    daemon.state_dir.chmod(0o700)
    async with daemon.life() as service:
        assert await told(service) == "1.1"
        assert await told(service) == "1.1"
    (failure,) = daemon.failures
    assert failure.startswith("it is not used: ")


async def test_two_daemons_never_share_a_file(daemon) -> None:
    other = Daemon(daemon.state_dir)
    config = attrs.evolve(
        mock_config("a"), store=attrs.evolve(mock_config("a").store, url="memory")
    )
    async with daemon.life(config) as first, other.life(config) as second:
        await told(first)
        assert await told(second) == "1.1"
        assert "in use by process" in other.failures[0]


async def test_a_crash_of_the_file_s_part_loses_no_reply(daemon) -> None:
    async with daemon.life() as service:
        await told(service)
        await service.restart_actor("cache_file")
        await ready(service)
        assert await told(service) == "1.1"
    async with daemon.life() as service:
        assert await told(service) == "1.1"


async def test_a_disk_that_takes_too_long_is_not_waited_for(
    daemon, monkeypatch
) -> None:
    async with daemon.life() as service:
        await told(service)
    gate = threading.Event()
    async with daemon.life() as service:
        monkeypatch.setattr(
            "duckservice.cache.table.CacheTable.get", lambda *_: gate.wait(5)
        )
        try:
            with trio.fail_after(2):
                assert await told(service) == "2.1"
        finally:
            gate.set()


async def test_nobody_waits_for_what_is_not_in_the_file(daemon, monkeypatch) -> None:
    async with daemon.life() as service:
        await told(service, chat("x"))
    async with daemon.life() as service:
        looked = []
        monkeypatch.setattr(
            "duckservice.cache.table.CacheTable.get", lambda *its: looked.append(its)
        )
        await told(service, chat("y"))
        assert looked == []
        await told(service, chat("x"))
        assert len(looked) == 1


async def test_what_is_about_to_be_replaced_is_not_read_from_the_file(daemon) -> None:
    async with daemon.life() as service:
        await told(service)
        await written(service)
        file, key = service._cache.file, key_of(chat())
        found = await file.get(key)
        assert found is not None
        file.put(key, found.kept)
        assert await file.get(key) is None
        await written(service)
        file.remove(key)
        assert await file.get(key) is None


async def test_what_waits_to_be_written_is_bounded(daemon, monkeypatch) -> None:
    monkeypatch.setattr("duckservice.cache.file.WAITING_MAX", 3)
    async with daemon.life() as service:
        for text in "abcde":
            await told(service, chat(text))
        assert service._cache.file.waiting == 3
        assert service._cache.file.left_out == 2
        assert (await service.complete(chat("e"))).report.cache == "hit"


async def test_without_a_state_directory_memory_does(autojump_clock) -> None:
    config = attrs.evolve(
        mock_config("a"), cache=CacheConfig(enabled=True, persist=True)
    )
    async with open_running(config, providers={"a": MockProvider("a")}) as service:
        await service.complete(chat())
        assert (await service.complete(chat())).report.cache == "hit"
