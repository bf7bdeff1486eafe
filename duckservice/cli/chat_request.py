"""A chat request from what stands on the command line; for `ask` and `submit`."""

from __future__ import annotations

import argparse
from typing import Any

from duckservice.cli.exits import USAGE, Exit
from duckservice.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what may be said about the request."""
    add = parser.add_argument
    add("-m", "--model", help="default: the first of `duck models`")
    add("-s", "--system", metavar="TEXT", help="the system prompt")
    add("-p", "--priority", choices=("high", "normal", "low"))
    add("--max-tokens", type=_positive, metavar="N")


def chat(options: argparse.Namespace, prompt: str) -> dict[str, Any]:
    """Return the body in OpenAI's form, without a model.

    Raises:
        Exit: the words are not UTF-8.
    """
    try:
        f"{prompt}{options.system or ''}".encode()
    except UnicodeEncodeError as error:
        # Arguments, and stdin in the C locale, bring such bytes as lone surrogates.
        raise Exit("the prompt is not UTF-8 text", USAGE) from error
    messages = [{"role": "user", "content": prompt}]
    if options.system:
        messages.insert(0, {"role": "system", "content": options.system})
    body: dict[str, Any] = {"messages": messages}
    if options.max_tokens is not None:
        body["max_tokens"] = options.max_tokens
    return body


def first_model(session: Session) -> str:
    """Return the model for who names none: the first that is served."""
    models = session.get("/v1/models")["data"]
    if not models:
        raise Exit("no provider names a model; say which with --model", USAGE)
    return str(models[0]["id"])


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError("must be a whole number from 1 on")
    return int(text)
