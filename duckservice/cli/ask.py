"""`duck ask`: one question, its answer streamed to stdout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from duckservice.cli.exits import FAILED, OK, USAGE, Exit, status_of
from duckservice.cli.session import Session
from duckservice.cli.text import count, money
from duckservice.terminal import ReplyFilter

_TARGET = "/v1/chat/completions"
_STDIN = "-"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the prompt and what may be said about it."""
    parser.add_argument(
        "prompt",
        nargs="*",
        help='the prompt; "-" stands for what comes on stdin, which follows the rest',
    )
    parser.add_argument("-m", "--model", help="default: the first of `duck models`")
    parser.add_argument("-s", "--system", metavar="TEXT", help="the system prompt")
    parser.add_argument("-p", "--priority", choices=("high", "normal", "low"))
    parser.add_argument("--max-tokens", type=_positive, metavar="N")
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
    body = _body(options, prompt, options.model or _first_model(session))
    headers = {"Duck-Priority": options.priority} if options.priority else {}
    if options.json or options.no_stream:
        return _whole(session, body, headers)
    return _streamed(session, body, headers)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError("must be a whole number from 1 on")
    return int(text)


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


def _first_model(session: Session) -> str:
    models = session.get("/v1/models")["data"]
    if not models:
        raise Exit("no provider names a model; say which with --model", USAGE)
    return str(models[0]["id"])


def _body(options: argparse.Namespace, prompt: str, model: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    if options.system:
        messages.insert(0, {"role": "system", "content": options.system})
    body: dict[str, Any] = {"model": model, "messages": messages}
    if options.max_tokens is not None:
        body["max_tokens"] = options.max_tokens
    return body


def _whole(session: Session, body: dict[str, Any], headers: Mapping[str, str]) -> int:
    answer = session.request("POST", _TARGET, body, headers)
    reply = answer.json()
    if session.options.json:
        session.out.json(reply)
        return OK
    printer = _Printer(session)
    printer.feed(_text_of(reply["choices"][0]["message"]))
    printer.finish()
    _account(session, reply.get("usage"), answer.headers)
    return OK


def _streamed(
    session: Session, body: dict[str, Any], headers: Mapping[str, str]
) -> int:
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    head: dict[str, str] = {}
    printer = _Printer(session)
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
            printer.feed(_text_of(choice["delta"]))
    printer.finish()
    raise Exit("the reply broke off", FAILED)


def _text_of(message: Mapping[str, Any]) -> str:
    return f"{message.get('content') or ''}{message.get('refusal') or ''}"


class _Printer:
    """Writes a reply as it comes: filtered on a terminal, as it is into a pipe."""

    def __init__(self, session: Session) -> None:
        self._stdout = session.out.stdout
        self._filter = ReplyFilter() if session.out.on_terminal else None
        self._last = ""

    def feed(self, text: str) -> None:
        """Write *text* at once."""
        self._write(self._filter.feed(text) if self._filter else text)

    def finish(self) -> None:
        """Write what was held back, and end the last line."""
        if self._filter:
            self._write(self._filter.finish())
        if not self._last.endswith("\n"):
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            self._stdout.write(text)
            self._stdout.flush()
            self._last = text


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
    if attempts != "1":
        parts.append(f"{attempts} attempts")
    session.out.note(" · ".join(part for part in parts if part))
