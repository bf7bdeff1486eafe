"""Daemons that are broken on purpose, each in one way: the bench must find out.

A double serves the socket as the daemon would. It really asks the first provider,
so that the fault has its chance, and then tells its client what it should not.
"""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import attrs
import trio

from duckservice.chaos.http_in import AnswerIn, RequestIn
from duckservice.chaos.upstream import words_of
from duckservice.config import keys_of

TYPED = {"error": {"code": "no_available_provider", "message": "nobody could"}}


@attrs.define
class Exchange:
    config: object
    stream: trio.SocketStream
    nonce: str
    is_stream: bool

    @property
    def text(self):
        return "".join(words_of(self.nonce))

    @property
    def providers(self):
        return list(self.config.providers.values())

    async def ask(self, number=0):
        """Ask a provider, and wait a moment for what it says; return its status."""
        its = self.providers[number]
        url = urlsplit(its.base_url)
        # In OpenAI's format, which the upstream goes by, whatever the config says.
        body = json.dumps({"prompt": self.nonce, "stream": self.is_stream}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: up\r\n"
            f"authorization: Bearer {keys_of(its)[0].reveal()}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        answer = AnswerIn()
        try:
            async with await trio.open_tcp_stream(url.hostname, url.port) as up:
                await up.send_all(head.encode() + body)
                with trio.move_on_after(1):
                    await answer.read(up)
        except OSError:
            pass
        return answer.status

    async def reply(self, status, value):
        await self.raw(status, json.dumps(value).encode())

    async def raw(self, status, body, length=None):
        length = len(body) if length is None else length
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n"
        await self.stream.send_all(head.encode() + body)

    async def events(self, *values):
        lines = (v if isinstance(v, str) else json.dumps(v) for v in values)
        await self.raw(200, b"".join(f"data: {line}\n\n".encode() for line in lines))

    async def tell(self, text):
        """Tell the client that *text* is the whole answer."""
        if self.is_stream:
            await self.events(delta(text), delta("", "stop"), "[DONE]")
        else:
            message = {"role": "assistant", "content": text}
            choice = {"message": message, "finish_reason": "stop"}
            await self.reply(200, {"choices": [choice]})


def delta(text, finish=None):
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


def opening(misbehave):
    """Return what opens a daemon that does *misbehave* with every request."""
    return partial(_open, misbehave)


@asynccontextmanager
async def _open(misbehave, config, socket, *, state_dir):
    with trio.socket.socket(trio.socket.AF_UNIX) as listening:
        await listening.bind(str(socket))
        listening.listen()
        async with trio.open_nursery() as nursery:
            serve = partial(_serve, misbehave, config)
            listener = trio.SocketListener(listening)
            await nursery.start(trio.serve_listeners, serve, [listener])
            yield
            nursery.cancel_scope.cancel()


async def _serve(misbehave, config, stream):
    request = RequestIn()
    if not await request.read(stream):
        return
    nonce = re.search(rb"duck-chaos-[0-9a-f]+", request.body)
    is_stream = b'"stream": true' in request.body
    name = "" if nonce is None else nonce[0].decode()
    exchange = Exchange(config, stream, name, is_stream)
    try:
        if name:
            await misbehave(exchange)
        else:
            breakers = {its.name: {"breaker": "open"} for its in exchange.providers}
            await exchange.reply(200, {"providers": breakers})
        await stream.aclose()
    except trio.BrokenResourceError:
        pass


# What goes wrong with single requests.


async def truncates(its):
    """Takes half an answer for a whole one."""
    await its.ask()
    await its.tell("The answer")


async def invents(its):
    await its.ask()
    await its.tell("I do not know.")


async def repeats(its):
    """Sends the beginning, fails over, and sends it all."""
    await its.ask()
    await its.tell("The answer " + its.text)


async def has_no_words(its):
    await its.ask()
    await its.raw(500, b"Internal Server Error")


async def has_a_bug(its):
    await its.ask()
    error = {"error": {"code": "internal_error", "message": "KeyError"}}
    await its.reply(500, error)


async def tells_the_key(its):
    await its.ask()
    key = keys_of(its.providers[0])[0].reveal()
    await its.reply(401, {"error": {"code": "timeout", "message": f"bad: {key}"}})


async def never_gives_up(its):
    for _ in range(5):
        await its.ask()
    await its.reply(503, TYPED)


async def asks_nobody(its):
    await its.reply(503, TYPED)


async def hangs_up(its):
    await its.ask()


async def breaks_off(its):
    """Has begun to say something, and is gone."""
    await its.ask()
    if its.is_stream:
        await its.events(delta("The "))
    else:
        await its.raw(200, b'{"choices": [', length=500)


async def hides_the_error(its):
    """Says that it went well, and in passing that it did not."""
    await its.ask()
    if its.is_stream:
        await its.events(delta("The "), TYPED, "[DONE]")
    else:
        await its.reply(200, TYPED)


async def takes_the_wrong_key(its):
    """Shows the first provider the key of the second."""
    await its.ask()
    first, second = its.providers[:2]
    first, second = (
        attrs.evolve(first, api_key=second.api_key),
        attrs.evolve(second, api_key=first.api_key),
    )
    its.config = attrs.evolve(its.config, providers={"first": first, "second": second})
    await its.ask()
    await its.reply(503, TYPED)


SINGLE = (
    (truncates, "a truncated answer, presented as a whole one"),
    (invents, "a wrong answer, presented as a whole one"),
    (repeats, "a wrong answer, presented as a whole one"),
    (has_no_words, "an untyped error"),
    (has_a_bug, "an internal error, a bug"),
    (tells_the_key, "a key is in the answer"),
    (never_gives_up, "5 calls where "),
    (asks_nobody, "no provider was asked"),
    (hangs_up, "the connection broke without an answer"),
    (breaks_off, ("ended without a word", "a 200 that breaks off")),
    (hides_the_error, ("presented as whole", "events behind", "with status 200")),
    (takes_the_wrong_key, "was shown another one's key"),
)


# What goes wrong under load.


async def never_rests(its):
    """Asks the sick one every time, before it asks who is well."""
    if await its.ask(0) != 200:
        await its.ask(1)
    await its.tell(its.text)


async def never_comes_back(its):
    """Asks nobody any more after the first failures."""
    failures = _failures.setdefault(id(its.config), [])
    if len(failures) < 3:
        if await its.ask(0) == 200:
            await its.tell(its.text)
            return
        failures.append(1)
    await its.reply(503, TYPED)


_failures: dict[int, list[int]] = {}


async def never_closes(its):
    """Is well again; only its breaker says that it is not."""
    if await its.ask(0) == 200:
        await its.tell(its.text)
    else:
        await its.reply(503, TYPED)
