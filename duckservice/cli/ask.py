"""`duck ask`: one question, its answer streamed to stdout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from duckservice.cli import chat_request
from duckservice.cli.exits import FAILED, OK, USAGE, Exit, status_of
from duckservice.cli.reply import ReplyPrinter, text_of
from duckservice.cli.session import Session
from duckservice.cli.text import count, money

_TARGET = "/v1/chat/completions"
_STDIN = "-"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the prompt and what may be said about it."""
    parser.add_argument(
        "prompt",
        nargs="*",
        help='the prompt; "-" stands for what comes on stdin, which follows the rest',
    )
    chat_request.arguments(parser)
    parser.add_argument(
        "--cache",
        choices=("off", "refresh"),
        help="off: leave the daemon's cache alone; refresh: put a new reply into it",
    )
    parser.add_argument(
        "--no-stream", action="store_true", help="print the reply when it is complete"
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="print provider, tokens and cost on stderr, also off a terminal",
    )


def run(session: Session) -> int:
    """Ask, print the reply, and then what it took."""
    options = session.options
    prompt = _prompt(session)
    model = options.model or chat_request.first_model(session)
    body = {"model": model} | chat_request.chat(options, prompt)
    said = {"Duck-Priority": options.priority, "Duck-Cache": options.cache}
    headers = {name: value for name, value in said.items() if value}
    if options.json or options.no_stream:
        return _whole(session, body, headers)
    return _streamed(session, body, headers)


def _prompt(session: Session) -> str:
    words: list[str] = session.options.prompt
    said = " ".join(word for word in words if word != _STDIN)
    # Without any prompt, a pipe is one; a terminal would wait without a word.
    wants_stdin = _STDIN in words or (not words and not _asks_a_person())
    piped = _stdin() if wants_stdin else ""
    prompt = "\n\n".join(part for part in (said, piped) if part.strip())
    if not prompt:
        raise Exit(
            'ask what? `duck ask "a question"`, or `duck ask -` for stdin', USAGE
        )
    return prompt


def _asks_a_person() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _stdin() -> str:
    if sys.stdin is None:
        return ""
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise Exit("stdin is not UTF-8 text", USAGE) from error


def _whole(session: Session, body: dict[str, Any], headers: Mapping[str, str]) -> int:
    answer = session.request("POST", _TARGET, body, headers)
    reply = answer.json()
    if session.options.json:
        session.out.json(reply)
        return OK
    printer = ReplyPrinter(session.out)
    printer.feed(text_of(reply["choices"][0]["message"]))
    printer.finish()
    _account(session, reply.get("usage"), answer.headers)
    return OK


def _streamed(
    session: Session, body: dict[str, Any], headers: Mapping[str, str]
) -> int:
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    head: dict[str, str] = {}
    printer = ReplyPrinter(session.out)
    usage: Mapping[str, Any] | None = None
    for data in session.stream(_TARGET, body, headers, head.update):
        if data == "[DONE]":
            printer.finish()
            _account(session, usage, head)
            return OK
        chunk = json.loads(data)
        if error := chunk.get("error"):
            printer.finish()
            code = str(error.get("code"))
            raise Exit(f"{error.get('message')} ({code})", status_of(code))
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            printer.feed(text_of(choice["delta"]))
    printer.finish()
    raise Exit("the reply broke off", FAILED)


def _account(
    session: Session, usage: Mapping[str, Any] | None, headers: Mapping[str, str]
) -> None:
    """Say on stderr who answered, and what it took."""
    if not (session.options.verbose or session.out.stderr.isatty()):
        return
    parts = [headers.get("duck-provider", "")]
    if usage:
        tokens = f"{count(usage['prompt_tokens'])} in, {count(usage['completion_tokens'])} out"
        parts.append(f"{tokens} tokens")
    if cost := headers.get("duck-cost-usd"):
        parts.append(money(cost))
    attempts = headers.get("duck-attempts", "1")
    if headers.get("duck-cache") == "hit":
        parts.append("from the cache")
    elif attempts != "1":
        parts.append(f"{attempts} attempts")
    session.out.note(" · ".join(part for part in parts if part))
