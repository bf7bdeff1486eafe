"""`duck batch`: many requests in a file, their results in another."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from duckservice.cli.exits import FAILED, INTERRUPTED, OK, TRY_AGAIN, USAGE, Exit
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session
from duckservice.cli.text import count, elapsed, money

if TYPE_CHECKING:
    from duckservice.cli.batch_input import Input
    from duckservice.cli.batch_output import OrderedOutput, ResultOutput
    from duckservice.cli.batch_state import BatchState

_WINDOW = "7d"
_MAX_COST = "Duck-Max-Cost-Usd"
_REFUSED = frozenset({"invalid_request", "request_too_large"})
"""What the daemon says to an order that it will never take."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with batches."""
    from duckservice.cli.parser import common

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, help_: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(
            name, help=help_, description=help_, allow_abbrev=False
        )
        common(sub, argparse.SUPPRESS, argparse.SUPPRESS)
        return sub

    run_ = add("run", "run a file of requests, and write the results")
    _order(run_)
    run_.add_argument("-o", "--output", required=True, metavar="OUT", type=Path)
    run_.add_argument(
        "--ordered", action="store_true", help="results in the order of the lines"
    )
    run_.add_argument(
        "--resume",
        action="store_true",
        help="go on with what was begun for OUT; begin it, if nothing was",
    )
    _order(add("submit", "hand in a file of requests, and print the batch's id"))
    status = add("status", "how a batch is; without an id, the latest batches")
    status.add_argument("batch", nargs="?", metavar="ID")
    results = add("results", "the results that are there; with -o, all, in a file")
    results.add_argument("batch", metavar="ID")
    results.add_argument("-o", "--output", metavar="OUT", type=Path)
    add("cancel", "give up what has no result yet").add_argument("batch", metavar="ID")


def _order(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="one request a line")
    parser.add_argument("-m", "--model", help="for lines that name none")
    parser.add_argument(
        "--max-cost",
        metavar="USD",
        type=_usd,
        help="for all lines together; those that might exceed it are not run",
    )
    parser.add_argument(
        "--max-tokens",
        metavar="N",
        type=_tokens,
        help="for chats that set no limit; --max-cost needs one",
    )
    parser.add_argument("-p", "--priority", choices=("high", "normal", "low"))
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave bad lines out, and say which"
    )
    parser.add_argument(
        "--window",
        type=_window,
        metavar="TIME",
        help=f"lines that were not run by then expire, such as 24h (default: {_WINDOW})",
    )


def _usd(text: str) -> str:
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,12})?", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError("must be dollars, such as 2.50")
    return text


def _tokens(text: str) -> int:
    if re.fullmatch(r"[1-9][0-9]{0,8}", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError("must be a whole number from 1 on")
    return int(text)


def _window(text: str) -> str:
    if re.fullmatch(r"[1-9][0-9]{0,5}[mhd]", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError("must be such as 30m, 24h or 7d")
    return text


def run(session: Session) -> int:
    """Do what is asked for."""
    actions = {
        "run": _run,
        "submit": _submit,
        "status": _status,
        "results": _results,
        "cancel": _cancel,
    }
    return actions[session.options.action](session)


# Run.


def _run(session: Session) -> int:
    from duckservice.cli.batch_output import ResultOutput
    from duckservice.cli.batch_state import load_state, state_path

    options = session.options
    output: Path = options.output
    state_file = state_path(output)
    state = load_state(state_file)
    its = _input(session, state)
    _refuse_second(output, state, resume=options.resume)
    if state is not None and state.digest != its.digest:
        raise Exit(f"{its.path} has changed since the batch was begun", USAGE)
    if state is not None:
        _refuse_other(options, state)
    with ResultOutput.open(output) as behind:
        try:
            batch = _begun(session, its, state, state_file)
            ended, status = _follow(session, batch, behind, its.good)
        except KeyboardInterrupt:
            return _detach(session, state_file)
    if ended == "failed":
        # The daemon has refused it as a whole: corrected, it may come again.
        state_file.unlink()
    return status


def _input(session: Session, state: BatchState | None) -> Input:
    """Read the file and refuse what is bad in it, by the terms that count."""
    from duckservice.cli.batch_input import read_input, refuse_bad

    options = session.options
    max_tokens, max_cost = options.max_tokens, options.max_cost
    if state is not None:
        max_tokens, max_cost = state.max_tokens, state.headers.get(_MAX_COST)
    its = read_input(
        options.file,
        options.model,
        max_tokens=max_tokens,
        max_cost=max_cost is not None,
    )
    refuse_bad(its, session, skip=options.skip_bad)
    return its


def _refuse_second(output: Path, state: BatchState | None, *, resume: bool) -> None:
    """Protect what an earlier run has begun, and maybe paid for."""
    if resume:
        if state is None and output.exists() and output.stat().st_size:
            raise Exit(f"{output} exists, but nothing to resume beside it", USAGE)
    elif state is not None:
        msg = f"a batch was begun for {output}: --resume goes on with it"
        raise Exit(msg, USAGE)
    elif output.exists() and output.stat().st_size:
        raise Exit(f"{output} exists: choose another name, or remove it", USAGE)


def _refuse_other(options: argparse.Namespace, state: BatchState) -> None:
    """See to it that what is asked for now is what was begun."""
    headers = state.headers
    for name, asked, begun in (
        ("--model", options.model, state.order["model"]),
        ("--window", options.window, state.order["completion_window"]),
        ("--max-cost", options.max_cost, headers.get(_MAX_COST)),
        ("--max-tokens", options.max_tokens, state.max_tokens),
        ("--priority", options.priority, headers.get("Duck-Priority")),
    ):
        if asked not in {None, begun}:
            how = f"without {name}" if begun is None else f"with {name} {begun}"
            msg = f"the batch was begun {how}: --resume cannot change that"
            raise Exit(msg, USAGE)


def _begun(
    session: Session, its: Input, state: BatchState | None, state_file: Path
) -> str:
    """Return the batch's id, from wherever an earlier run has left off."""
    import attrs

    from duckservice.cli.batch_input import send_input
    from duckservice.cli.batch_state import save_state

    size = None if state is None or state.batch else _sent(session, state.file)
    if state is None or (size is None and not state.batch):
        state, size = _state(session, its), 0
        save_state(state_file, state)
    if state.batch is not None:
        return state.batch
    assert size is not None
    try:
        send_input(its, session, state.file, size)
        headers = {**state.headers, "Idempotency-Key": state.file}
        answer = session.request("POST", "/v1/batches", state.order, headers).json()
    except Exit as end:
        if getattr(end.__cause__, "code", None) in _REFUSED:
            # Nothing was begun: said otherwise, it may come again.
            state_file.unlink()
        raise
    batch = str(answer["id"])
    save_state(state_file, attrs.evolve(state, batch=batch))
    session.out.note(f"{batch}: {its.path}, {len(its.good):,} requests")
    return batch


def _state(session: Session, its: Input) -> BatchState:
    """Make a file at the daemon, and note what is to become of it."""
    from duckservice.cli.batch_state import BatchState

    options = session.options
    about = {"purpose": "batch", "filename": its.path.name}
    file = str(session.request("POST", "/v1/files", about).json()["id"])
    order = {
        "input_file_id": file,
        "endpoint": its.endpoint,
        "completion_window": options.window or _WINDOW,
        "model": options.model,
        "skip_bad": options.skip_bad,
    }
    headers = {
        "Duck-Priority": options.priority,
        _MAX_COST: options.max_cost,
    }
    given = {name: value for name, value in headers.items() if value is not None}
    return BatchState(
        digest=its.digest,
        file=file,
        order=order,
        headers=given,
        max_tokens=its.max_tokens,
    )


def _sent(session: Session, file: str) -> int | None:
    """Return how much of the input the daemon has; None: it knows nothing of it."""
    try:
        return int(session.get(f"/v1/files/{file}")["bytes"])
    except Exit as end:
        if end.status == FAILED:
            return None
        raise


def _follow(
    session: Session, batch: str, behind: ResultOutput, expected: Iterable[int]
) -> tuple[str, int]:
    """Write all results; return the batch's last status, and the exit code."""
    from duckservice.cli.batch_follow import Follower, conclude
    from duckservice.cli.batch_output import OrderedOutput
    from duckservice.cli.batch_progress import BatchProgress

    progress = BatchProgress(session.out)
    with ExitStack() as stack:
        stack.callback(progress.clear)
        sink: ResultOutput | OrderedOutput = behind
        if getattr(session.options, "ordered", False):
            sink = OrderedOutput(behind, expected, session.options.output)
            stack.callback(sink.close)
        follower = Follower(session, batch, sink, progress.show)
        try:
            ended = follower.to_the_end()
        except OSError as error:
            # What the daemon's socket raises has become `Exit`: this is the file.
            name, why = session.options.output, error.strerror or error
            again = "with --resume " if session.options.action == "run" else ""
            msg = f"{name}: {why}; the batch runs on: the same command {again}goes on"
            raise Exit(msg, FAILED) from error
    return ended["status"], conclude(session, ended, follower.failures)


def _detach(session: Session, state_file: Path) -> int:
    from duckservice.cli.batch_state import load_state

    state = load_state(state_file)
    begun = state is not None and state.batch is not None
    what = "detached: the batch runs on" if begun else "stopped before it was begun"
    session.out.note(f"duck: {what}; the same command with --resume goes on")
    if state is not None and state.batch is not None:
        session.out.note(f"duck: `duck batch cancel {state.batch}` gives it up")
    return INTERRUPTED


# The others.


def _submit(session: Session) -> int:
    from duckservice.cli.batch_input import send_input

    options = session.options
    its = _input(session, None)
    state = _state(session, its)
    send_input(its, session, state.file, 0)
    headers = {**state.headers, "Idempotency-Key": state.file}
    answer = session.request("POST", "/v1/batches", state.order, headers).json()
    if options.json:
        session.out.json(answer)
    else:
        session.out.data(str(answer["id"]))
    return OK


def _status(session: Session) -> int:
    batch: str | None = session.options.batch
    if batch is None:
        answer = session.get("/v1/batches?limit=20")
        batches = answer["data"]
    else:
        answer = session.get(f"/v1/batches/{quote(batch, safe='')}")
        batches = [answer]
    if session.options.json:
        session.out.json(answer)
        return OK
    numbers = ("TOTAL", "DONE", "FAILED", "COST")
    result = table("BATCH", "STATUS", *numbers, "AGE", numbers=numbers)
    for each in batches:
        result.add_row(*_row(each))
    session.out.show(result)
    if batch is not None:
        _errors(session, answer)
    return OK


def _row(batch: dict[str, Any]) -> list[Any]:
    counts = batch["request_counts"]
    return [
        cell(batch["id"]),
        cell(batch["status"]),
        count(counts["total"]),
        count(counts["completed"]),
        count(counts["failed"]),
        money(batch["duck"]["cost_usd"]),
        elapsed(max(0.0, time.time() - batch["created_at"])),
    ]


def _errors(session: Session, batch: dict[str, Any]) -> None:
    errors: dict[str, Any] = batch["errors"] or {"data": []}
    for error in errors["data"]:
        line = "" if error["line"] is None else f"line {error['line']}: "
        session.out.note(f"{line}{error['message']} ({error['code']})")


def _results(session: Session) -> int:
    from duckservice.cli.batch_follow import ENDED, Follower
    from duckservice.cli.batch_output import Printed, ResultOutput

    batch = quote(session.options.batch, safe="")
    output: Path | None = session.options.output
    if output is None:
        follower = Follower(session, batch, Printed(session.out), _nothing)
        its = follower.once()
        if its["status"] in ENDED:
            return OK
        session.out.note(f"{its['id']} is {its['status']}: there will be more")
        return TRY_AGAIN
    with ResultOutput.open(output) as behind:
        try:
            return _follow(session, batch, behind, ())[1]
        except KeyboardInterrupt:
            session.out.note("duck: the same command goes on where this has stopped")
            return INTERRUPTED


def _nothing(batch: dict[str, Any]) -> None:
    del batch


def _cancel(session: Session) -> int:
    batch = quote(session.options.batch, safe="")
    answer = session.post(f"/v1/batches/{batch}/cancel")
    if session.options.json:
        session.out.json(answer)
    else:
        session.out.note(f"{answer['id']} is {answer['status']}")
    return OK
