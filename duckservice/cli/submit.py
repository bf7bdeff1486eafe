"""`duck submit`: hand a job in; it is done whatever becomes of this command."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from duckservice.cli import chat_request
from duckservice.cli.exits import INTERRUPTED, OK, TRY_AGAIN, USAGE, Exit
from duckservice.cli.job_calls import (
    FINAL,
    Job,
    Patience,
    status_for,
    target,
    wait_for,
    why_failed,
)
from duckservice.cli.reply import print_result
from duckservice.cli.session import Session

_STDIN = "-"
_SUBMIT_TIMEOUT = 60.0
_LENGTH = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the prompt, or the file, and what may be said about the job."""
    add = parser.add_argument
    add(
        "prompt",
        nargs="*",
        help='the prompt; "-" stands for what comes on stdin. Stdin alone may also be'
        " JSON, as in a file",
    )
    add(
        "-f",
        "--file",
        metavar="FILE",
        help='JSON: a body of POST /v1/jobs, or of an OpenAI request; "-" is stdin',
    )
    chat_request.arguments(parser)
    add("-t", "--tag", action="append", default=[], metavar="KEY=VALUE")
    add("--deadline", metavar="WHEN", help="30s, 2h, or an RFC 3339 time")
    add("--not-before", metavar="WHEN", help="as --deadline")
    add("--max-cost", metavar="USD", help="refuse to spend more on it")
    add("--hold", action="store_true", help="do not run it before `duck release`")
    add(
        "--on-interrupt",
        choices=("retry", "fail"),
        help="if the daemon dies while a provider answers: ask again, or give it up",
    )
    add("--idempotency-key", metavar="KEY", help="the same key never makes two jobs")
    add("--wait", action="store_true", help="wait for it, and print its result")
    add("--timeout", type=seconds, metavar="TIME", help="wait no longer than that")


def seconds(text: str) -> float:
    """Return a length of time, such as 90, 30s or 2h, in seconds."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("must be a length of time, such as 30s or 2h")
    return float(match[1]) * _UNITS[match[2]]


def run(session: Session) -> int:
    """Submit the job and print its id; with --wait, wait, and print its result."""
    options = session.options
    if options.timeout is not None and not options.wait:
        raise Exit("--timeout limits --wait: without it, nothing waits", USAGE)
    body = _submission(session)
    key = options.idempotency_key
    answer = session.request(
        "POST",
        "/v1/jobs",
        body,
        {"Idempotency-Key": key} if key else None,
        _SUBMIT_TIMEOUT,
    )
    job: Job = answer.json()
    if options.wait:
        return _wait(session, job)
    if options.json:
        session.out.json(job)
    else:
        session.out.data(job["id"])
    return OK


def _wait(session: Session, job: Job) -> int:
    timeout = session.options.timeout
    deadline = None if timeout is None else time.monotonic() + timeout
    patience = Patience(session)
    patience.rewarded()
    try:
        job = wait_for(session, job["id"], deadline, patience)
        return _print(session, job)
    except KeyboardInterrupt:
        id_ = job["id"]
        session.out.note(f"the job goes on: duck wait {id_}, then duck result {id_}")
        return INTERRUPTED


def _print(session: Session, job: Job) -> int:
    if session.options.json:
        session.out.json(job)
    elif job["state"] == "completed":
        print_result(session.out, session.get(target(job["id"], "/result")))
    if job["state"] not in FINAL:
        raise Exit(f"job {job['id']} is {job['state']} still; it goes on", TRY_AGAIN)
    if job["state"] != "completed":
        session.out.note(f"duck: {why_failed(job)}")
    return status_for(job)


# What is submitted.


def _submission(session: Session) -> dict[str, Any]:
    options = session.options
    wishes = _wishes(options)
    given = _given(session)
    if isinstance(given, str):
        # The result is the same; and `duck follow` has something to follow.
        body = chat_request.chat(options, given) | {"stream": True}
        given = {"request": body}
    elif options.system or options.max_tokens:
        msg = "--system and --max-tokens belong to a prompt; the JSON has its own"
        raise Exit(msg, USAGE)
    request = given.get("request")
    if isinstance(request, dict):
        its = cast("dict[str, Any]", request)
        if options.model:
            its["model"] = options.model
        elif "model" not in its:
            its["model"] = chat_request.first_model(session)
    return given | wishes


def _given(session: Session) -> str | dict[str, Any]:
    """Return the prompt, or the submission that stands in a file or on stdin."""
    options = session.options
    words: list[str] = options.prompt
    if options.file is not None:
        if words:
            raise Exit("either a prompt or --file, not both", USAGE)
        return _parsed(_read(options.file), options.file)
    said = " ".join(word for word in words if word != _STDIN)
    alone = not said
    wants_stdin = _STDIN in words or (not words and not _asks_a_person())
    piped = _read(_STDIN) if wants_stdin else ""
    if alone and _looks_like_a_submission(piped):
        return _parsed(piped, "stdin")
    prompt = "\n\n".join(part for part in (said, piped) if part.strip())
    if not prompt:
        raise Exit('submit what? `duck submit "a question"`, or --file', USAGE)
    return prompt


def _looks_like_a_submission(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return bool({"request", "messages"} & value.keys())


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Exit(f"{name}: not JSON ({error})", USAGE) from error
    if not isinstance(value, dict):
        raise Exit(f"{name}: must be a JSON object", USAGE)
    fields = cast("dict[str, Any]", value)
    if "request" in fields:
        return fields
    kind = "embedding" if "input" in fields else "chat"
    return {"kind": kind, "request": fields}


def _wishes(options: argparse.Namespace) -> dict[str, Any]:
    wishes: dict[str, Any] = {
        "priority": options.priority,
        "tags": _tags(options.tag),
        "deadline": _when(options.deadline),
        "not_before": _when(options.not_before),
        "max_cost_usd": options.max_cost,
        "on_interrupt": options.on_interrupt,
        "hold": options.hold,
    }
    return {name: value for name, value in wishes.items() if value}


def _when(text: str | None) -> str | None:
    """Return a length of time as seconds; any other time is for the daemon to read."""
    if text is None:
        return None
    return f"{seconds(text):.3f}" if _LENGTH.fullmatch(text) else text


def _tags(pairs: list[str]) -> Mapping[str, str]:
    tags: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise Exit(f"--tag {pair}: must read KEY=VALUE", USAGE)
        tags[key] = value
    return tags


def _asks_a_person() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _read(name: str) -> str:
    try:
        if name != _STDIN:
            return Path(name).read_text("utf-8")
        return "" if sys.stdin is None else sys.stdin.read()
    except UnicodeDecodeError as error:
        raise Exit(f"{name}: not UTF-8 text", USAGE) from error
    except OSError as error:
        raise Exit(f"{name}: {error.strerror or error}", USAGE) from error
