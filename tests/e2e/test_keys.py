"""Several keys, and keys that change, through a whole daemon and a real upstream.

The upstream knows its clients by their keys, as a provider does: a script for each
key says what a request with it gets.
"""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from duckservice.config import (
    AuthConfig,
    CacheConfig,
    Config,
    ConfigError,
    PriceConfig,
    RetryConfig,
    Secret,
    load,
)
from tests.e2e.process import starting
from tests.e2e.running import CHAT, json_answer, open_duck, openai_chat, post, provider
from tests.upstream import Upstream, open_upstream

A, B, C = (f"canary-key-{name}-7f3a9c51d2e8" + name * 4 for name in "abc")
ASK = {"model": "gpt-x", "messages": [{"role": "user", "content": "hello"}]}
OK = json_answer(openai_chat())


def refused(code, status, *headers, **more) -> bytes:
    error = {"message": f"no: {code}", "code": code, **more}
    return json_answer({"error": error}, *headers, status=b"%d x" % status)


BAD_KEY = refused("invalid_api_key", 401)
LIMITED = refused("rate_limit_exceeded", 429, b"retry-after: 30")
NO_MONEY = refused("insufficient_quota", 429)
FORBIDDEN = refused("model_forbidden", 403)


@attrs.define
class ByKey:
    """A script that is written as the requests come: by the key that they carry."""

    answers: dict[str, bytes]
    upstream: Upstream | None = None

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, number: int):
        its = self.answers.get(self.keys[number], BAD_KEY)
        return its if isinstance(its, list) else [its]

    @property
    def keys(self) -> list[str]:
        """The keys of the requests so far."""
        headers = ("authorization", "x-api-key")
        return [
            next(filter(None, map(request.header, headers))).removeprefix("Bearer ")
            for request in self.upstream.requests
        ]


@asynccontextmanager
async def by_key(**answers):
    """Run an upstream; *answers* are what the keys A, B and C get."""
    named = {"A": A, "B": B, "C": C}
    script = ByKey({named[name]: its for name, its in answers.items()})
    async with open_upstream(script, limit=60.0) as script.upstream:
        yield script


def with_keys(its: ByKey, *keys: str, **more):
    fields = {"api_key": None, "api_keys": tuple(map(Secret, keys)), **more}
    return provider("up", fields.pop("adapter", "openai"), its.upstream, **fields)


async def keys_of(duck) -> list[tuple[str, str]]:
    [its] = (await duck.get("/v1/providers"))["providers"]
    return [(key["key"], key["state"]) for key in its["keys"]]


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (BAD_KEY, "refused"),
        (LIMITED, "limited"),
        (NO_MONEY, "used_up"),
        (FORBIDDEN, "forbidden"),
    ],
)
async def test_a_request_whose_key_is_refused_is_served_with_the_next(said, state):
    async with by_key(A=said, B=OK) as up, open_duck(with_keys(up, A, B)) as duck:
        for _ in range(3):
            reply = await duck.post(CHAT, ASK)
            assert reply.status == 200
            assert reply.headers["duck-attempts"] == "1"
        assert up.keys == [A, B, B, B], "the bad key is left alone from then on"
        assert await keys_of(duck) == [("…aaaa", state), ("…bbbb", "ok")]
        [its] = (await duck.get("/v1/providers"))["providers"]
        assert its["breaker"] == "closed"
        assert its["limiter"]["blocked_s"] is None, "the provider is not held up"
        [event] = duck.events("provider.key_set_aside")
        assert (event["key"], event["why"]) == ("…aaaa", state)
        assert "canary" not in duck.written.getvalue()


async def test_a_stream_and_a_count_and_a_health_check_take_the_next_key_as_well():
    async with (
        by_key(A=BAD_KEY, B=json_answer({"input_tokens": 3})) as up,
        open_duck(with_keys(up, A, B, adapter="anthropic")) as duck,
    ):
        body = {**ASK, "max_tokens": 5}
        reply = await duck.post("/v1/messages/count_tokens", body)
        assert reply.json() == {"input_tokens": 3}
        checked = await duck.post("/v1/providers/up/check")
        assert checked.json()["keys"][0]["state"] == "refused"
        assert up.keys == [A, B, B]


async def test_many_requests_at_once_outlive_a_key_that_is_revoked_under_them():
    async with by_key(A=BAD_KEY, B=OK) as up, open_duck(with_keys(up, A, B)) as duck:
        replies = []

        async def ask():
            replies.append((await duck.post(CHAT, ASK)).status)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
        assert replies == [200] * 50
        assert up.keys.count(B) == 50


@pytest.mark.parametrize(
    ("a", "b", "status", "code", "wait"),
    [
        (BAD_KEY, BAD_KEY, 401, "provider_auth_error", None),
        (NO_MONEY, NO_MONEY, 429, "quota_exceeded", None),
        (LIMITED, LIMITED, 429, "rate_limited", "30"),
        (LIMITED, BAD_KEY, 429, "rate_limited", "30"),
        (BAD_KEY, LIMITED, 429, "rate_limited", "30"),
    ],
)
async def test_where_every_key_is_refused_the_error_says_what_would_help(
    a, b, status, code, wait
):
    async with (
        by_key(A=a, B=b) as up,
        open_duck(with_keys(up, A, B), retry=RetryConfig(max_attempts=1)) as duck,
    ):
        reply = await duck.post(CHAT, ASK)
        assert (reply.status, reply.code) == (status, code)
        assert reply.headers.get("retry-after") == wait
        assert up.keys == [A, B], "each is asked once"
        assert b"canary" not in reply.body


async def test_a_prompt_that_is_refused_tries_no_other_key():
    bad = refused("invalid_value", 400)
    async with by_key(A=bad, B=OK) as up, open_duck(with_keys(up, A, B)) as duck:
        assert (await duck.post(CHAT, ASK)).status == 400
        assert up.keys == [A]
        assert await keys_of(duck) == [("…aaaa", "ok"), ("…bbbb", "ok")]


async def test_a_key_that_an_answer_echoes_is_masked_whichever_it_is():
    echo = json_answer(openai_chat(f"your keys are {A} and {B}"))
    async with by_key(A=BAD_KEY, B=echo) as up, open_duck(with_keys(up, A, B)) as duck:
        reply = await duck.post(CHAT, ASK)
        assert reply.status == 200
        assert b"canary" not in reply.body


# Tokens


async def test_a_refused_token_is_replaced_within_the_request_and_masked():
    tokens = [f"canary-token-{n}-0123456789abcdef" for n in range(3)]
    given = [
        [json_answer({"access_token": token, "expires_in": 3599})] for token in tokens
    ]
    async with open_upstream(given) as login, by_key() as up:
        up.answers = {tokens[1]: json_answer(openai_chat(f"I saw {tokens[1]}"))}
        auth = AuthConfig(
            type="oauth2",
            token_url=login.base_url,
            client_id="duck",
            client_secret=Secret("canary-secret-0123456789"),
        )
        async with open_duck(with_keys(up, auth=auth)) as duck:
            for _ in range(2):
                reply = await duck.post(CHAT, ASK)
                assert reply.status == 200
                assert b"canary" not in reply.body
            up.answers = {}
            reply = await duck.post(CHAT, ASK)
            assert (reply.status, reply.code) == (401, "provider_auth_error")
            assert "canary" not in duck.written.getvalue()
        assert up.keys == [tokens[0], tokens[1], tokens[1], tokens[1]]
        assert len(login.requests) == 2, "a new token that is refused is not replaced"


# Reload


@attrs.define
class File:
    """A config file that changes."""

    config: Config

    def read(self) -> Config:
        return self.config


@asynccontextmanager
async def reloading(*providers, **more):
    """Run a daemon that reads its config again."""
    async with open_duck(*providers, **more) as duck:
        file = File(duck.daemon.service.config)
        duck.daemon.read_config = lambda: file.config
        yield duck, file


def changed(file, **fields) -> None:
    its = attrs.evolve(file.config.providers["up"], **fields)
    file.config = attrs.evolve(file.config, providers={"up": its})


async def reload(duck):
    reply = await duck.post("/v1/reload")
    assert reply.status == 200, reply
    return reply.json()


async def test_a_new_key_is_taken_over_and_what_is_under_way_keeps_its_own():
    gate = trio.Event()
    async with (
        by_key(A=[gate, OK], B=OK) as up,
        reloading(with_keys(up, api_key=Secret(A))) as (duck, file),
    ):
        replies = []

        async def ask():
            replies.append((await duck.post(CHAT, ASK)).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await up.upstream.wait_for_requests(1)
            changed(file, api_key=Secret(B))
            answer = await reload(duck)
            assert answer["changed"] == ["providers.up.api_key"]
            assert answer["needs_restart"] == []
            await ask()
            gate.set()
        assert replies == [200, 200]
        assert up.keys == [A, B]
        assert await reload(duck) == {
            "changed": [],
            "added": [],
            "removed": [],
            "needs_restart": [],
            "warnings": [],
        }
        assert "canary" not in duck.written.getvalue()


async def test_a_new_key_uses_the_connections_that_are_there():
    async with (
        by_key(A=OK, B=OK) as up,
        reloading(with_keys(up, api_key=Secret(A))) as (duck, file),
    ):
        await duck.post(CHAT, ASK)
        changed(file, api_key=Secret(B))
        await reload(duck)
        await duck.post(CHAT, ASK)
        assert up.keys == [A, B]
        assert up.upstream.connections == 1


async def test_headers_and_prices_are_taken_over_as_well():
    async with (
        by_key(A=OK) as up,
        reloading(with_keys(up, api_key=Secret(A))) as (duck, file),
    ):
        before = (await duck.post(CHAT, ASK)).headers["duck-cost-usd"]
        changed(
            file, headers={"X-Team": "core"}, price=PriceConfig(input="20", output="80")
        )
        answer = await reload(duck)
        assert answer["changed"] == ["providers.up.headers", "providers.up.price"]
        after = (await duck.post(CHAT, ASK)).headers["duck-cost-usd"]
        assert float(after) == pytest.approx(10 * float(before))
        assert up.upstream.requests[1].header("x-team") == "core"


async def test_a_crash_of_the_client_does_not_bring_the_old_key_back():
    async with (
        by_key(A=OK, B=OK) as up,
        reloading(with_keys(up, api_key=Secret(A)), may_crash=True) as (duck, file),
    ):
        changed(file, api_key=Secret(B))
        await reload(duck)
        await duck.restart("providers/up/client")
        while (await duck.post(CHAT, ASK)).status != 200:  # noqa: ASYNC110 - no event tells
            await trio.sleep(0.01)
        assert set(up.keys) == {B}


async def test_what_needs_a_restart_is_named_and_left_as_it_is():
    async with (
        by_key(A=OK, B=OK) as up,
        reloading(with_keys(up, api_key=Secret(A))) as (duck, file),
    ):
        changed(file, api_key=Secret(B))
        file.config = attrs.evolve(file.config, cache=CacheConfig(enabled=True))
        for expected in (["providers.up.api_key"], []):
            answer = await reload(duck)
            assert answer["changed"] == expected
            assert answer["needs_restart"] == ["cache.enabled"]
        for _ in range(2):
            assert (await duck.post(CHAT, ASK)).headers["duck-cache"] == "miss"
        assert up.keys == [B, B]


async def test_a_new_key_for_another_address_is_not_sent_to_the_old_one():
    async with (
        by_key(A=OK) as up,
        by_key(B=OK) as elsewhere,
        reloading(with_keys(up, api_key=Secret(A))) as (duck, file),
    ):
        await duck.post(CHAT, ASK)
        url = f"{elsewhere.upstream.base_url}/v1"
        changed(file, api_key=Secret(B), base_url=url)
        answer = await reload(duck)
        assert answer["changed"] == ["providers.up.api_key", "providers.up.base_url"]
        await duck.post(CHAT, ASK)
        assert (up.keys, elsewhere.keys) == ([A], [B])


async def test_a_config_that_is_refused_changes_nothing():
    async with (
        by_key(A=OK) as up,
        reloading(with_keys(up, api_key=Secret(A))) as (duck, file),
    ):

        def fails():
            return load(None, {}) if file.config.is_default else parse_error()

        def parse_error():
            from duckservice.config import Complaint

            bad = Complaint(file="c.toml", key="retry.x", found="this", allowed="that")
            raise ConfigError([bad])

        duck.daemon.read_config = fails
        reply = await duck.post("/v1/reload")
        assert (reply.status, reply.code) == (400, "invalid_request")
        assert "c.toml: retry.x: found this" in reply.json()["error"]["message"]
        duck.daemon.read_config = Config.default
        reply = await duck.post("/v1/reload")
        assert "no config file any more" in reply.json()["error"]["message"]
        duck.daemon.read_config = file.read
        changed(file, api_key=Secret(B + "\n"))
        reply = await duck.post("/v1/reload")
        assert reply.status == 400
        assert b"canary" not in reply.body
        assert (await duck.post(CHAT, ASK)).status == 200
        assert up.keys == [A]


async def test_what_reads_no_config_cannot_reload():
    async with by_key() as up, open_duck(with_keys(up, A)) as duck:
        reply = await duck.post("/v1/reload")
        assert (reply.status, reply.code) == (400, "invalid_request")


async def test_sighup_takes_over_a_key_file_that_was_rewritten(tmp_path):
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(A + "\n")
    async with by_key(A=OK, B=OK) as up:
        text = f"""
            [providers.up]
            adapter = "openai-compatible"
            base_url = "{up.upstream.base_url}/v1"
            api_key = "file:{key}"
            [log]
            format = "json"
        """
        async with starting(tmp_path, text) as daemon:
            ask = post(CHAT, {**ASK, "model": "some-model"})
            async with daemon.connection() as client:
                assert (await client.ask(ask)).status == 200
            key.write_text(B + "\n")
            daemon.signal(signal.SIGHUP)
            event = await daemon.wait_for("daemon.reloaded")
            assert event["changed"] == ["providers.up.api_key"]
            async with daemon.connection() as client:
                assert (await client.ask(ask)).status == 200
            key.write_text("a key with blanks\n")
            daemon.signal(signal.SIGHUP)
            event = await daemon.wait_for("daemon.reload_refused")
            assert "providers.up.api_key" in event["message"]
            assert b"canary" not in daemon.stderr
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == 0
        assert up.keys == [A, B]
